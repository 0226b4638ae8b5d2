//! Tasks and the events they deliver, as rows: claimed under a lease, finished once, read by malls. Free
//! functions on a connection; `sqlite` calls them inside its transactions. Never decides when a task is due.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, Row, Rows, params};

use super::{StoreError, Task, TaskKind, TaskOutcome};
use crate::domain::id::{MerchantId, UnixMillis};
use crate::domain::order::OrderId;

/// Tries of one event that are kept.
const DELIVERIES_KEPT: i64 = 20;

/// What may be claimed at once.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The malls that may be told something now; those that come first are served first.
    pub malls: Vec<Mall>,
    /// Webhooks in all.
    pub webhooks: u32,
    /// Tasks of other kinds.
    pub others: u32,
}

/// A mall that may be told something.
#[derive(Clone, Debug)]
pub struct Mall {
    /// Whose it is.
    pub merchant: MerchantId,
    /// Where it is told: an address that was switched off is left alone.
    pub url: String,
    /// So many webhooks more.
    pub places: u32,
    /// Of these, so many also when there are no places left in all.
    pub sure: u32,
}

/// One try to tell a mall, as it ended.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it began.
    pub at: UnixMillis,
    /// How long it took.
    pub latency_ms: i64,
    /// To where.
    pub url: String,
    /// The HTTP status, or why there is none.
    pub status: Result<u16, String>,
    /// The beginning of the answer's body.
    pub answer: String,
    /// What follows.
    pub then: Then,
}

/// What follows from a try.
#[derive(Clone, Debug)]
pub enum Then {
    /// The mall took it.
    Delivered {
        /// The outage that this ends, if there was one.
        ends: Option<Outage>,
    },
    /// Again, not before then.
    Again(UnixMillis),
    /// The mall wants nothing more at this address: the event waits until it is switched on again.
    Gone,
}

/// A time in which a mall took nothing.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it began.
    pub since: UnixMillis,
    /// Events with at most so many tries are due now that it is over.
    pub frees: u32,
}

/// Something the mall is told.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The position in the merchant's list.
    pub id: i64,
    /// The `webhook-id`.
    pub event_id: String,
    /// Whom it is told.
    pub merchant: MerchantId,
    /// `order.paid` and so on.
    pub kind: String,
    /// The exact body.
    pub body: Vec<u8>,
    /// When it happened.
    pub created_at: UnixMillis,
    /// How far its delivery is.
    pub delivery: Delivery,
}

/// How far an event's delivery is.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, unless it was delivered.
    pub due_at: UnixMillis,
    /// When the mall took it.
    pub delivered_at: Option<UnixMillis>,
    /// The HTTP status of the last try; `None` if there was none.
    pub last_status: Option<u16>,
    /// Since when its mall takes nothing, if that is so.
    pub failing_since: Option<UnixMillis>,
}

/// A mall that takes nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it was told.
    pub url: String,
    /// When it first took nothing.
    pub failing_since: UnixMillis,
    /// When it said that it wants nothing more at this address.
    pub disabled_at: Option<UnixMillis>,
}

/// One line of an event's delivery log.
#[derive(Clone, Debug)]
pub struct Try {
    /// When it began.
    pub at: UnixMillis,
    /// The HTTP status, or why there is none.
    pub status: Result<u16, String>,
    /// The beginning of the answer's body.
    pub answer: String,
    /// How long it took.
    pub latency_ms: i64,
}

/// Claims due tasks; see [`super::Store::claim_tasks`].
pub fn claim(
    connection: &Connection,
    now: UnixMillis,
    lease_ms: i64,
    places: &Places,
) -> Result<Vec<Task>, StoreError> {
    let mut tasks = claim_others(connection, now, lease_ms, places.others)?;
    if places.malls.is_empty() {
        return Ok(tasks);
    }
    let failing = failing(connection)?;
    for mall in &places.malls {
        if failing.get(mall.merchant.as_str()).is_some_and(|(url, _)| *url != mall.url) {
            address_changed(connection, mall, now)?;
        }
    }
    let due = malls_with_due_work(connection, now)?;
    let mut left = places.webhooks;
    for mall in &places.malls {
        let off = failing.get(mall.merchant.as_str()).is_some_and(|(url, off)| *off && *url == mall.url);
        let limit = mall.places.min(left.max(mall.sure));
        if !off && limit > 0 && due.contains(mall.merchant.as_str()) {
            let before = tasks.len();
            claim_webhooks(connection, now, lease_ms, (&mall.merchant, limit), &mut tasks)?;
            left = left.saturating_sub(u32::try_from(tasks.len() - before).unwrap_or(u32::MAX));
        }
    }
    Ok(tasks)
}

fn claim_others(
    connection: &Connection,
    now: UnixMillis,
    lease_ms: i64,
    limit: u32,
) -> Result<Vec<Task>, StoreError> {
    let mut claim = connection.prepare_cached(
        "UPDATE tasks SET lease = coalesce(lease, 0) + 1, lease_until = ?1, tries = tries + 1 \
         WHERE id IN (SELECT id FROM tasks INDEXED BY due_others \
           WHERE kind <> 'webhook' AND done_at IS NULL AND due_at <= ?2 \
             AND (lease_until IS NULL OR lease_until <= ?2) ORDER BY due_at LIMIT ?3) \
         RETURNING id, kind, merchant_id, order_id, subject, tries, lease, due_at",
    )?;
    longest_due_first(claim.query(params![now.plus(lease_ms).0, now.0, limit])?)
}

/// `RETURNING` keeps no order, and who comes last may be sent away for a while: that must not be the same
/// again and again.
fn longest_due_first(mut rows: Rows<'_>) -> Result<Vec<Task>, StoreError> {
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        tasks.push((row.get::<_, i64>(7)?, task(row)?));
    }
    tasks.sort_by_key(|(due_at, _)| *due_at);
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

/// A mall's oldest due webhooks. Of those it passes, none but the ones in flight are not taken.
fn claim_webhooks(
    connection: &Connection,
    now: UnixMillis,
    lease_ms: i64,
    (merchant, limit): (&MerchantId, u32),
    tasks: &mut Vec<Task>,
) -> Result<(), StoreError> {
    let mut claim = connection.prepare_cached(
        "UPDATE tasks SET lease = coalesce(lease, 0) + 1, lease_until = ?1, tries = tries + 1 \
         WHERE id IN (SELECT id FROM tasks INDEXED BY due_webhooks \
           WHERE kind = 'webhook' AND done_at IS NULL AND merchant_id = ?3 AND due_at <= ?2 \
             AND (lease_until IS NULL OR lease_until <= ?2) ORDER BY due_at LIMIT ?4) \
         RETURNING id, kind, merchant_id, order_id, subject, tries, lease, due_at",
    )?;
    let due = params![now.plus(lease_ms).0, now.0, merchant.as_str(), limit];
    tasks.extend(longest_due_first(claim.query(due)?)?);
    Ok(())
}

/// Leaps from mall to mall over the index, whatever waits there.
fn malls_with_due_work(connection: &Connection, now: UnixMillis) -> Result<BTreeSet<String>, StoreError> {
    let mut query = connection.prepare_cached(
        "WITH RECURSIVE mall (id) AS ( \
           SELECT (SELECT merchant_id FROM tasks INDEXED BY due_webhooks \
             WHERE kind = 'webhook' AND done_at IS NULL ORDER BY merchant_id LIMIT 1) \
           UNION ALL \
           SELECT (SELECT merchant_id FROM tasks INDEXED BY due_webhooks \
             WHERE kind = 'webhook' AND done_at IS NULL AND merchant_id > mall.id \
             ORDER BY merchant_id LIMIT 1) FROM mall WHERE mall.id IS NOT NULL) \
         SELECT id FROM mall WHERE id IS NOT NULL AND EXISTS (SELECT 1 FROM tasks INDEXED BY due_webhooks \
           WHERE kind = 'webhook' AND done_at IS NULL AND merchant_id = mall.id AND due_at <= ?1)",
    )?;
    let rows = query.query_map([now.0], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The malls that take nothing now: at which address, and whether it is switched off.
fn failing(connection: &Connection) -> Result<BTreeMap<String, (String, bool)>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT merchant_id, url, disabled_at IS NOT NULL FROM endpoints")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A new address is a new chance: it is switched on, and everything that waits is due.
fn address_changed(connection: &Connection, mall: &Mall, now: UnixMillis) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE endpoints SET url = ?2, disabled_at = NULL WHERE merchant_id = ?1")?
        .execute([mall.merchant.as_str(), &mall.url])?;
    free(connection, &mall.merchant, u32::MAX, now)
}

/// Says what became of a task; see [`super::Store::finish_task`].
pub fn finish(
    connection: &Connection,
    task: &Task,
    outcome: &TaskOutcome,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (done_at, due, note, untried) = match outcome {
        TaskOutcome::Done(note) => (Some(now), None, note.as_deref(), 0),
        TaskOutcome::Again(due, note) => (None, Some(*due), note.as_deref(), 0),
        TaskOutcome::Postponed(due) => (None, Some(*due), None, 1),
        TaskOutcome::Sent(sent) => match &sent.then {
            Then::Delivered { .. } => (Some(now), None, None, 0),
            Then::Again(due) => (None, Some(*due), sent.status.as_ref().err().map(String::as_str), 0),
            Then::Gone => (None, Some(now), None, 0),
        },
    };
    let changed = connection
        .prepare_cached(
            "UPDATE tasks SET done_at = ?1, due_at = coalesce(?2, due_at), note = ?3, tries = tries - ?6, \
             lease_until = NULL WHERE id = ?4 AND lease = ?5 AND done_at IS NULL",
        )?
        .execute(params![done_at.map(|at| at.0), due.map(|at| at.0), note, task.id, task.lease, untried])?;
    match outcome {
        TaskOutcome::Sent(sent) if changed == 1 => write_down(connection, task, sent, now),
        // Another worker has the lease: what this one says is no longer asked.
        _ => Ok(()),
    }
}

/// The try itself, and what it says about the mall.
fn write_down(connection: &Connection, task: &Task, sent: &Sent, now: UnixMillis) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO deliveries (event_id, lease, at, status, error, answer, latency_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            task.subject,
            task.lease,
            sent.at.0,
            sent.status.as_ref().ok(),
            sent.status.as_ref().err(),
            sent.answer,
            sent.latency_ms,
        ])?;
    if task.lease > DELIVERIES_KEPT {
        connection
            .prepare_cached("DELETE FROM deliveries WHERE event_id = ?1 AND lease <= ?2")?
            .execute(params![task.subject, task.lease - DELIVERIES_KEPT])?;
    }
    match sent.then {
        Then::Delivered { ends: None } => Ok(()),
        Then::Delivered { ends: Some(outage) } => end_outage(connection, &task.merchant, outage, now),
        Then::Again(_) => begin_outage(connection, &task.merchant, &sent.url, now, None),
        Then::Gone => begin_outage(connection, &task.merchant, &sent.url, now, Some(now)),
    }
}

fn begin_outage(
    connection: &Connection,
    merchant: &MerchantId,
    url: &str,
    now: UnixMillis,
    disabled_at: Option<UnixMillis>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO endpoints (merchant_id, url, failing_since, disabled_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (merchant_id) DO UPDATE SET disabled_at = excluded.disabled_at \
             WHERE url = excluded.url AND disabled_at IS NULL AND excluded.disabled_at IS NOT NULL",
        )?
        .execute(params![merchant.as_str(), url, now.0, disabled_at.map(|at| at.0)])?;
    Ok(())
}

/// Everything that waits for the mall because of the outage is due now. Once: whoever comes second finds
/// the outage gone.
fn end_outage(
    connection: &Connection,
    merchant: &MerchantId,
    outage: Outage,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let ended = connection
        .prepare_cached("DELETE FROM endpoints WHERE merchant_id = ?1 AND failing_since = ?2")?
        .execute(params![merchant.as_str(), outage.since.0])?;
    if ended == 1 { free(connection, merchant, outage.frees, now) } else { Ok(()) }
}

/// What waits for a mall and had at most so many tries is due now.
fn free(
    connection: &Connection,
    merchant: &MerchantId,
    tries: u32,
    now: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE tasks INDEXED BY due_webhooks SET due_at = ?2 WHERE kind = 'webhook' \
             AND done_at IS NULL AND merchant_id = ?1 AND due_at > ?2 AND tries <= ?3",
        )?
        .execute(params![merchant.as_str(), now.0, tries])?;
    Ok(())
}

/// How much sooner than planned a query is due after a start: the usual pauses, up to ten minutes, become a
/// second at most, and longer ones (the clock was set back) a second, too. They keep their order: asking
/// takes its time, and were all due at the same moment, a process that is restarted every few seconds would
/// ask about the oldest again and again, and never about the rest.
const RESUME_SOONER: i64 = 600;

/// Frees every lease and makes queries due; see [`super::Store::resume`].
pub fn resume(connection: &Connection, now: UnixMillis) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE tasks INDEXED BY due_webhooks SET lease_until = NULL \
         WHERE kind = 'webhook' AND done_at IS NULL AND lease_until IS NOT NULL",
        [],
    )?;
    connection.execute(
        "UPDATE tasks INDEXED BY due_others SET lease_until = NULL, \
           due_at = CASE WHEN kind = 'query' AND due_at > ?1 THEN ?1 + min((due_at - ?1) / ?2, 1000) \
             ELSE due_at END \
         WHERE kind <> 'webhook' AND done_at IS NULL \
           AND (lease_until IS NOT NULL OR (kind = 'query' AND due_at > ?1))",
        [now.0, RESUME_SOONER],
    )?;
    Ok(())
}

/// The event with this `webhook-id`.
pub fn event(connection: &Connection, event_id: &str) -> Result<Option<StoredEvent>, StoreError> {
    let mut query = connection.prepare_cached(&format!("{EVENTS} WHERE e.event_id = ?1"))?;
    let mut rows = query.query([event_id])?;
    rows.next()?.map(stored_event).transpose()
}

/// A merchant's events after a position, oldest first.
pub fn events(
    connection: &Connection,
    merchant: &MerchantId,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut query = connection
        .prepare_cached(&format!("{EVENTS} WHERE e.merchant_id = ?1 AND e.id > ?2 ORDER BY e.id LIMIT ?3"))?;
    let mut rows = query.query(params![merchant.as_str(), after, limit])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(stored_event(row)?);
    }
    Ok(events)
}

/// The last tries of an event, oldest first.
pub fn deliveries(connection: &Connection, event_id: &str) -> Result<Vec<Try>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT at, status, error, answer, latency_ms FROM deliveries WHERE event_id = ?1 ORDER BY lease",
    )?;
    let rows = query.query_map([event_id], |row| {
        let (status, error): (Option<u16>, Option<String>) = (row.get(1)?, row.get(2)?);
        Ok(Try {
            at: UnixMillis(row.get(0)?),
            status: status.ok_or_else(|| error.unwrap_or_default()),
            answer: row.get(3)?,
            latency_ms: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How a mall fails now, if it does.
pub fn endpoint(connection: &Connection, merchant: &MerchantId) -> Result<Option<Endpoint>, StoreError> {
    let mut query = connection
        .prepare_cached("SELECT url, failing_since, disabled_at FROM endpoints WHERE merchant_id = ?1")?;
    let found = query.query_row([merchant.as_str()], |row| {
        Ok(Endpoint {
            url: row.get(0)?,
            failing_since: UnixMillis(row.get(1)?),
            disabled_at: row.get::<_, Option<i64>>(2)?.map(UnixMillis),
        })
    });
    Ok(found.optional()?)
}

/// Makes an event due now, from the beginning of its schedule, and switches the mall's address on again:
/// the mall asks for it. `false`: no such event of this merchant. A try under way is fenced off, so that
/// the one asked for is made in any case.
pub fn resend(
    connection: &Connection,
    merchant: &MerchantId,
    event_id: &str,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let again = connection
        .prepare_cached(
            "UPDATE tasks SET done_at = NULL, due_at = ?3, tries = 0, note = NULL, \
               lease = coalesce(lease, 0) + 1, lease_until = NULL \
             WHERE kind = 'webhook' AND subject = ?2 AND merchant_id = ?1",
        )?
        .execute(params![merchant.as_str(), event_id, now.0])?;
    connection
        .prepare_cached("UPDATE endpoints SET disabled_at = NULL WHERE merchant_id = ?1 AND ?2")?
        .execute(params![merchant.as_str(), again == 1])?;
    Ok(again == 1)
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

fn stored_event(row: &Row<'_>) -> Result<StoredEvent, StoreError> {
    let id: i64 = row.get(0)?;
    let bad = |what: String| StoreError::Inconsistent { table: "events", row: id.to_string(), what };
    Ok(StoredEvent {
        id,
        event_id: row.get(1)?,
        merchant: MerchantId::new(row.get::<_, String>(2)?).map_err(|error| bad(error.to_string()))?,
        kind: row.get(3)?,
        body: row.get(4)?,
        created_at: UnixMillis(row.get(5)?),
        delivery: Delivery {
            tries: row.get(6)?,
            due_at: UnixMillis(row.get(7)?),
            delivered_at: row.get::<_, Option<i64>>(8)?.map(UnixMillis),
            last_status: row.get(9)?,
            failing_since: row.get::<_, Option<i64>>(10)?.map(UnixMillis),
        },
    })
}

/// Every event is written with its task.
const EVENTS: &str = "SELECT e.id, e.event_id, e.merchant_id, e.kind, e.body, e.created_at, \
     t.tries, t.due_at, t.done_at, (SELECT d.status FROM deliveries d \
       WHERE d.event_id = e.event_id ORDER BY d.lease DESC LIMIT 1), \
       (SELECT n.failing_since FROM endpoints n WHERE n.merchant_id = e.merchant_id) \
     FROM events e JOIN tasks t ON t.kind = 'webhook' AND t.subject = e.event_id";
