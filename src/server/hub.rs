//! Who watches which order: pages learn of a change after its commit. Never the truth itself: a page
//! that asks is answered from the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::order::{AttemptState, Order, OrderId};

/// The watchers of this process.
#[derive(Default)]
pub struct Hub {
    orders: Mutex<HashMap<OrderId, watch::Sender<Arc<Order>>>>,
}

impl Hub {
    /// A receiver that holds `current` and every later state of the order.
    pub fn watch(&self, current: Arc<Order>) -> watch::Receiver<Arc<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|_, sender| sender.receiver_count() > 0);
        orders.entry(current.id).or_insert_with(|| watch::Sender::new(current)).subscribe()
    }

    /// Tells the watchers, unless they know something newer already.
    pub fn publish(&self, order: &Arc<Order>) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = orders.get(&order.id) {
            sender.send_if_modified(|known| {
                let newer = age(order) > age(known);
                if newer {
                    *known = order.clone();
                }
                newer
            });
        }
    }
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
