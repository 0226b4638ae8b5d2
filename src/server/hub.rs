//! Who watches which order: pages learn of a change after its commit, and what is watched is asked about
//! sooner, once per order however many watch. Never the truth itself: a page that asks is answered from
//! the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::id::{TradeId, UnixMillis};
use crate::domain::order::{Attempt, AttemptState, Order, OrderId, State};

/// A page that polls or refreshes itself (each 3 to 7 s) counts as watching for so long.
const SEEN_MS: i64 = 15_000;
/// What was asked about is remembered so long after the last watcher, so that reopening a page asks nobody
/// more often.
const KEPT_MS: i64 = 60_000;

/// The watchers of this process.
#[derive(Default)]
pub struct Hub {
    orders: Mutex<HashMap<OrderId, Watched>>,
}

struct Watched {
    current: watch::Sender<Arc<Order>>,
    /// When a page was last seen.
    seen_at: UnixMillis,
    /// When its gateways were last asked.
    asked_at: Option<UnixMillis>,
    /// The attempt whose code somebody opened, by its gateway's word. A hint for the eye: not stored.
    scanned: Option<TradeId>,
}

impl Hub {
    /// A receiver that holds `current` and every later state of the order.
    pub fn watch(&self, current: Arc<Order>, now: UnixMillis) -> watch::Receiver<Arc<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        Watched::of(&mut orders, current, now).current.subscribe()
    }

    /// Somebody looks at the order without staying.
    pub fn seen(&self, current: &Arc<Order>, now: UnixMillis) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        Watched::of(&mut orders, current.clone(), now).learn(current);
    }

    /// Tells the watchers, unless they know something newer already.
    pub fn publish(&self, order: &Arc<Order>) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = orders.get(&order.id) {
            watched.learn(order);
        }
    }

    /// The gateways are being asked about this order.
    pub fn asked(&self, id: OrderId, now: UnixMillis) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = orders.get_mut(&id) {
            watched.asked_at = Some(now);
        }
    }

    /// Somebody opened an attempt's code in a wallet; the order's watchers are told.
    pub fn scanned(&self, id: OrderId, trade: &TradeId) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = orders.get_mut(&id)
            && watched.scanned.as_ref() != Some(trade)
        {
            watched.scanned = Some(trade.clone());
            // Nothing of the order itself has changed.
            watched.current.send_modify(|_| {});
        }
    }

    /// Whether somebody is known to have opened the newest code of its kind, and it is still good.
    pub fn is_scanned(&self, order: &Order) -> bool {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trade) = orders.get(&order.id).and_then(|watched| watched.scanned.as_ref()) else {
            return false;
        };
        let Some(attempt) = order.attempt(trade).filter(|attempt| is_shown(attempt)) else { return false };
        let newest = order.attempts.iter().rev().find(|other| other.scene == attempt.scene);
        newest == Some(attempt)
    }

    /// The watched orders whose gateways should be asked now, the longest due first. Forgets what nobody
    /// has watched for a while.
    pub fn due(&self, now: UnixMillis) -> Vec<Arc<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|_, watched| watched.is_watched(now, KEPT_MS));
        let mut due: Vec<(UnixMillis, Arc<Order>)> = orders
            .values()
            .filter(|watched| watched.is_watched(now, SEEN_MS))
            .filter_map(|watched| {
                let order = watched.current.borrow().clone();
                let at = next_question(&order, watched.asked_at, now)?;
                (at <= now).then_some((at, order))
            })
            .collect();
        due.sort_by_key(|(at, order)| (*at, order.id));
        due.into_iter().map(|(_, order)| order).collect()
    }
}

impl Watched {
    fn of(orders: &mut HashMap<OrderId, Self>, current: Arc<Order>, now: UnixMillis) -> &mut Self {
        let id = current.id;
        let new =
            || Self { current: watch::Sender::new(current), seen_at: now, asked_at: None, scanned: None };
        let watched = orders.entry(id).or_insert_with(new);
        watched.seen_at = now;
        watched
    }

    fn learn(&self, order: &Arc<Order>) {
        self.current.send_if_modified(|known| {
            let newer = age(order) > age(known);
            if newer {
                *known = order.clone();
            }
            newer
        });
    }

    fn is_watched(&self, now: UnixMillis, within_ms: i64) -> bool {
        self.current.receiver_count() > 0 || now.since(self.seen_at) <= within_ms
    }
}

/// When the gateways should next be asked about a watched order: 5 s after its code was shown, then each
/// 5 s for two minutes, each 10 s up to ten minutes, each 30 s from then on. `None`: nothing can be paid.
/// What was done after `now` was done before the clock was set back: it holds nothing up.
fn next_question(order: &Order, asked_at: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    if order.state != State::Pending {
        return None;
    }
    let shown =
        order.attempts.iter().filter(|attempt| is_shown(attempt)).map(|attempt| attempt.opened_at).max()?;
    let wait = match now.since(shown) {
        ..120_000 => 5_000,
        120_000..600_000 => 10_000,
        _ => 30_000,
    };
    let first = if shown > now { now } else { shown.plus(5_000) };
    let asked_at = asked_at.filter(|asked| *asked <= now);
    Some(asked_at.map_or(first, |asked| first.max(asked.plus(wait))))
}

/// Whether shoppers have its code.
pub const fn is_shown(attempt: &Attempt) -> bool {
    matches!(attempt.state, AttemptState::Ready(_))
}

/// Grows with every change: the version does not count attempts, so their progress is added.
fn age(order: &Order) -> (i64, usize, usize) {
    let progress = order.attempts.iter().map(|attempt| match attempt.state {
        AttemptState::Opening => 0,
        AttemptState::Ready(_) => 1,
        AttemptState::Refused { .. } | AttemptState::Closed | AttemptState::Paid => 2,
    });
    (order.version, order.attempts.len(), progress.sum())
}
