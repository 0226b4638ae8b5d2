//! Named places where a test lets the process die, as a power cut would: `shouyin torture` arms one in the
//! child it starts. Never armed by `serve`, and one relaxed load where it is not.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::id::word_enum;

word_enum!(
    /// Every step between two of which the process must be able to die.
    Point {
        /// A notice was read, nothing was believed yet.
        AcceptRead = "accept-read",
        /// Its signature was right.
        AcceptVerified = "accept-verified",
        /// Everything is written, nothing is committed.
        AcceptBeforeCommit = "accept-before-commit",
        /// It is committed.
        AcceptAfterCommit = "accept-after-commit",
        /// The gateway is about to be told.
        AcceptBeforeAnswer = "accept-before-answer",
        /// An attempt is committed, its gateway was not called.
        PushCommitted = "push-committed",
        /// The gateway gave a code, which nobody else knows.
        PushAnswered = "push-answered",
        /// The code is saved, the shopper has not seen it.
        PushSaved = "push-saved",
        /// Before a close the gateway said "unpaid".
        CloseQueried = "close-queried",
        /// The gateway closed, we have not written that down.
        CloseClosed = "close-closed",
        /// It also says so when asked once more.
        CloseQueriedAgain = "close-queried-again",
        /// A refund is committed, its gateway was not called.
        RefundAsked = "refund-asked",
        /// The gateway is about to be called.
        RefundCalled = "refund-called",
        /// The gateway took it, we have not written that down.
        RefundAnswered = "refund-answered",
        /// It is written down.
        RefundSaved = "refund-saved",
        /// A webhook is claimed.
        DeliverClaimed = "deliver-claimed",
        /// It is about to leave.
        DeliverBeforeSend = "deliver-before-send",
        /// The mall took it, we have not written that down.
        DeliverTaken = "deliver-taken",
        /// It is written down.
        DeliverSaved = "deliver-saved",
        /// An order's time is up, nothing was done.
        ExpireClaimed = "expire-claimed",
        /// It is closing.
        ExpireSaved = "expire-saved",
    }
);

static ARMED: AtomicBool = AtomicBool::new(false);
static TARGET: Mutex<Option<Point>> = Mutex::new(None);
static PASSES: AtomicU32 = AtomicU32::new(0);

/// The process dies when it comes to `point` for the `nth` time, counted from 1.
pub fn arm(point: Point, nth: u32) {
    *TARGET.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
    PASSES.store(nth, Ordering::SeqCst);
    ARMED.store(true, Ordering::SeqCst);
}

/// Here the process may die.
pub fn point(point: Point) {
    if ARMED.load(Ordering::Relaxed) {
        reached(point);
    }
}

#[cold]
fn reached(point: Point) {
    let wanted = *TARGET.lock().unwrap_or_else(PoisonError::into_inner) == Some(point);
    if wanted && PASSES.fetch_sub(1, Ordering::SeqCst) == 1 {
        tracing::error!(%point, "dies here, as told");
        std::process::abort();
    }
}
