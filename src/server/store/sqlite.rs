//! SQLite behind `Store`: one group-committing writer, a few read-only connections. Never writes
//! outside the writer; WAL, `synchronous=FULL`, `BEGIN IMMEDIATE`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::Semaphore;

use super::rows::{insert_order, load_order_by_id, load_orders, number_taken, one_row, save_step};
use super::settle::{apply, insert_notice, settle};
use super::writer::Writer;
use super::{
    Applied, Endpoint, Find, FindPad, InboxRow, NewAttempt, NewOrder, NewPad, OnPad, Opened, PadChange,
    Places, Policies, Settle, Store, StoreError, StoredEvent, Task, TaskOutcome, Try,
};
use super::{pads, tasks};
use crate::domain::id::{MerchantId, PadId, UnixMillis};
use crate::domain::number::out_trade_no;
use crate::domain::order::{Attempt, AttemptState, Event, Order, OrderId, Refused, State, advance};
use crate::domain::pad::Pad;

mod embedded {
    refinery::embed_migrations!("src/server/store/migrations/sqlite");
}

/// Read-only connections kept open.
const READERS: usize = 4;
/// What the disk must have left, in bytes, to be ready.
const ROOM_MIN: u64 = 64 << 20;
/// The oldest SQLite without the WAL-reset corruption.
const SQLITE_MIN: i32 = 3_051_003;

/// A database in one file, or in memory for tests.
pub struct SqliteStore {
    writer: Writer,
    readers: Option<Readers>,
    instance: Arc<str>,
    /// Held as long as the store lives: a second process is refused.
    _lock: Option<File>,
}

struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl SqliteStore {
    /// Opens (and creates and migrates) the database file. `instance` becomes part of every webhook id
    /// made until it is closed, so it must be random, and another at each start: a database put back from a
    /// copy counts anew from there, and a mall that has seen an id does not look at it again.
    ///
    /// # Errors
    /// [`StoreError::Unusable`]: no folder, no right, no database, or another version's;
    /// [`StoreError::Unavailable`]: locked by another process, or SQLite too old.
    pub fn open(path: &Path, instance: &str) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unusable_path(folder, &error))?;
        }
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(|error| unusable_path(&lock_path, &error))?;
        lock.try_lock().map_err(|_| {
            StoreError::Unavailable(format!("{} is in use by another process", path.display()))
        })?;
        // Buyers and payments stand in it: for its owner only. SQLite gives its other files the same mode.
        let own = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
        own.map_err(|error| unusable_path(path, &error))?;
        let connection = Connection::open(path)?;
        let readers = Readers {
            path: path.to_owned(),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
        };
        Self::start(connection, instance, Some(readers), Some(lock)).map_err(|fault| fault.at(path))
    }

    /// A database in memory, for tests: the same code on the caller's thread, reads go through the writer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(Connection::open_in_memory()?, "memory", None, None)
            .map_err(|fault| fault.at(Path::new(":memory:")))
    }

    /// Looks into a database in memory, or does something to it behind the service's back: for simulations.
    ///
    /// # Errors
    /// What `look` says, or [`StoreError::Unavailable`] if the database is a file.
    pub fn examine<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let no = || StoreError::Unavailable("only a database in memory is looked into".to_owned());
        self.writer.examine(look).ok_or_else(no)?
    }

    fn start(
        mut connection: Connection,
        instance: &str,
        readers: Option<Readers>,
        lock: Option<File>,
    ) -> Result<Self, Fault> {
        if rusqlite::version_number() < SQLITE_MIN {
            let old = format!("SQLite {} is too old", rusqlite::version());
            return Err(Fault::Store(StoreError::Unavailable(old)));
        }
        configure(&connection)?;
        embedded::migrations::runner().run(&mut connection)?;
        let writer = if readers.is_some() { Writer::start(connection)? } else { Writer::inline(connection) };
        Ok(Self { writer, readers, instance: instance.into(), _lock: lock })
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.readers {
            None => self.writer.run(work).await,
            Some(readers) => readers.run(work).await,
        }
    }
}

impl Readers {
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let stopped = |error: &dyn core::fmt::Display| StoreError::Unavailable(error.to_string());
        let permit = self.permits.clone().acquire_owned().await.map_err(|error| stopped(&error))?;
        let (idle, path) = (self.idle.clone(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = kept.map_or_else(|| open_reader(&path), Ok)?;
            let result = read_in_transaction(&connection, work);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        });
        task.await.map_err(|error| stopped(&error))?
    }
}

/// One snapshot for all statements of a read.
fn read_in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    work(&transaction)
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare_once(&connection)?;
    Ok(connection)
}

/// Statements are prepared once. Without this promise SQLite looks at what `LIMIT ?` is bound to, and
/// prepares the statement anew at every use: a fifth of all the time it took.
fn prepare_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(core::time::Duration::from_secs(5))?;
    // More than there are statements: preparing one again costs more than running it.
    connection.set_prepared_statement_cache_capacity(256);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    prepare_once(connection)?;
    connection.execute_batch(PRAGMAS)?;
    Ok(())
}

/// How the writer's connection is set. A checkpoint each 16 MB and not each 4: pages that
/// many notices change are then written back once for all of them. The cache holds what a busy day touches.
pub const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -65536; \
     PRAGMA trusted_schema = OFF;";

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Migration(#[from] refinery::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Fault {
    /// What waiting does not change is told apart from what it does.
    fn at(self, path: &Path) -> StoreError {
        let shown = path.display();
        let of_sqlite = |error: &rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Unusable {
                problem: format!("names {shown}, which is damaged or no database: {error}"),
                cure: "Put a backup in its place, or name another file".to_owned(),
            },
            _ => StoreError::Unavailable(format!("{shown}: {error}")),
        };
        match self {
            Self::Sqlite(error) => of_sqlite(&error),
            Self::Migration(error) => {
                let cause = std::error::Error::source(&error);
                let another = || StoreError::Unusable {
                    problem: format!("names {shown}, which another version of shouyin made: {error}"),
                    cure: "Use that version or a newer one, or name another file".to_owned(),
                };
                cause.and_then(|cause| cause.downcast_ref()).map_or_else(another, of_sqlite)
            }
            Self::Store(error) => error,
        }
    }
}

fn unusable_path(path: &Path, error: &std::io::Error) -> StoreError {
    let problem = format!("needs {}, which cannot be made or written: {error}", path.display());
    StoreError::Unusable { problem, cure: "Make its folder writable, or name another file".to_owned() }
}

/// A write-ahead log and one more copy of a table need room; below this much nobody should be sent here.
fn enough_room(free: u64) -> Result<(), StoreError> {
    if free >= ROOM_MIN {
        return Ok(());
    }
    let (free, wanted) = (free >> 20, ROOM_MIN >> 20);
    Err(StoreError::Unavailable(format!("its disk has {free} MiB left, {wanted} are needed")))
}

fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::statvfs(path).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Store for SqliteStore {
    fn create_order(
        &self,
        new: NewOrder,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(Order, bool), StoreError>> {
        Box::pin(self.writer.run(move |connection| {
            let created = insert_order(connection, &new, now)?;
            let key = [
                Value::Text(new.key.merchant.to_string()),
                Value::Text(new.key.order_type.to_string()),
                Value::Text(new.key.number.to_string()),
            ];
            let found = load_orders(connection, BY_KEY, &key)?;
            let missing = || StoreError::Inconsistent {
                table: "orders",
                row: new.key.to_string(),
                what: "neither inserted nor found".to_owned(),
            };
            Ok((found.into_iter().next().ok_or_else(missing)?, created))
        }))
    }

    fn find(&self, by: Find) -> BoxFuture<'_, Result<Option<Order>, StoreError>> {
        let (condition, values) = match by {
            Find::Id(id) => ("WHERE id = ?1", vec![Value::Integer(id.0)]),
            Find::Token(hash) => ("WHERE token_hash = ?1", vec![Value::Blob(hash.to_vec())]),
            Find::Page(hash) => ("WHERE page_hash = ?1", vec![Value::Blob(hash.to_vec())]),
            Find::Key(key) => (
                BY_KEY,
                vec![
                    Value::Text(key.merchant.into()),
                    Value::Text(key.order_type.to_string()),
                    Value::Text(key.number.into()),
                ],
            ),
            Find::Trade { account, trade } => (
                "WHERE id = (SELECT order_id FROM attempts \
                 WHERE channel = ?1 AND account = ?2 AND out_trade_no = ?3)",
                vec![
                    Value::Text(trade.channel.to_string()),
                    Value::Text(account),
                    Value::Text(trade.out_trade_no.into()),
                ],
            ),
        };
        Box::pin(
            self.read(move |connection| Ok(load_orders(connection, condition, &values)?.into_iter().next())),
        )
    }

    fn list(
        &self,
        merchant: MerchantId,
        state: Option<&'static str>,
        before: Option<OrderId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Order>, StoreError>> {
        let values = [
            Value::Text(merchant.into()),
            Value::Integer(before.map_or(i64::MAX, |id| id.0)),
            state.map_or(Value::Null, |word| Value::Text(word.to_owned())),
            Value::Integer(limit.into()),
        ];
        Box::pin(self.read(move |connection| {
            load_orders(
                connection,
                "WHERE merchant_id = ?1 AND id < ?2 AND \
                 (?3 IS NULL OR state = ?3 OR (?3 = 'pending' AND state = 'closing')) \
                 ORDER BY id DESC LIMIT ?4",
                &values,
            )
        }))
    }

    fn open_attempt(
        &self,
        id: OrderId,
        wanted: NewAttempt,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Result<Opened, Refused>, StoreError>> {
        let instance = self.instance.clone();
        Box::pin(
            self.writer
                .run(move |connection| open_attempt(connection, id, wanted, &policies, &instance, now)),
        )
    }

    fn apply(
        &self,
        id: OrderId,
        event: Event,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Applied, StoreError>> {
        let instance = self.instance.clone();
        Box::pin(self.writer.run(move |connection| apply(connection, id, event, &policies, &instance, now)))
    }

    fn settle(
        &self,
        told: Settle,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Option<Applied>, StoreError>> {
        let instance = self.instance.clone();
        Box::pin(self.writer.run(move |connection| settle(connection, told, &policies, &instance, now)))
    }

    fn record_notice(&self, notice: InboxRow, now: UnixMillis) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.run(move |connection| insert_notice(connection, &notice, now)))
    }

    fn claim_tasks(
        &self,
        now: UnixMillis,
        lease_ms: i64,
        places: Places,
    ) -> BoxFuture<'_, Result<Vec<Task>, StoreError>> {
        Box::pin(self.writer.run(move |connection| tasks::claim(connection, now, lease_ms, &places)))
    }

    fn finish_task(
        &self,
        task: Task,
        outcome: TaskOutcome,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.run(move |connection| tasks::finish(connection, &task, &outcome, now)))
    }

    fn resume(&self, now: UnixMillis) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.run(move |connection| tasks::resume(connection, now)))
    }

    fn event(&self, event_id: String) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>> {
        Box::pin(self.read(move |connection| tasks::event(connection, &event_id)))
    }

    fn events(
        &self,
        merchant: MerchantId,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>> {
        Box::pin(self.read(move |connection| tasks::events(connection, &merchant, after, limit)))
    }

    fn deliveries(&self, event_id: String) -> BoxFuture<'_, Result<Vec<Try>, StoreError>> {
        Box::pin(self.read(move |connection| tasks::deliveries(connection, &event_id)))
    }

    fn endpoint(&self, merchant: MerchantId) -> BoxFuture<'_, Result<Option<Endpoint>, StoreError>> {
        Box::pin(self.read(move |connection| tasks::endpoint(connection, &merchant)))
    }

    fn resend(
        &self,
        merchant: MerchantId,
        event_id: String,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.writer.run(move |connection| tasks::resend(connection, &merchant, &event_id, now)))
    }

    fn create_pad(&self, new: NewPad, now: UnixMillis) -> BoxFuture<'_, Result<Option<Pad>, StoreError>> {
        Box::pin(self.writer.run(move |connection| pads::create(connection, &new, now)))
    }

    fn pads(&self, merchant: MerchantId) -> BoxFuture<'_, Result<Vec<OnPad>, StoreError>> {
        Box::pin(self.read(move |connection| pads::list(connection, &merchant)))
    }

    fn pad(&self, merchant: MerchantId, by: FindPad) -> BoxFuture<'_, Result<Option<Pad>, StoreError>> {
        Box::pin(self.read(move |connection| pads::find(connection, &merchant, &by)))
    }

    fn pair_pad(
        &self,
        merchant: MerchantId,
        code: [u8; 32],
        cookie: [u8; 32],
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Option<Pad>, StoreError>> {
        Box::pin(self.writer.run(move |connection| pads::pair(connection, &merchant, code, cookie, now)))
    }

    fn change_pad(
        &self,
        merchant: MerchantId,
        pad: PadId,
        change: PadChange,
        seen: Option<i64>,
    ) -> BoxFuture<'_, Result<Option<Pad>, StoreError>> {
        Box::pin(self.writer.run(move |connection| pads::change(connection, &merchant, &pad, change, seen)))
    }

    fn pad_seen(
        &self,
        pad: PadId,
        result: Option<i64>,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.writer.run(move |connection| pads::seen(connection, &pad, result, now)))
    }

    fn pad_orders(&self, pad: PadId, limit: u32) -> BoxFuture<'_, Result<Vec<Order>, StoreError>> {
        Box::pin(self.read(move |connection| pads::orders(connection, &pad, limit)))
    }

    fn remove_pad(&self, merchant: MerchantId, pad: PadId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.writer.run(move |connection| pads::remove(connection, &merchant, &pad)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.readers.as_ref().map(|readers| readers.path.clone());
        Box::pin(self.writer.run(move |connection| {
            path.map_or(Ok(()), |path| enough_room(free_bytes(&path)?))?;
            // A write, so that a full or read-only disk shows.
            let set = "INSERT INTO meta (key, value) VALUES ('ready', 'yes') \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            one_row(connection.execute(set, [])?, "meta", 0)
        }))
    }
}

fn open_attempt(
    connection: &Connection,
    id: OrderId,
    wanted: NewAttempt,
    policies: &Policies,
    instance: &str,
    now: UnixMillis,
) -> Result<Result<Opened, Refused>, StoreError> {
    let before = load_order_by_id(connection, id)?;
    let NewAttempt { scene, payer, account, request, expires_at } = wanted;
    if before.state == State::Pending
        && let Some(live) = before.live_attempt(scene, payer.as_ref(), &account, now)
    {
        let trade = live.trade();
        return Ok(Ok(Opened { order: before, trade }));
    }
    let channel = scene.channel();
    let used = before.attempts.iter().filter(|attempt| attempt.scene.channel() == channel).count();
    let mut n = u32::try_from(used).unwrap_or(u32::MAX);
    let number = loop {
        let exhausted = || StoreError::Inconsistent {
            table: "attempts",
            row: before.key.to_string(),
            what: "no free number".to_owned(),
        };
        let candidate = out_trade_no(&before.key, channel, n).ok_or_else(exhausted)?;
        if !number_taken(connection, channel, &account, &candidate)? {
            break candidate;
        }
        n = n.saturating_add(1);
    };
    let attempt = Attempt {
        out_trade_no: number,
        scene,
        payer,
        account,
        request,
        opened_at: now,
        expires_at,
        state: AttemptState::Opening,
    };
    let trade = attempt.trade();
    match advance(&before, Event::Opened(attempt), policies.of(&before.key.merchant), now) {
        Ok(step) => {
            save_step(connection, &before, &step, instance, now)?;
            Ok(Ok(Opened { order: step.order, trade }))
        }
        Err(refused) => Ok(Err(refused)),
    }
}

const BY_KEY: &str = "WHERE merchant_id = ?1 AND order_type = ?2 AND order_number = ?3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_not_ready() {
        assert!(free_bytes(Path::new("/")).is_ok());
        assert_eq!(enough_room(64 << 20), Ok(()));
        let told = enough_room((64 << 20) - 1).unwrap_err().to_string();
        assert_eq!(told, "the store is unavailable: its disk has 63 MiB left, 64 are needed");
    }
}
