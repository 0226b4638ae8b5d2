//! What the database alone can do: the rows that notices brought, written again into a copy of the database
//! from before, in transactions of the same shape. Knows the schema only as far as names go.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::runtime::clock::Stopwatch;
use crate::server::store::sqlite::PRAGMAS;

/// Copies a database that nobody has open.
///
/// # Errors
/// It cannot be copied.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(from)?;
    connection.execute("VACUUM INTO ?1", [to.display().to_string()])?;
    Ok(())
}

/// `PRAGMA integrity_check` of a database.
///
/// # Errors
/// It cannot be read.
pub fn integrity(database: &Path) -> anyhow::Result<String> {
    let connection = Connection::open(database)?;
    Ok(connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?)
}

/// One statement with the values of each notice.
struct Stream {
    sql: String,
    rows: Vec<Vec<Value>>,
}

/// Writes what `after` has more than `before` into `before`, `batch` notices a commit: how many a second.
///
/// # Errors
/// A database is not what was expected.
pub fn measure(before: &Path, after: &Path, batch: usize) -> anyhow::Result<f64> {
    let done = Connection::open_with_flags(after, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let fresh = Connection::open(before)?;
    fresh.execute_batch(PRAGMAS)?;
    let mut streams =
        vec![updates(&done, "orders", &["state", "version"])?, updates(&done, "attempts", &["state"])?];
    for table in ["inbox", "payments", "events", "tasks"] {
        streams.push(inserts(&done, &fresh, table)?);
    }
    let notices = streams.iter().map(|stream| stream.rows.len()).max().unwrap_or_default();
    let watch = Stopwatch::start();
    let mut next = 0;
    while next < notices {
        fresh.execute_batch("BEGIN IMMEDIATE")?;
        for index in next..(next + batch).min(notices) {
            fresh.prepare_cached("SAVEPOINT job")?.execute([])?;
            for stream in &streams {
                if let Some(values) = stream.rows.get(index) {
                    fresh.prepare_cached(&stream.sql)?.execute(params_from_iter(values))?;
                }
            }
            fresh.prepare_cached("RELEASE job")?.execute([])?;
        }
        fresh.execute_batch("COMMIT")?;
        next += batch;
    }
    Ok(f64::from(u32::try_from(notices)?) / watch.elapsed().as_secs_f64())
}

fn updates(done: &Connection, table: &str, columns: &[&str]) -> anyhow::Result<Stream> {
    let sets: Vec<String> = columns.iter().map(|column| format!("{column} = ?")).collect();
    let sql = format!("UPDATE {table} SET {} WHERE id = ?", sets.join(", "));
    let rows = rows(done, &format!("SELECT {}, id FROM {table} ORDER BY id", columns.join(", ")))?;
    Ok(Stream { sql, rows })
}

fn inserts(done: &Connection, fresh: &Connection, table: &str) -> anyhow::Result<Stream> {
    let last: i64 =
        fresh.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
    let rows = rows(done, &format!("SELECT * FROM {table} WHERE id > {last} ORDER BY id"))?;
    let width = rows.first().with_context(|| format!("no notice wrote into {table}"))?.len();
    let marks = vec!["?"; width].join(", ");
    Ok(Stream { sql: format!("INSERT INTO {table} VALUES ({marks})"), rows })
}

fn rows(connection: &Connection, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut query = connection.prepare(sql)?;
    let width = query.column_count();
    let read = query.query_map([], |row| (0..width).map(|column| row.get(column)).collect())?;
    Ok(read.collect::<Result<_, _>>()?)
}
