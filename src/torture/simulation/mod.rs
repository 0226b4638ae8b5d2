//! The core under seeded faults: the real state machine, checkout, workers and notices on a database in
//! memory, with scripted gateways, malls and clocks, single-threaded, so that a seed replays exactly
//! (reliability.md 1.3, row 26). `run` is one run, `moves` and `network` what happens in it, `gateways` and
//! `wire` the world outside, `oracle` what must hold. Never opens a connection, never reads the time within
//! a run.

mod bench;
mod dice;
mod gateways;
mod moves;
mod network;
mod oracle;
mod run;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::runtime::clock::Stopwatch;
use bench::Bench;
use oracle::Breach;
use run::{Played, Rules, play};

/// Broken seeds after which no more are played.
const BROKEN_MAX: usize = 10;

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds played.
    pub seeds: u64,
    /// Steps in all.
    pub steps: u64,
    /// How often each kind of thing happened.
    pub events: BTreeMap<&'static str, u64>,
    /// How long it took.
    pub elapsed: Duration,
    /// What broke, the smallest seed first.
    pub broken: Vec<Broken>,
}

/// A seed that broke something.
#[derive(Debug)]
pub struct Broken {
    /// Plays it again: `shouyin torture --only simulation --seed N`.
    pub seed: u64,
    /// The invariant, and what was found.
    pub what: String,
    /// Everything that happened.
    pub trace: Vec<String>,
}

/// Plays `count` seeds from `first` on, split over `threads`; each run is single-threaded. Stops early once
/// several are broken.
pub fn run(first: u64, count: u64, threads: usize) -> Report {
    let watch = Stopwatch::start();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let worker = || {
        let mut report = Report::default();
        let bench = match Bench::new() {
            Ok(bench) => bench,
            Err(error) => {
                report.broken.push(Broken { seed: first, what: error.to_string(), trace: Vec::new() });
                return report;
            }
        };
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                break;
            }
            report.take(&bench, first.wrapping_add(n));
            if report.broken.len() >= BROKEN_MAX {
                stop.store(true, Ordering::Relaxed);
            }
        }
        report
    };
    let mut all = Report::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            match thread.join() {
                Ok(report) => all.add(report),
                // Every run is guarded, so this is a fault of this file.
                Err(_) => all.broken.push(Broken {
                    seed: first,
                    what: "a thread of the simulation died".to_owned(),
                    trace: Vec::new(),
                }),
            }
        }
    });
    all.broken.sort_by_key(|broken| broken.seed);
    all.elapsed = watch.elapsed();
    all
}

impl Report {
    fn take(&mut self, bench: &Bench, seed: u64) {
        let played = guarded(bench, seed, Rules::default(), false);
        self.seeds += 1;
        self.steps += played.steps;
        for (kind, n) in played.events {
            *self.events.entry(kind).or_default() += n;
        }
        if let Some(breach) = played.breach {
            // Played again with every word written down; not before, for that is slow.
            let trace = guarded(bench, seed, Rules::default(), true).trace;
            self.broken.push(Broken { seed, what: breach.to_string(), trace });
        }
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        for (kind, n) in other.events {
            *self.events.entry(kind).or_default() += n;
        }
        self.broken.extend(other.broken);
    }
}

/// A panic is a breach like any other.
fn guarded(bench: &Bench, seed: u64, rules: Rules, traced: bool) -> Played {
    catch_unwind(AssertUnwindSafe(|| play(bench, seed, rules, traced))).unwrap_or_else(|_| Played {
        breach: Some(Breach::new("I0", "the simulation itself panicked".to_owned())),
        ..Played::default()
    })
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} broke {}", self.seed, self.what)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.elapsed.as_millis();
        writeln!(
            f,
            "simulation: {} seeds, {} steps, {} broken, {ms} ms",
            self.seeds,
            self.steps,
            self.broken.len()
        )?;
        for (kind, n) in &self.events {
            writeln!(f, "  {n:>10} {kind}")?;
        }
        Ok(())
    }
}
