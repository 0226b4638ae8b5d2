//! Who follows which pad: its page learns at once that something else is to be shown. Never the truth
//! itself: a page that hears of a change asks the store what it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::id::PadId;

/// Streams of one pad at the same time; a further one ends the oldest, which may be a tablet's whose network
/// has gone.
const STREAMS_MAX: u64 = 8;

/// The followers in this process.
#[derive(Default)]
pub struct Pads {
    pads: Mutex<HashMap<PadId, Arc<watch::Sender<Signal>>>>,
}

/// What a pad's followers are told.
#[derive(Default)]
struct Signal {
    streams: u64,
}

/// One stream of a pad.
pub struct Follower {
    signal: watch::Receiver<Signal>,
    number: u64,
}

impl Pads {
    /// Follows a pad from now on.
    pub fn follow(&self, pad: &PadId) -> Follower {
        let mut pads = self.pads.lock().unwrap_or_else(PoisonError::into_inner);
        pads.retain(|known, followed| known == pad || followed.receiver_count() > 0);
        let followed = pads.entry(pad.clone()).or_default();
        let signal = followed.subscribe();
        let mut number = 0;
        // Wakes the others: the oldest may be one too many.
        followed.send_modify(|signal| {
            signal.streams += 1;
            number = signal.streams;
        });
        Follower { signal, number }
    }

    /// Tells a pad's followers that it changed.
    pub fn changed(&self, pad: &PadId) {
        let pads = self.pads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = pads.get(pad) {
            followed.send_modify(|_| {});
        }
    }
}

impl Follower {
    /// Waits for the next change. `false`: newer streams have taken this one's place.
    pub async fn changed(&mut self) -> bool {
        // The sender is forgotten only while nobody follows.
        let known = self.signal.changed().await.is_ok();
        known && self.signal.borrow_and_update().streams < self.number + STREAMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn followers_hear_of_their_pad_and_the_oldest_makes_room() {
        let pad = |letter: &str| PadId::new(letter.repeat(22)).unwrap();
        let pads = Pads::default();
        let mut first = pads.follow(&pad("a"));
        assert!(first.changed().await, "its own beginning");
        pads.changed(&pad("b"));
        assert_eq!(first.changed().now_or_never(), None);
        pads.changed(&pad("a"));
        assert_eq!(first.changed().now_or_never(), Some(true));
        let mut others: Vec<_> = (1..STREAMS_MAX).map(|_| pads.follow(&pad("a"))).collect();
        assert_eq!(first.changed().now_or_never(), Some(true));
        others.push(pads.follow(&pad("a")));
        assert_eq!(first.changed().now_or_never(), Some(false));
        assert_eq!(others[0].changed().now_or_never(), Some(true));
    }
}
