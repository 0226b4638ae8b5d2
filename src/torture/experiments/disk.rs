//! A disk that is full, and a database that somebody holds locked: nothing that cannot be saved is answered
//! with success, and everything heals by itself.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use http::Method;
use rusqlite::Connection;
use serde_json::json;

use super::super::oracle::{Evidence, Ledger};
use super::super::table::{Row, span};
use super::super::world::World;
use super::super::{Plan, bare, child, evidence, oracle};
use crate::runtime::clock::Stopwatch;

/// Orders that are paid in the trouble.
const ORDERS: usize = 30;
/// How long the database is locked.
const LOCKED: Duration = Duration::from_secs(10);
/// How soon everything is well again.
const HEALS: Duration = Duration::from_secs(10);

/// The disk is full.
pub async fn full(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "full", 1).await?;
    std::fs::create_dir_all(world.database_dir())?;
    if let Some(why) = child::no_disk_of_its_own(&world.database_dir()) {
        world.end().await?;
        let why = format!("no disk of its own can be mounted: {why}");
        return Ok(vec![Row::not_run("disk: full", "no success", &why)]);
    }
    // Twice what must be left for the service to call itself ready.
    let disk = world.start_on_small_disk(128).await?;
    let codes = codes(&world).await?;
    let fill = disk.join("fill");
    let filled = fill_up(&fill)?;
    let refused = orders_refused(&world).await?;
    for code in &codes {
        world.hand().pay(code).await?;
    }
    // The gateways wait five seconds for an answer.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let unanswered = ORDERS - accepted(&evidence::ledger(&world).await?);
    std::fs::remove_file(&fill)?;
    let healed = heal(&world).await?;
    let mut all = until_told(&mut world).await?;
    world.rescue(&disk).await?;
    all.inbox = evidence::inbox(&world)?;
    let seen = format!(
        "{unanswered} of {ORDERS} notices and {refused} of {ORDERS} orders refused ({filled} B filled)"
    );
    let sound = bare::integrity(&world.database())?;
    let rows = vec![
        Row::new("disk: full", "refusals, not successes", seen, unanswered > 0 && refused > 0),
        Row::new("disk: space again, serving", "within 10 s", span(healed), healed <= HEALS),
        Row::new("disk: PRAGMA integrity_check", "ok", sound.clone(), sound == "ok"),
        oracle::row("disk", &all),
    ];
    world.end().await?;
    Ok(rows)
}

/// Somebody else holds the database for ten seconds.
pub async fn locked(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "locked", 1).await?;
    drop(world.start_here().await?);
    let codes = codes(&world).await?;
    let holder = Connection::open(world.database())?;
    holder.busy_timeout(Duration::from_secs(5))?;
    holder.execute_batch("BEGIN IMMEDIATE")?;
    let watch = Stopwatch::start();
    for code in &codes {
        world.hand().pay(code).await?;
    }
    let refused = orders_refused(&world).await?;
    if let Some(rest) = LOCKED.checked_sub(watch.elapsed()) {
        tokio::time::sleep(rest).await;
    }
    let answered = accepted(&evidence::ledger(&world).await?);
    holder.execute_batch("ROLLBACK")?;
    drop(holder);
    let healed = heal(&world).await?;
    evidence::drain(&mut world).await?;
    let all = evidence::gather(&world, Vec::new()).await?;
    let seen =
        format!("{answered} of {ORDERS} notices answered with success, {refused} of {ORDERS} orders refused");
    let rows = vec![
        Row::new("locked: for 10 s", "no success", seen, answered == 0 && refused == ORDERS),
        Row::new("locked: free again, serving", "within 10 s", span(healed), healed <= HEALS),
        oracle::row("locked", &all),
    ];
    world.end().await?;
    Ok(rows)
}

/// Waits until every notice was taken and every event told, by what can be asked over HTTP.
async fn until_told(world: &mut World) -> anyhow::Result<Evidence> {
    let watch = Stopwatch::start();
    loop {
        let all = evidence::told(world).await?;
        let events = all.events.len();
        if accepted(&all.ledger) == ORDERS && events >= ORDERS && all.told.len() == events {
            return Ok(all);
        }
        anyhow::ensure!(watch.elapsed() < Duration::from_mins(1), "not all is told after a minute");
        world.advance(60_000).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Codes that are paid once the trouble is there.
async fn codes(world: &World) -> anyhow::Result<Vec<String>> {
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    let mut codes = Vec::new();
    for index in 0..ORDERS {
        let number = format!("F{index:06}");
        hand.order(&mall, &number, 100).await?;
        codes.push(hand.code(&mall, &number, if index.is_multiple_of(2) { "wx" } else { "ali" }).await?);
    }
    Ok(codes)
}

/// How many of as many new orders are not taken now.
async fn orders_refused(world: &World) -> anyhow::Result<usize> {
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    let asks = (0..ORDERS).map(|index| {
        let (hand, mall) = (hand.clone(), mall.clone());
        let body = json!({
            "order_type": "Order", "order_number": format!("G{index:06}"), "title": "torture",
            "total_fee": 100,
        });
        async move { hand.call(&mall, Method::POST, "/rest/orders", &body).await }
    });
    let answers = futures_util::future::join_all(asks).await;
    Ok(answers.iter().filter(|answer| !answer.as_ref().is_ok_and(|reply| reply.status.is_success())).count())
}

fn accepted(ledger: &Ledger) -> usize {
    ledger.notices.iter().filter(|notice| notice.attempts.iter().any(|one| one.accepted)).count()
}

/// Writes until nothing goes in any more.
fn fill_up(path: &Path) -> anyhow::Result<u64> {
    let mut file = File::create(path)?;
    let mut written = 0_u64;
    for size in [65_536, 4_096, 1] {
        let block = vec![0_u8; size];
        while file.write_all(&block).is_ok() {
            written += u64::try_from(size)?;
        }
    }
    Ok(written)
}

/// Until an order can be placed, pushed and read again.
async fn heal(world: &World) -> anyhow::Result<Duration> {
    let watch = Stopwatch::start();
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    hand.order(&mall, "H000001", 100).await?;
    hand.code(&mall, "H000001", "wx").await?;
    while !child::ready(world.service).await {
        anyhow::ensure!(watch.elapsed() < Duration::from_mins(1), "not ready after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(watch.elapsed())
}
