//! Processor time by thread, from Linux's `/proc`: on a machine that does other things as well it says more
//! than the clock on the wall. Elsewhere there is none.

use std::collections::BTreeMap;
use std::time::Duration;

/// What the kernel counts in, ten milliseconds on every Linux there is.
const TICK_MS: u64 = 10;

/// Processor time so far of this process's threads that live, by name.
pub fn by_thread() -> BTreeMap<String, Duration> {
    let mut threads: BTreeMap<String, Duration> = BTreeMap::new();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return threads };
    for task in tasks.flatten() {
        let Ok(text) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        if let Some((name, spent)) = read(&text) {
            *threads.entry(name).or_default() += spent;
        }
    }
    threads
}

/// `13 (sqlite-writer) S …`: the name may hold anything; user and system time are the 14th and 15th field.
fn read(stat: &str) -> Option<(String, Duration)> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((name, Duration::from_millis((user + system) * TICK_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "13 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(read(stat), Some(("a) b (c".to_owned(), Duration::from_secs(2))));
        assert!(by_thread().values().count() >= 1 || cfg!(not(target_os = "linux")));
    }
}
