//! Effects until they are done: claims due tasks under a lease, runs them side by side, and saves what
//! became of each. Never changes an order itself; everything a worker does may happen twice.

mod places;
mod watch;
mod webhook;

use core::time::Duration;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio_util::task::TaskTracker;

use self::places::Lanes;
use super::checkout::{Checkout, CheckoutError};
use super::pace::{Caller, Permit};
use super::store::{Find, Places, StoreError, Task, TaskKind, TaskOutcome, Then};
use crate::domain::id::{Channel, OutRefundNo, TradeId, UnixMillis};
use crate::domain::order::{Attempt, AttemptState, CloseCause, Order, OrderId, State};
use crate::runtime::crash::{self, Point};

/// How long a claimed task is its worker's: more than twice the longest call it makes.
const LEASE_MS: i64 = 60_000;
/// Business time may be moved ahead, so due times are looked at this often even when nothing is signalled.
const TICK: Duration = Duration::from_millis(500);
/// A clock that steps back by less changes nothing that matters.
const SET_BACK_MS: i64 = 5_000;
/// How long tasks under way may take when the service stops.
const DRAIN: Duration = Duration::from_secs(8);
/// A task that did not work so often needs a person: refunds and closes come to that within hours.
const STUCK_TRIES: u32 = 6;
/// How often an outcome is saved until that works, and how long after each other: within the lease.
const SAVES: u32 = 30;
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// How long after an attempt is opened its gateway is asked by itself, and then again and again, in ms.
const QUERY_AFTER_MS: [i64; 6] = [15_000, 30_000, 60_000, 120_000, 300_000, 600_000];
/// How long after a refund was asked for, or asked about, it is asked about again, in ms.
const REFUND_AFTER_MS: [i64; 7] = [2_000, 5_000, 15_000, 60_000, 300_000, 1_800_000, 3_600_000];
/// How long after a close that did not work it is tried again, in ms.
const CLOSE_AFTER_MS: [i64; 5] = [2_000, 10_000, 30_000, 60_000, 300_000];

/// Works until `shutdown`, then lets what is under way finish, for a while.
pub async fn run(checkout: Checkout, shutdown: impl Future<Output = ()>) {
    let stopped = shutdown.shared();
    tokio::join!(run_tasks(&checkout, stopped.clone()), watch::run(&checkout, stopped));
}

async fn run_tasks(checkout: &Checkout, stopped: Shared<impl Future<Output = ()>>) {
    let lanes = Arc::new(Lanes::default());
    let running = TaskTracker::new();
    let mut before = checkout.now();
    while stopped.peek().is_none() {
        before = unless_set_back(checkout, before).await;
        let tasks = claim(checkout, lanes.free(&checkout.merchants())).await.unwrap_or_else(|error| {
            tracing::error!(%error, "tasks could not be claimed");
            Vec::new()
        });
        let more = !tasks.is_empty();
        for task in tasks {
            let (checkout, place) = (checkout.clone(), lanes.take(&task));
            running.spawn(async move {
                let well = see_through(&checkout, task).await;
                place.leave(well);
                checkout.work().notify_one();
            });
        }
        tokio::select! {
            biased;
            () = stopped.clone() => {}
            () = core::future::ready(()), if more => {}
            () = checkout.work().notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    running.close();
    if tokio::time::timeout(DRAIN, running.wait()).await.is_err() {
        tracing::warn!(tasks = running.len(), "tasks are left for the next start");
    }
}

/// When the clock was set back, leases and queries of the time before would be waited for until it comes
/// again: they are freed, as at a start.
async fn unless_set_back(checkout: &Checkout, before: UnixMillis) -> UnixMillis {
    let now = checkout.now();
    if before.since(now) > SET_BACK_MS {
        tracing::error!(ms = before.since(now), "the clock was set back");
        if let Err(error) = checkout.store().resume(now).await {
            tracing::error!(%error, "leases from before the clock was set back are not freed");
            return before;
        }
    }
    now
}

/// Claims what is due, as many as there are `places`.
///
/// # Errors
/// [`StoreError`].
pub async fn claim(checkout: &Checkout, places: Places) -> Result<Vec<Task>, StoreError> {
    checkout.store().claim_tasks(checkout.now(), LEASE_MS, places).await
}

/// Places for everything at once: for who runs tasks one by one.
pub fn every_place(checkout: &Checkout) -> Places {
    Lanes::default().free(&checkout.merchants())
}

/// Does one claimed task and saves what became of it. The same task in the same world ends the same way.
pub async fn perform(checkout: &Checkout, task: Task) {
    let outcome = attempt(checkout, &task).await;
    let (id, kind) = (task.id, task.kind);
    if let Err(error) = checkout.store().finish_task(task, outcome, checkout.now()).await {
        // The lease runs out and the task is done again.
        tracing::error!(%error, task = id, %kind, "what became of a task was not saved");
    }
}

/// Like [`perform`], but while the lease lasts it does not let go of what it knows: a full disk or a locked
/// database may heal. Says whether the other side did its part.
async fn see_through(checkout: &Checkout, task: Task) -> bool {
    let outcome = attempt(checkout, &task).await;
    let well = match &outcome {
        TaskOutcome::Done(_) | TaskOutcome::Postponed(_) => true,
        TaskOutcome::Again(..) => false,
        TaskOutcome::Sent(sent) => matches!(sent.then, Then::Delivered { .. }),
    };
    for _ in 0..SAVES {
        match checkout.store().finish_task(task.clone(), outcome.clone(), checkout.now()).await {
            Ok(()) => {
                if task.kind == TaskKind::Webhook {
                    crash::point(Point::DeliverSaved);
                }
                return well;
            }
            Err(error) => {
                tracing::error!(%error, task = task.id, kind = %task.kind, "a task's outcome is not saved");
            }
        }
        tokio::time::sleep(SAVE_AGAIN).await;
    }
    false
}

async fn attempt(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let _permit = match may_call(checkout, task).await {
        Ok(permit) => permit,
        Err(later) => return TaskOutcome::Postponed(later),
    };
    let outcome = match task.kind {
        TaskKind::Webhook => webhook::send(checkout, task).await,
        TaskKind::Query => query(checkout, task).await,
        TaskKind::Close => close(checkout, task).await,
        TaskKind::Expire => expire(checkout, task).await,
        TaskKind::Refund => refund(checkout, task).await,
    };
    if let TaskOutcome::Again(_, Some(why)) = &outcome {
        let (kind, order, tries) = (task.kind, task.order.0, task.tries);
        if tries < STUCK_TRIES {
            tracing::warn!(%kind, order, subject = %task.subject, tries, %why, "a task did not work");
        } else {
            tracing::error!(%kind, order, subject = %task.subject, tries, %why, "a task does not work");
        }
    }
    outcome
}

/// The right to call the task's gateway now, or when to come again. Who calls none needs no right, nor does
/// a task that cannot be understood: it ends by itself.
async fn may_call(checkout: &Checkout, task: &Task) -> Result<Option<Permit>, UnixMillis> {
    let (channel, calls) = match task.kind {
        TaskKind::Webhook | TaskKind::Expire => return Ok(None),
        TaskKind::Query | TaskKind::Close => {
            let channel = task.subject.parse::<TradeId>().ok().map(|trade| trade.channel);
            // Query, close, query.
            (channel, if task.kind == TaskKind::Close { 3 } else { 1 })
        }
        TaskKind::Refund => (refund_channel(checkout, task).await, 2),
    };
    let member = checkout.member(&task.merchant).ok();
    let account = channel.and_then(|channel| Some((channel, member.as_ref()?.gateway(channel)?.account())));
    let Some((channel, account)) = account else { return Ok(None) };
    checkout.pace().take(channel, account, Caller::Background, calls, checkout.now()).map(Some)
}

async fn refund_channel(checkout: &Checkout, task: &Task) -> Option<Channel> {
    let number = OutRefundNo::new(task.subject.as_str()).ok()?;
    let order = checkout.find(Find::Id(task.order)).await.ok()??;
    Some(order.refund_by_no(&number)?.trade.channel)
}

/// Asks the gateways what is due to be asked about orders that somebody watches, one by one.
pub async fn ask_watched(checkout: &Checkout) {
    for question in checkout.questions() {
        watch::ask(checkout, question).await;
    }
}

async fn query(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let Ok(trade) = task.subject.parse::<TradeId>() else {
        return TaskOutcome::Done(Some("not a trade".to_owned()));
    };
    let again = |note| TaskOutcome::Again(later(checkout.now(), &QUERY_AFTER_MS, task.tries), note);
    let task_began = checkout.now();
    match checkout.query(task.order, trade.clone()).await {
        Ok(order) => match order.attempt(&trade).map(|attempt| &attempt.state) {
            Some(AttemptState::Opening | AttemptState::Ready(_)) => again(None),
            Some(AttemptState::Closed) => match next_look(&order, &trade, task_began) {
                Some(at) => TaskOutcome::Again(at, None),
                None => TaskOutcome::Done(None),
            },
            Some(AttemptState::Refused { .. } | AttemptState::Paid) | None => TaskOutcome::Done(None),
        },
        Err(error) => again(Some(error.to_string())),
    }
}

fn next_look(order: &Order, trade: &TradeId, now: UnixMillis) -> Option<UnixMillis> {
    order.attempt(trade).and_then(Attempt::looks)?.into_iter().find(|at| *at > now)
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
