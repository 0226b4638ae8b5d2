//! One call for many askers: whoever asks for what is already under way gets the same answer. Work runs
//! in a task of its own, so that an asker who hangs up cancels nothing.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

/// Work under way, by key.
pub struct Flights<K, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, Shared<BoxFuture<'static, V>>>>>,
}

impl<K, V> Default for Flights<K, V>
where
    V: Clone,
{
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer of the work under way for `key`, or of `work`, started now. `lost` is the answer if the
    /// work panics.
    pub fn join<F>(&self, key: K, lost: V, work: F) -> Shared<BoxFuture<'static, V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(&key) {
            return flight.clone();
        }
        // Not held: a flight that never lands, because the runtime ends, must not keep itself alive.
        let (all, own_key) = (Arc::downgrade(&self.under_way), key.clone());
        let task = tokio::spawn(work);
        let landed = async move {
            let value = task.await.unwrap_or(lost);
            if let Some(all) = all.upgrade() {
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&own_key);
            }
            value
        };
        let flight = landed.boxed().shared();
        under_way.insert(key, flight.clone());
        // Driven even if every asker hangs up, so that the key is freed.
        tokio::spawn(flight.clone());
        flight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_askers_one_call() {
        let flights: Flights<u8, u32> = Flights::default();
        let calls = Arc::new(AtomicU32::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let ask = || {
            let (calls, gate) = (calls.clone(), gate.clone());
            flights.join(1, 0, async move {
                gate.notified().await;
                calls.fetch_add(1, Ordering::SeqCst) + 1
            })
        };
        let askers: Vec<_> = (0..100).map(|_| ask()).collect();
        drop(ask());
        gate.notify_one();
        for asker in askers {
            assert_eq!(asker.await, 1);
        }
        gate.notify_one();
        assert_eq!(ask().await, 2, "afterwards the key is free again");
    }
}
