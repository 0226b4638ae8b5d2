//! Tasks and the events they deliver, as rows: claimed under a lease, finished once, read by malls. Free
//! functions on a connection; `sqlite` calls them inside its transactions. Never decides when a task is due.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{StoreError, StoredEvent, Task, TaskKind, TaskOutcome};
use crate::domain::id::{MerchantId, UnixMillis};
use crate::domain::order::OrderId;

const EVENT_COLUMNS: &str = "id, event_id, kind, body, created_at";

/// Claims due tasks; see [`super::Store::claim_tasks`].
pub fn claim(
    connection: &Connection,
    now: UnixMillis,
    lease_ms: i64,
    webhooks: u32,
    others: u32,
) -> Result<Vec<Task>, StoreError> {
    let mut claim = connection.prepare_cached(
        "WITH due AS NOT MATERIALIZED (SELECT id, kind, due_at FROM tasks WHERE done_at IS NULL \
           AND due_at <= ?2 AND (lease_until IS NULL OR lease_until <= ?2)) \
         UPDATE tasks SET lease = coalesce(lease, 0) + 1, lease_until = ?1, tries = tries + 1 \
         WHERE id IN (SELECT id FROM due WHERE kind = 'webhook' ORDER BY due_at LIMIT ?3) \
           OR id IN (SELECT id FROM due WHERE kind <> 'webhook' ORDER BY due_at LIMIT ?4) \
         RETURNING id, kind, merchant_id, order_id, subject, tries, lease",
    )?;
    let mut rows = claim.query(params![now.plus(lease_ms).0, now.0, webhooks, others])?;
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        tasks.push(task(row)?);
    }
    Ok(tasks)
}

/// Says what became of a task; see [`super::Store::finish_task`].
pub fn finish(
    connection: &Connection,
    task: &Task,
    outcome: TaskOutcome,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (done_at, due, note) = match outcome {
        TaskOutcome::Done(note) => (Some(now.0), None, note),
        TaskOutcome::Again(due, note) => (None, Some(due.0), note),
    };
    connection
        .prepare_cached(
            "UPDATE tasks SET done_at = ?1, due_at = coalesce(?2, due_at), note = ?3, \
             lease_until = NULL WHERE id = ?4 AND lease = ?5 AND done_at IS NULL",
        )?
        .execute(params![done_at, due, note, task.id, task.lease])?;
    Ok(())
}

/// Frees every lease and makes queries due; see [`super::Store::resume`].
pub fn resume(connection: &Connection, now: UnixMillis) -> Result<(), StoreError> {
    connection.execute("UPDATE tasks SET lease_until = NULL WHERE done_at IS NULL", [])?;
    connection.execute(
        "UPDATE tasks SET due_at = min(due_at, ?1) WHERE done_at IS NULL AND kind = 'query'",
        [now.0],
    )?;
    Ok(())
}

/// The event with this `webhook-id`.
pub fn event(connection: &Connection, event_id: &str) -> Result<Option<StoredEvent>, StoreError> {
    let mut query =
        connection.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE event_id = ?1"))?;
    Ok(query.query_row([event_id], stored_event).optional()?)
}

/// A merchant's events after a position, oldest first.
pub fn events(
    connection: &Connection,
    merchant: &MerchantId,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM events WHERE merchant_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    ))?;
    let rows = query.query_map(params![merchant.as_str(), after, limit], stored_event)?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

fn task(row: &Row<'_>) -> Result<Task, StoreError> {
    let id: i64 = row.get(0)?;
    let bad = |what: String| StoreError::Inconsistent { table: "tasks", row: id.to_string(), what };
    Ok(Task {
        id,
        kind: row.get::<_, String>(1)?.parse::<TaskKind>().map_err(|error| bad(error.to_string()))?,
        merchant: MerchantId::new(row.get::<_, String>(2)?).map_err(|error| bad(error.to_string()))?,
        order: OrderId(row.get(3)?),
        subject: row.get(4)?,
        tries: row.get(5)?,
        lease: row.get(6)?,
    })
}

fn stored_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        id: row.get(0)?,
        event_id: row.get(1)?,
        kind: row.get(2)?,
        body: row.get(3)?,
        created_at: UnixMillis(row.get(4)?),
    })
}
