//! When a mall is told again, and what of its backlog a sign of life frees. Never sends, saves or reads a
//! clock; what is waited for and what happened comes in as numbers.

/// Waits between the tries, in seconds: the first is made at once, the next 5 s, 30 s, 2 m, 10 m, 30 m,
/// 2 h, 5 h, 10 h, 14 h, 20 h and 24 h after the one before (reliability.md 1.1): about 76 h in all.
const WAITS_S: [i64; 11] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The wait after the last of them, again and again: an event is never dropped.
const DAILY_S: i64 = 86_400;
/// The tries of the schedule.
pub const TRIES: u32 = 12;
/// What the schedule takes at most, with every wait at its longest. An event that is older is overdue also
/// if it had fewer tries, because others stood before it.
const SCHEDULE_MS: i64 = 92 * 3_600_000;
/// An outage frees what waits up to so many times as long as it lasted. In an outage no wait is more than
/// six times as long as the outage so far, so everything that failed because of it is freed; an event that
/// a mall refuses while it takes others keeps its own rhythm.
const FREED: i64 = 24;

/// The wait after the `tries`-th try, in ms.
pub fn wait_ms(tries: u32) -> i64 {
    let step = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    WAITS_S.get(step).copied().unwrap_or(DAILY_S) * 1_000
}

/// Whether the schedule is used up: a person should look, and the tries come once a day.
pub const fn is_overdue(tries: u32, age_ms: i64) -> bool {
    tries >= TRIES || age_ms > SCHEDULE_MS
}

/// When a mall takes an event after an outage of `outage_ms`, every event with at most so many tries is due
/// at once.
pub fn freed_tries(outage_ms: i64) -> u32 {
    let reach = outage_ms.saturating_mul(FREED);
    if reach >= DAILY_S * 1_000 {
        return u32::MAX;
    }
    (2..TRIES).take_while(|tries| wait_ms(*tries) <= reach).last().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_ends_after_76_hours_and_goes_on_daily() {
        let waits: Vec<i64> = (1..TRIES).map(|tries| wait_ms(tries) / 1_000).collect();
        assert_eq!(waits, WAITS_S);
        assert_eq!(waits.iter().sum::<i64>(), 272_555, "75 h 42 min 35 s");
        assert_eq!((wait_ms(12), wait_ms(500)), (86_400_000, 86_400_000));
        assert!(!is_overdue(11, 0) && is_overdue(12, 0) && is_overdue(1, 93 * 3_600_000));
        const { assert!(SCHEDULE_MS > 272_555 * 1_200) };
    }

    /// Every try of an event whose mall is dead stands in an outage at least as long as its tries so far.
    #[test]
    fn an_outage_frees_everything_that_failed_in_it() {
        let mut outage = 0;
        for tries in 1..40 {
            assert!(freed_tries(outage) >= tries, "{tries} tries after {outage} ms");
            outage += wait_ms(tries) * 8 / 10;
        }
        // A mall that takes others every minute frees the first steps of what it refuses, and no more.
        assert_eq!((freed_tries(0), freed_tries(60_000), freed_tries(600_000)), (1, 4, 6));
        assert_eq!(freed_tries(3_600_000), u32::MAX);
    }
}
