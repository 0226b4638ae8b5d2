//! An append-only file of JSON lines, on disk before anybody is answered; replayed at start.
//! Never rewrites a line: only a torn last one, which nobody was told of, is cut off.
//! What the lines mean: `trades::Record` for the gateways, `mall::Record` for the demo mall.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

/// Why a ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process; stop it first or choose another data directory")]
    InUse(PathBuf),
    /// A line in the middle is not what we wrote.
    #[error("{path} line {line} cannot be read ({why}); move the file away to start afresh")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's words.
        why: String,
    },
    /// An earlier write failed, so what memory says is not what the disk says.
    #[error("the ledger could not be written; start again after mending the disk")]
    Broken,
}

/// The writing end. Lines are written in the order of `push`; many of them share one sync.
pub struct Ledger {
    jobs: Sender<Job>,
    writer: Option<JoinHandle<()>>,
}

enum Job {
    Line(String),
    Settle(oneshot::Sender<bool>),
    Stop,
}

impl Ledger {
    /// Opens `path` (made if missing) for this process alone and reads what it holds, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`]; a torn last line is not one, it is cut off with a warning.
    pub fn open<R: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<R>), LedgerError> {
        let at_path = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at_path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(at_path(source)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at_path)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (lines, torn) = text.split_at(whole);
        if !torn.is_empty() {
            tracing::warn!(file = %path.display(), bytes = torn.len(), "cut off a torn last line");
            file.set_len(u64::try_from(whole).unwrap_or(u64::MAX)).map_err(at_path)?;
        }
        file.seek(SeekFrom::End(0)).map_err(at_path)?;
        file.sync_all().map_err(at_path)?;
        let records = read(path, lines)?;
        let (jobs, inbox) = channel();
        let name = path.display().to_string();
        let writer = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write(file, &inbox, &name))
            .map_err(at_path)?;
        Ok((Self { jobs, writer: Some(writer) }, records))
    }

    /// Queues one record. Call it under the lock that guards what the record changes, so that the
    /// file has the same order; then await [`Ledger::settled`] outside of it.
    pub fn push<R: Serialize>(&self, record: &R) {
        match serde_json::to_string(record) {
            // A dead writer shows in `settled`.
            Ok(line) => drop(self.jobs.send(Job::Line(line + "\n"))),
            Err(error) => tracing::error!(%error, "a ledger record cannot be written as JSON"),
        }
    }

    /// Returns once everything pushed before is on disk. Whoever answers from memory awaits it, too:
    /// an answer must not tell what a crash could still take back.
    ///
    /// # Errors
    /// [`LedgerError::Broken`] if any write has failed.
    pub async fn settled(&self) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Settle(done)).map_err(|_| LedgerError::Broken)?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(LedgerError::Broken),
        }
    }
}

/// Writes what is still queued and lets go of the file.
impl Drop for Ledger {
    fn drop(&mut self) {
        if self.jobs.send(Job::Stop).is_ok()
            && let Some(writer) = self.writer.take()
        {
            // A panic there was printed there.
            drop(writer.join());
        }
    }
}

fn read<R: DeserializeOwned>(path: &Path, lines: &[u8]) -> Result<Vec<R>, LedgerError> {
    let mut records = Vec::new();
    for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        records.push(serde_json::from_slice(line).map_err(|error| LedgerError::Damaged {
            path: path.to_owned(),
            line: index + 1,
            why: error.to_string(),
        })?);
    }
    Ok(records)
}

/// The writing thread: takes all that waits, writes it, syncs once, answers.
fn write(mut file: File, inbox: &Receiver<Job>, name: &str) {
    let mut sound = true;
    let mut stop = false;
    while !stop && let Ok(first) = inbox.recv() {
        let mut lines = String::new();
        let mut waiting = Vec::new();
        for job in std::iter::once(first).chain(inbox.try_iter()) {
            match job {
                Job::Line(line) => lines.push_str(&line),
                Job::Settle(done) => waiting.push(done),
                Job::Stop => stop = true,
            }
        }
        if sound && !lines.is_empty() {
            let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
            if let Err(error) = written {
                tracing::error!(file = name, %error, "the ledger cannot be written");
                sound = false;
            }
        }
        for done in waiting {
            // Whoever asked may have gone.
            done.send(sound).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn survives_a_torn_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        let (ledger, old) = Ledger::open::<String>(&path).unwrap();
        assert!(old.is_empty());
        ledger.push(&"one");
        ledger.push(&"zwei\n三");
        ledger.settled().await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        drop(ledger);
        std::fs::write(&path, [whole.as_slice(), b"\"tor"].concat()).unwrap();
        let (ledger, old) = Ledger::open::<String>(&path).unwrap();
        assert_eq!(old, ["one", "zwei\n三"]);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        ledger.push(&"three");
        ledger.settled().await.unwrap();
        drop(ledger);
        assert_eq!(Ledger::open::<String>(&path).unwrap().1, ["one", "zwei\n三", "three"]);
    }

    #[test]
    fn names_a_damaged_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        std::fs::write(&path, "\"one\"\nrubbish\n\"two\"\n").unwrap();
        assert!(matches!(Ledger::open::<String>(&path), Err(LedgerError::Damaged { line: 2, .. })));
    }

    #[test]
    fn belongs_to_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        let held = Ledger::open::<String>(&path).unwrap();
        assert!(matches!(Ledger::open::<String>(&path), Err(LedgerError::InUse(_))));
        drop(held);
    }
}
