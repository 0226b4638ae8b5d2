//! What is printed: one line for each thing that was asked, with what was seen and whether it held.
//! Never a bare yes: every row has its figure, and what could not be run here says why.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

/// Whether what was asked was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Held,
    /// It was not.
    Broken,
    /// A figure that is told, with nothing asked of it.
    Told,
    /// This machine does not allow it.
    NotRun,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was looked at.
    pub what: String,
    /// The number wanted.
    pub asked: String,
    /// The number seen.
    pub seen: String,
    /// Whether it held.
    pub verdict: Verdict,
}

impl Row {
    /// A row that held or not.
    pub fn new(
        what: impl Into<String>,
        asked: impl Into<String>,
        seen: impl Into<String>,
        held: bool,
    ) -> Self {
        let verdict = if held { Verdict::Held } else { Verdict::Broken };
        Self { what: what.into(), asked: asked.into(), seen: seen.into(), verdict }
    }

    /// A figure.
    pub fn told(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), asked: "told".to_owned(), seen: seen.into(), verdict: Verdict::Told }
    }

    /// Not run here, and why.
    pub fn not_run(what: impl Into<String>, asked: impl Into<String>, why: &dyn fmt::Display) -> Self {
        let seen = format!("not run here: {why}");
        Self { what: what.into(), asked: asked.into(), seen, verdict: Verdict::NotRun }
    }

    /// What is wanted to be none.
    pub fn none(what: impl Into<String>, asked: impl Into<String>, broken: &[String]) -> Self {
        let seen = match broken.first() {
            None => "0 broken".to_owned(),
            Some(first) => format!("{} broken; first: {first}", broken.len()),
        };
        Self::new(what, asked, seen, broken.is_empty())
    }

    /// Writes the row at once: a long run is followed as it goes.
    ///
    /// # Errors
    /// [`io::Error`]: nobody listens.
    pub fn print(&self) -> io::Result<()> {
        let verdict = match self.verdict {
            Verdict::Held => "held",
            Verdict::Broken => "BROKEN",
            Verdict::Told => "-",
            Verdict::NotRun => "not run",
        };
        line(&self.what, &self.asked, &self.seen, verdict)
    }
}

/// The head of the table.
///
/// # Errors
/// [`io::Error`]: nobody listens.
pub fn head() -> io::Result<()> {
    line("what", "asked", "seen", "verdict")?;
    line(&"-".repeat(WHAT), &"-".repeat(ASKED), &"-".repeat(SEEN), "-------")
}

fn line(what: &str, asked: &str, seen: &str, verdict: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what:<WHAT$} | {asked:<ASKED$} | {seen:<SEEN$} | {verdict}")?;
    out.flush()
}

const WHAT: usize = 44;
const ASKED: usize = 26;
const SEEN: usize = 62;

/// How long a thing took, many times.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// One more time.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Another's times, too.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The time that so many of a hundred did not exceed; zero where there is none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        let mut text = String::new();
        write!(text, "p50 {}, p99 {}, max {}", span(p50), span(p99), span(self.max()))?;
        write!(text, " of {}", thousands(self.0.len()))?;
        f.write_str(&text)
    }
}

/// A time for people.
pub fn span(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

/// `1,000`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_for_people() {
        let mut spread = Spread::default();
        for ms in 1..=1000 {
            spread.add(Duration::from_millis(ms));
        }
        assert_eq!(spread.to_string(), "p50 501 ms, p99 991 ms, max 1.00 s of 1,000");
        assert_eq!(Spread::default().to_string(), "p50 0.0 ms, p99 0.0 ms, max 0.0 ms of 0");
        assert_eq!((thousands(999), thousands(1_234_567)), ("999".to_owned(), "1,234,567".to_owned()));
    }

    #[test]
    fn what_is_broken_says_so() {
        assert_eq!(Row::none("x", "0", &[]).verdict, Verdict::Held);
        let broken = Row::none("x", "0", &["order 7".to_owned(), "order 8".to_owned()]);
        assert_eq!((broken.verdict, broken.seen.as_str()), (Verdict::Broken, "2 broken; first: order 7"));
    }
}
