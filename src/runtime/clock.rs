//! The clock: the only file that reads the time. Never hands out anything but `UnixMillis`, and how long
//! something took.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::id::UnixMillis;

/// Business time: the system's, moved ahead by an offset that only the demo and tests ever change.
#[derive(Clone, Debug)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
    frozen_at: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's time plus `offset_ms` (0 in production).
    pub fn system(offset_ms: i64) -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(offset_ms)), frozen_at: None }
    }

    /// A clock for tests that stands at `at` until `advance` moves it.
    pub fn frozen(at: UnixMillis) -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(0)), frozen_at: Some(Arc::new(AtomicI64::new(at.0))) }
    }

    /// Business time.
    pub fn now(&self) -> UnixMillis {
        let base = self.frozen_at.as_ref().map_or_else(|| Self::real().0, |at| at.load(Ordering::SeqCst));
        UnixMillis(base).plus(self.offset_ms.load(Ordering::SeqCst))
    }

    /// The system's time without the offset: for stamps inside signatures.
    #[expect(clippy::disallowed_methods, reason = "the one legal reader of the system clock")]
    pub fn real() -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Moves business time ahead by `ms` for every holder of this clock; never back.
    pub fn advance(&self, ms: i64) {
        self.offset_ms.fetch_add(ms.max(0), Ordering::SeqCst);
    }

    /// How far business time is ahead of the system's, in ms.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }
}

/// How long something takes, whatever anybody does to a clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one legal reader of the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
