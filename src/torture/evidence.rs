//! Gathers what the oracle compares: the emulator's ledger, what the service's API says, its inbox, and the
//! malls' books. And waits until there is nothing left to do, moving the clocks to where there is.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::mall::{self, Mall, Mood};
use super::oracle::{Event, Evidence, Ledger, Order, Sighting, Stored};
use super::world::{Hand, World};
use crate::runtime::clock::Stopwatch;

/// A read-only look into the database, beside the running service.
///
/// # Errors
/// It cannot be opened.
pub fn look(world: &World) -> anyhow::Result<Connection> {
    let connection = Connection::open_with_flags(world.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// The emulator's books.
///
/// # Errors
/// It does not tell.
pub async fn ledger(world: &World) -> anyhow::Result<Ledger> {
    Ok(serde_json::from_value(world.emulator(Method::GET, "/ledger", Value::Null).await?)?)
}

/// Everything, of all malls.
///
/// # Errors
/// Somebody does not tell.
pub async fn gather(world: &World, sightings: Vec<Vec<Sighting>>) -> anyhow::Result<Evidence> {
    let mut evidence = told(world).await?;
    (evidence.inbox, evidence.sightings) = (inbox(world)?, sightings);
    Ok(evidence)
}

/// Everything that can be asked over HTTP.
///
/// # Errors
/// Somebody does not tell.
pub async fn told(world: &World) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence { ledger: ledger(world).await?, ..Evidence::default() };
    let hand = world.hand();
    for mall in &world.malls {
        evidence.orders.extend(orders(&hand, mall).await?);
        evidence.events.extend(events(&hand, mall).await?);
        evidence.told.extend(mall.told().iter().map(|(id, told)| (id.clone(), told.clone())));
    }
    Ok(evidence)
}

async fn orders(hand: &Hand, mall: &Mall) -> anyhow::Result<Vec<Order>> {
    #[derive(Deserialize)]
    struct Page {
        orders: Vec<Order>,
        cursor: Option<String>,
    }
    let mut all = Vec::new();
    let mut path = "/rest/orders".to_owned();
    loop {
        let reply = hand.insist(mall, Method::GET, &path, &Value::Null).await?;
        let page: Page = serde_json::from_value(reply.data).context(path)?;
        all.extend(page.orders);
        let Some(cursor) = page.cursor else { return Ok(all) };
        path = format!("/rest/orders?cursor={cursor}");
    }
}

/// What the mall can read afterwards, byte for byte.
async fn events(hand: &Hand, mall: &Mall) -> anyhow::Result<Vec<Event>> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Page,
    }
    #[derive(Deserialize)]
    struct Page {
        events: Vec<Listed>,
        after: i64,
    }
    #[derive(Deserialize)]
    struct Listed {
        id: String,
        r#type: String,
        payload: Box<RawValue>,
    }
    #[derive(Deserialize)]
    struct Payload {
        data: Sighting,
    }
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let bytes = hand.bytes(mall, &format!("/rest/events?after={after}")).await?;
        let Envelope { data: page } = serde_json::from_slice(&bytes)?;
        if page.events.is_empty() {
            return Ok(all);
        }
        after = page.after;
        for listed in page.events {
            let Payload { data } = serde_json::from_str(listed.payload.get())?;
            let hash = mall::hash(listed.payload.get().as_bytes());
            all.push(Event { id: listed.id, kind: listed.r#type, hash, sighting: data });
        }
    }
}

/// What the service keeps of notices, and how many rows of each.
///
/// # Errors
/// It cannot be read.
pub fn inbox(world: &World) -> anyhow::Result<HashMap<Stored, usize>> {
    let connection = look(world)?;
    let mut query = connection.prepare(
        "SELECT channel, out_trade_no, verdict, count(*) FROM inbox WHERE out_trade_no IS NOT NULL \
         GROUP BY channel, out_trade_no, verdict",
    )?;
    let rows = query.query_map([], |row| {
        let rows = usize::try_from(row.get::<_, u32>(3)?).unwrap_or(usize::MAX);
        Ok(((row.get(0)?, row.get(1)?, row.get(2)?), rows))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Everything in the database but the inbox: what a notice that is not believed must leave alone.
///
/// # Errors
/// It cannot be read.
pub fn dump(world: &World) -> anyhow::Result<Vec<(String, Vec<Vec<Cell>>)>> {
    let connection = look(world)?;
    let mut names = connection.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
         AND name NOT IN ('inbox', 'meta') ORDER BY name",
    )?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut tables = Vec::new();
    for name in names {
        let mut query = connection.prepare(&format!("SELECT * FROM {name} ORDER BY 1"))?;
        let width = query.column_count();
        let rows = query.query_map([], |row| (0..width).map(|column| row.get(column)).collect())?;
        tables.push((name, rows.collect::<Result<_, _>>()?));
    }
    Ok(tables)
}

/// Takes all faults away and waits until nothing is left to do: no task open, every notice answered. Moves
/// the clocks ahead to where the next thing is due.
///
/// # Errors
/// For two minutes nothing became less; it says what is left.
pub async fn drain(world: &mut World) -> anyhow::Result<()> {
    world.faults(serde_json::json!([])).await?;
    for mall in &world.malls {
        mall.set(Mood::Well);
    }
    let (mut least, mut since) = ((i64::MAX, usize::MAX), Stopwatch::start());
    let mut unanswered = usize::MAX;
    loop {
        let now = world.clock.now().0;
        let (open, due, next) = tasks(world, now)?;
        if due == 0 {
            unanswered = self::unanswered(&ledger(world).await?);
            if open == 0 && unanswered == 0 {
                return Ok(());
            }
            // Not too far at once: what falls due on the way has its own time. Not too little either: what
            // thousands of shoppers left is spread over minutes.
            let step = next.map_or(60_000, |next| (next - now).clamp(60_000, 3_600_000));
            world.advance(if unanswered > 0 { step.min(240_000) } else { step }).await?;
        }
        if (open, unanswered) < least {
            (least, since) = ((open, unanswered), Stopwatch::start());
        }
        if since.elapsed() > Duration::from_mins(2) {
            bail!("after two minutes {open} tasks open, {due} of them due, {unanswered} notices unanswered");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Waits until every notice was answered with success.
///
/// # Errors
/// One was not, after ten seconds.
pub async fn notices_answered(world: &World) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(10) {
        if unanswered(&ledger(world).await?) == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("notices are left unanswered after ten seconds")
}

/// Waits until no webhook is due.
///
/// # Errors
/// One is, after a minute.
pub async fn webhooks_told(world: &World) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_mins(1) {
        let sql = "SELECT count(*) FROM tasks WHERE done_at IS NULL AND kind = 'webhook'";
        let open: i64 = look(world)?.query_row(sql, [], |row| row.get(0))?;
        if open == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("webhooks are left after a minute")
}

/// How many tasks are open, how many of them due, and when the next one is.
fn tasks(world: &World, now: i64) -> anyhow::Result<(i64, i64, Option<i64>)> {
    let connection = look(world)?;
    let sql = "SELECT count(*), coalesce(sum(due_at <= ?1), 0), min(CASE WHEN due_at > ?1 THEN due_at END) \
               FROM tasks WHERE done_at IS NULL";
    Ok(connection.query_row(sql, [now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
}

fn unanswered(ledger: &Ledger) -> usize {
    ledger.notices.iter().filter(|notice| !notice.attempts.iter().any(|one| one.accepted)).count()
}
