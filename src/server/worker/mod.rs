//! Effects until they are done: claims due tasks under a lease, runs them side by side, and saves what
//! became of each. Never changes an order itself; everything a worker does may happen twice.

mod webhook;

use core::time::Duration;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::checkout::{Checkout, CheckoutError};
use super::store::{Task, TaskKind, TaskOutcome};
use crate::domain::id::{OutRefundNo, TradeId, UnixMillis};
use crate::domain::order::{AttemptState, CloseCause, OrderId, State};
use crate::runtime::crash::{self, Point};

/// How long a claimed task is its worker's: more than twice the longest call it makes.
const LEASE_MS: i64 = 60_000;
/// Webhooks sent at the same time. Places of their own: malls that hang must not keep the gateways from
/// being asked, nor orders from ending.
const WEBHOOKS: usize = 64;
/// Other tasks run at the same time.
const OTHERS: usize = 64;
/// Business time may be moved ahead, so due times are looked at this often even when nothing is signalled.
const TICK: Duration = Duration::from_millis(500);
/// How long after an attempt is opened its gateway is asked by itself, and then again and again, in ms.
const QUERY_AFTER_MS: [i64; 6] = [15_000, 30_000, 60_000, 120_000, 300_000, 600_000];
/// How long after a refund was asked for, or asked about, it is asked about again, in ms.
const REFUND_AFTER_MS: [i64; 7] = [2_000, 5_000, 15_000, 60_000, 300_000, 1_800_000, 3_600_000];
/// How long after a close that did not work it is tried again, in ms.
const CLOSE_AFTER_MS: [i64; 5] = [2_000, 10_000, 30_000, 60_000, 300_000];

/// Runs tasks until `shutdown`, then lets those under way finish.
pub async fn run(checkout: Checkout, shutdown: impl Future<Output = ()>) {
    let (webhooks, others) = (Arc::new(Semaphore::new(WEBHOOKS)), Arc::new(Semaphore::new(OTHERS)));
    let running = TaskTracker::new();
    tokio::pin!(shutdown);
    loop {
        let claimed = claim(&checkout, webhooks.available_permits(), others.available_permits()).await;
        let tasks = claimed.unwrap_or_else(|error| {
            tracing::error!(%error, "tasks could not be claimed");
            Vec::new()
        });
        let more = !tasks.is_empty();
        for task in tasks {
            let places = if task.kind == TaskKind::Webhook { &webhooks } else { &others };
            let Ok(permit) = places.clone().acquire_owned().await else { break };
            let checkout = checkout.clone();
            running.spawn(async move {
                perform(&checkout, task).await;
                drop(permit);
                checkout.work().notify_one();
            });
        }
        tokio::select! {
            () = &mut shutdown => break,
            () = checkout.work().notified(), if !more => {}
            () = tokio::time::sleep(TICK), if !more => {}
            () = core::future::ready(()), if more => {}
        }
    }
    running.close();
    running.wait().await;
}

async fn claim(
    checkout: &Checkout,
    webhooks: usize,
    others: usize,
) -> Result<Vec<Task>, super::store::StoreError> {
    if webhooks == 0 && others == 0 {
        return Ok(Vec::new());
    }
    let limit = |places| u32::try_from(places).unwrap_or(u32::MAX);
    checkout.store().claim_tasks(checkout.now(), LEASE_MS, limit(webhooks), limit(others)).await
}

/// Does one claimed task and saves what became of it.
pub async fn perform(checkout: &Checkout, task: Task) {
    let outcome = match task.kind {
        TaskKind::Webhook => webhook::send(checkout, &task).await,
        TaskKind::Query => query(checkout, &task).await,
        TaskKind::Close => close(checkout, &task).await,
        TaskKind::Expire => expire(checkout, &task).await,
        TaskKind::Refund => refund(checkout, &task).await,
    };
    let (id, kind) = (task.id, task.kind);
    if let Err(error) = checkout.store().finish_task(task, outcome, checkout.now()).await {
        // The lease runs out and the task is done again.
        tracing::error!(%error, task = id, %kind, "what became of a task was not saved");
    }
    if kind == TaskKind::Webhook {
        crash::point(Point::DeliverSaved);
    }
}

async fn query(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let Ok(trade) = task.subject.parse::<TradeId>() else {
        return TaskOutcome::Done(Some("not a trade".to_owned()));
    };
    let again = |note| TaskOutcome::Again(later(checkout.now(), &QUERY_AFTER_MS, task.tries), note);
    match checkout.query(task.order, trade.clone()).await {
        Ok(order) => match order.attempt(&trade).map(|attempt| &attempt.state) {
            Some(AttemptState::Opening | AttemptState::Ready(_)) => again(None),
            Some(AttemptState::Refused { .. } | AttemptState::Closed | AttemptState::Paid) | None => {
                TaskOutcome::Done(None)
            }
        },
        Err(error) => again(Some(error.to_string())),
    }
}

async fn close(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let Ok(trade) = task.subject.parse::<TradeId>() else {
        return TaskOutcome::Done(Some("not a trade".to_owned()));
    };
    let again = |note| TaskOutcome::Again(later(checkout.now(), &CLOSE_AFTER_MS, task.tries), note);
    match checkout.close_attempt(task.order, &trade).await {
        Ok(true) => TaskOutcome::Done(None),
        Ok(false) => again(None),
        Err(error) => again(Some(error.to_string())),
    }
}

async fn refund(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let Ok(number) = OutRefundNo::new(task.subject.as_str()) else {
        return TaskOutcome::Done(Some("not a refund".to_owned()));
    };
    let again = |note| TaskOutcome::Again(later(checkout.now(), &REFUND_AFTER_MS, task.tries), note);
    match checkout.work_refund(task.order, &number).await {
        Ok(true) => TaskOutcome::Done(None),
        Ok(false) => again(None),
        Err(error) => again(Some(error.to_string())),
    }
}

async fn expire(checkout: &Checkout, task: &Task) -> TaskOutcome {
    crash::point(Point::ExpireClaimed);
    let closed = checkout.close(task.order, CloseCause::Expired).await;
    crash::point(Point::ExpireSaved);
    match closed {
        Ok(order) => match order.state {
            State::Pending => TaskOutcome::Again(checkout.now().plus(1_000), None),
            State::Closing { .. } | State::Paid { .. } | State::Closed { .. } => TaskOutcome::Done(None),
        },
        Err(CheckoutError::AlreadyPaid) => TaskOutcome::Done(Some("paid".to_owned())),
        Err(error) => not_expired(checkout, task.order, error).await,
    }
}

/// The clock may stand a little before the order's end; then the task is due again at that end.
async fn not_expired(checkout: &Checkout, id: OrderId, error: CheckoutError) -> TaskOutcome {
    let soon = checkout.now().plus(1_000);
    let end = checkout.reread(id).await.ok().and_then(|order| order.terms.expires_at);
    TaskOutcome::Again(end.map_or(soon, |end| end.max(soon)), Some(error.to_string()))
}

/// The time after `now` that a schedule gives for the `tries`-th try; its last step repeats.
fn later(now: UnixMillis, schedule_ms: &[i64], tries: u32) -> UnixMillis {
    let step = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = schedule_ms.get(step).or(schedule_ms.last()).copied().unwrap_or(60_000);
    now.plus(wait)
}
