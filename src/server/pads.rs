//! Who follows which pad: its page learns at once that something else is to be shown; and what tablets told
//! by asking, until it is written down. Never the truth about an order: a page that hears of a change asks
//! the store what it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::id::{PadId, UnixMillis};
use crate::domain::pad::Pad;

/// Streams of one pad at the same time; a further one ends the oldest, which may be a tablet's whose network
/// has gone.
const STREAMS_MAX: u64 = 8;

/// The followers in this process.
#[derive(Default)]
pub struct Pads {
    pads: Mutex<HashMap<PadId, Arc<watch::Sender<Signal>>>>,
    notes: Mutex<HashMap<PadId, Note>>,
}

/// That a pad is there is written down so often, in ms.
const SEEN_EACH_MS: i64 = 30_000;

/// What a tablet told by asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Note {
    seen: UnixMillis,
    /// In which version it began to show the end of its order, and when.
    result: Option<(i64, UnixMillis)>,
    /// What of it is written down.
    kept_seen: UnixMillis,
    kept_result: Option<i64>,
}

/// A line of what is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unkept {
    /// Which pad.
    pub pad: PadId,
    /// When it was heard of.
    pub at: UnixMillis,
    /// In this version it began to show the end of its order then.
    pub result: Option<i64>,
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

    /// The pad was heard of; with `result`, it shows the end of its order.
    pub fn note(&self, pad: &Pad, result: bool, now: UnixMillis) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let note = notes.entry(pad.id.clone()).or_insert_with(|| {
            let kept_seen = pad.seen_at.unwrap_or_default();
            Note { kept_seen, ..Note::default() }
        });
        note.seen = note.seen.max(now);
        let known = note.result.is_some_and(|(version, _)| version >= pad.version);
        if result && pad.result_at.is_none() && !known {
            note.result = Some((pad.version, now));
        }
    }

    /// The pad with what is noted of it.
    pub fn noted(&self, pad: Pad) -> Pad {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(note) = notes.get(&pad.id) else { return pad };
        let shown = note.result.filter(|(version, _)| *version == pad.version).map(|(_, at)| at);
        Pad { seen_at: pad.seen_at.max(Some(note.seen)), result_at: pad.result_at.or(shown), ..pad }
    }

    /// What is to be written down now: each end at once, that a pad is there now and then.
    pub fn unkept(&self) -> Vec<Unkept> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(pad, note): (&PadId, &Note)| {
            let result = note.result.filter(|(version, _)| note.kept_result != Some(*version));
            match result {
                Some((version, at)) => Some(Unkept { pad: pad.clone(), at, result: Some(version) }),
                None if note.seen.since(note.kept_seen) >= SEEN_EACH_MS => {
                    Some(Unkept { pad: pad.clone(), at: note.seen, result: None })
                }
                None => None,
            }
        };
        notes.iter().filter_map(line).collect()
    }

    /// It is written down.
    pub fn kept(&self, line: &Unkept) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get_mut(&line.pad) {
            note.kept_seen = note.kept_seen.max(line.at);
            note.kept_result = line.result.or(note.kept_result);
        }
    }

    /// The pad was removed.
    pub fn forget(&self, pad: &PadId) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).remove(pad);
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
