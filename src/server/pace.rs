//! How fast the gateways are asked by ourselves: token buckets by gateway and account, for queries, closes
//! and refunds that no shopper waits for. Never holds a shopper's push back, and never waits: who may not
//! call now is told when to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::id::{Channel, UnixMillis};

/// One call more each so many ms: 50 a second.
const EACH_MS: i64 = 20;
/// Calls at once after a pause.
const BURST: i64 = 100;
/// Of these, so many are for orders that somebody watches; half of them while others queue, so that neither
/// takes everything.
const KEPT: i64 = 20;
/// Somebody queues who was sent away until then, or is just coming again.
const COMING_MS: i64 = 1_000;
/// How far apart those come again that were sent away: a little slower than the bucket fills, so that what
/// is watched goes on beside a long queue.
const QUEUE_MS: i64 = 25;
/// Calls of one account under way. A gateway that hangs holds no more, and none of another's.
const ACCOUNT_MAX: u32 = 16;
/// Calls to one gateway under way.
const CHANNEL_MAX: u32 = 32;
/// When calls under way fill all places, the next one looks again after this.
const FULL_MS: i64 = 1_000;
/// The first pause after a gateway said "too often", and the longest; it doubles in between.
const PAUSE_MS: (i64, i64) = (1_000, 60_000);

/// The buckets of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pace(Arc<Mutex<Buckets>>);

#[derive(Default)]
struct Buckets {
    accounts: HashMap<(Channel, String), Bucket>,
    under_way: HashMap<Channel, u32>,
}

#[derive(Default)]
struct Bucket {
    /// In ms of [`EACH_MS`] a call.
    credit: i64,
    filled_at: Option<UnixMillis>,
    under_way: u32,
    /// Until when nothing is asked, and how often in a row the gateway said "too often".
    paused_until: UnixMillis,
    strikes: u32,
    /// When the last of those that were sent away comes again.
    queue_end: UnixMillis,
}

/// The right to call, for as long as this lives.
pub struct Permit {
    pace: Pace,
    key: (Channel, String),
}

/// Who wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody looks at the order's page.
    Watched,
    /// Nobody does.
    Background,
}

impl Pace {
    /// May this account make so many calls now? If not: when to come again. The watched are not queued, they
    /// ask again.
    ///
    /// # Errors
    /// The time before which nothing is to be had.
    pub fn take(
        &self,
        channel: Channel,
        account: &str,
        caller: Caller,
        calls: u32,
        now: UnixMillis,
    ) -> Result<Permit, UnixMillis> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { accounts, under_way } = &mut *buckets;
        let key = (channel, account.to_owned());
        let to_channel = under_way.entry(channel).or_default();
        let bucket = accounts.entry(key.clone()).or_default();
        bucket.fill(now);
        let kept = match caller {
            Caller::Background => KEPT,
            Caller::Watched if now < bucket.queue_end.plus(COMING_MS) => KEPT / 2,
            Caller::Watched => 0,
        };
        let earliest = if now < bucket.paused_until {
            bucket.paused_until
        } else if bucket.under_way >= ACCOUNT_MAX || *to_channel >= CHANNEL_MAX {
            now.plus(FULL_MS)
        } else if bucket.credit < (i64::from(calls) + kept) * EACH_MS {
            now
        } else {
            bucket.credit -= i64::from(calls) * EACH_MS;
            bucket.under_way += 1;
            *to_channel += 1;
            return Ok(Permit { pace: self.clone(), key });
        };
        if caller == Caller::Watched {
            return Err(earliest);
        }
        bucket.queue_end = bucket.queue_end.max(earliest).plus(i64::from(calls) * QUEUE_MS);
        Err(bucket.queue_end)
    }

    /// The gateway answered a call of this account, a shopper's or ours: with "too often", or otherwise.
    pub fn heard(&self, channel: Channel, account: &str, too_often: bool, now: UnixMillis) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.accounts.entry((channel, account.to_owned())).or_default();
        if !too_often {
            bucket.strikes = 0;
            return;
        }
        // Calls that were under way together are one strike.
        if now < bucket.paused_until {
            return;
        }
        let (first, longest) = PAUSE_MS;
        let pause = first.saturating_mul(1_i64 << bucket.strikes.min(20)).min(longest);
        bucket.strikes = bucket.strikes.saturating_add(1);
        bucket.paused_until = now.plus(pause);
        tracing::warn!(%channel, account, pause_ms = pause, "the gateway is asked too often");
    }
}

impl Bucket {
    fn fill(&mut self, now: UnixMillis) {
        let full = BURST * EACH_MS;
        // The clock was set back: what was to wait waits no longer than it was to.
        if let Some(back) = self.filled_at.map(|at| at.since(now)).filter(|back| *back > 0) {
            self.paused_until = self.paused_until.plus(-back);
            self.queue_end = self.queue_end.plus(-back);
        }
        let grown = self.filled_at.map_or(full, |at| now.since(at).max(0));
        self.credit = self.credit.saturating_add(grown).min(full);
        self.filled_at = Some(now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut buckets = self.pace.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = buckets.under_way.get_mut(&self.key.0) {
            *under_way = under_way.saturating_sub(1);
        }
        if let Some(bucket) = buckets.accounts.get_mut(&self.key) {
            bucket.under_way = bucket.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    /// Takes and gives back at once.
    fn calls(pace: &Pace, caller: Caller, now: UnixMillis) -> usize {
        (0..1_000).take_while(|_| pace.take(Channel::Wx, "a", caller, 1, now).is_ok()).count()
    }

    #[test]
    fn a_burst_then_fifty_a_second_and_some_are_kept_for_the_watched() {
        let pace = Pace::default();
        assert_eq!(calls(&pace, Caller::Background, NOW), 80);
        assert_eq!(calls(&pace, Caller::Watched, NOW), 10, "while others queue");
        assert_eq!(calls(&pace, Caller::Background, NOW), 0);
        assert!(pace.take(Channel::Wx, "b", Caller::Background, 1, NOW).is_ok(), "another account");
        assert!(pace.take(Channel::Ali, "a", Caller::Background, 1, NOW).is_ok(), "another gateway");
        assert_eq!(calls(&pace, Caller::Watched, NOW.plus(1_000)), 50);
        assert_eq!(calls(&pace, Caller::Watched, NOW.plus(1_000_000)), 100, "never more than the burst");
    }

    /// 10,000 attempts due at once after a start: each is sent away once, and all are asked in order.
    #[test]
    fn a_clock_that_is_set_back_prolongs_no_pause_and_no_queue() {
        let pace = Pace::default();
        calls(&pace, Caller::Background, NOW);
        pace.heard(Channel::Wx, "a", true, NOW);
        let day_before = NOW.plus(-86_400_000);
        assert_eq!(calls(&pace, Caller::Watched, day_before), 0, "the pause is kept");
        let later = day_before.plus(PAUSE_MS.0 + COMING_MS);
        assert!(calls(&pace, Caller::Watched, later) > 0);
        let again = pace.take(Channel::Wx, "a", Caller::Background, 1, later).err().unwrap();
        assert!(again.since(later) < COMING_MS, "{again:?}");
    }

    #[test]
    fn a_long_queue_comes_again_one_by_one() {
        let pace = Pace::default();
        let mut due: std::collections::BinaryHeap<_> =
            (0..10_000).map(|n| core::cmp::Reverse((NOW, n))).collect();
        let (mut asked, mut sent_away, mut watched, mut end) = (0, 0, 0, NOW);
        while let Some(core::cmp::Reverse((now, n))) = due.pop() {
            end = now;
            if asked % 10 == 0 && pace.take(Channel::Wx, "a", Caller::Watched, 1, now).is_ok() {
                watched += 1;
            }
            match pace.take(Channel::Wx, "a", Caller::Background, 1, now) {
                Ok(_) => asked += 1,
                Err(again) => {
                    sent_away += 1;
                    due.push(core::cmp::Reverse((again, n)));
                }
            }
        }
        let seconds = end.since(NOW) / 1_000;
        println!(
            "10,000 due at once: asked within {seconds} s, {sent_away} times sent away, {watched} watched"
        );
        assert_eq!(asked, 10_000);
        assert!((200..300).contains(&seconds), "{seconds}");
        assert!(sent_away < 12_000, "{sent_away}");
    }

    /// More watched orders and more tasks than the bucket has for a minute.
    #[test]
    fn neither_the_watched_nor_the_others_take_everything() {
        let pace = Pace::default();
        let mut due: std::collections::BinaryHeap<_> =
            (0..10_000).map(|n| core::cmp::Reverse((NOW, n))).collect();
        let (mut asked, mut watched) = (0, 0);
        for tick in 1..=120 {
            let now = NOW.plus(tick * 500);
            while let Some(core::cmp::Reverse((at, n))) = due.peek().copied().filter(|next| next.0.0 < now) {
                due.pop();
                match pace.take(Channel::Wx, "a", Caller::Background, 1, at) {
                    Ok(_) => asked += 1,
                    Err(again) => due.push(core::cmp::Reverse((again, n))),
                }
            }
            watched += calls(&pace, Caller::Watched, now);
        }
        println!("in a minute of too much of both: {asked} of the others, {watched} of the watched");
        assert!(asked > 900 && watched > 900, "{asked} {watched}");
    }

    #[test]
    fn too_often_pauses_the_account_longer_each_time_and_a_hang_holds_no_more_than_its_share() {
        let pace = Pace::default();
        let mut now = NOW;
        for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            pace.heard(Channel::Wx, "a", true, now);
            pace.heard(Channel::Wx, "a", true, now);
            let again = pace.take(Channel::Wx, "a", Caller::Watched, 1, now).err();
            assert_eq!(again, Some(now.plus(pause)));
            now = now.plus(pause);
        }
        assert!(pace.take(Channel::Wx, "b", Caller::Background, 1, NOW).is_ok(), "another account goes on");
        assert!(pace.take(Channel::Wx, "a", Caller::Background, 1, now).is_ok());
        pace.heard(Channel::Wx, "a", false, now);
        pace.heard(Channel::Wx, "a", true, now);
        assert_eq!(pace.take(Channel::Wx, "a", Caller::Watched, 1, now).err(), Some(now.plus(1_000)));

        let pace = Pace::default();
        let hang = |account: &str| -> Vec<_> {
            let take = |_| pace.take(Channel::Wx, account, Caller::Background, 1, NOW).ok();
            (0..50).map_while(take).collect()
        };
        let (first, second, third) = (hang("a"), hang("b"), hang("c"));
        assert_eq!((first.len(), second.len(), third.len()), (16, 16, 0));
        assert!(pace.take(Channel::Ali, "c", Caller::Background, 1, NOW).is_ok());
        drop(first);
        assert_eq!(hang("c").len(), 16);
    }
}
