//! kill -9 of the service under load, at random times, again and again; then the oracle.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::super::dice::Dice;
use super::super::evidence;
use super::super::load::{Journal, Load};
use super::super::mall::Mood;
use super::super::table::{Row, Spread, span, thousands};
use super::super::world::World;
use super::super::{Plan, bare, oracle};
use crate::runtime::clock::Stopwatch;

/// Shoppers a second. A service that has just started asks the gateways at a measured pace (`server::pace`),
/// and here it lives for less than two seconds: what shoppers leave to be closed, refunded and asked about
/// must not be more than that, or it piles up for as long as this goes on.
const PACE: u64 = 40;
/// How far the clocks go ahead with each kill, in ms: leases run out, codes and orders end, and who walked
/// away is not asked about for ever.
const LEAP_MS: i64 = 900_000;
/// How soon it must serve again.
const AGAIN: Duration = Duration::from_secs(2);

/// All of it.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "kills", 1).await?;
    world.start_child(None).await?;
    world.faults(trouble()).await?;
    world.mall()?.set(Mood::Moody);
    let load = Load::start(world.hand(), world.mall()?.clone(), plan.seed, PACE);
    let mut dice = Dice::new(plan.seed, 0);
    let mut again = Spread::default();
    let whole = Stopwatch::start();
    for kill in 0..plan.kills {
        tokio::time::sleep(Duration::from_millis(dice.between(200, 3_000))).await;
        world.kill()?;
        let took = world.start_child(None).await.with_context(|| format!("after kill {kill}"))?;
        again.add(took);
        world.advance(LEAP_MS).await?;
    }
    let took = whole.elapsed();
    let journal = see_out(&mut world, load).await?;
    evidence::drain(&mut world).await.context("after the kills")?;
    let mut rows = vec![
        Row::new(
            format!("kills: {} under load, serving again", thousands(usize::try_from(plan.kills)?)),
            "within 2 s",
            format!("{again}; in {}", span(took)),
            again.max() <= AGAIN,
        ),
        Row::none("kills: shoppers that got stuck", "0", &journal.stuck),
    ];
    let strange = world.mall()?.unbelievable();
    rows.push(Row::new("kills: webhooks that were not signed right", "0", strange.to_string(), strange == 0));
    let shoppers = thousands(journal.shoppers);
    let all = evidence::gather(&world, journal.sightings).await?;
    let accepted = all.ledger.notices.iter().flat_map(|notice| &notice.attempts).filter(|one| one.accepted);
    let notices = thousands(accepted.count());
    rows.push(Row::told("kills: load", format!("{shoppers} shoppers, {notices} notices acknowledged")));
    rows.extend(oracle::judge(&all).iter().map(|finding| finding.row("kills")));
    world.stop_service().await?;
    let sound = bare::integrity(&world.database())?;
    rows.push(Row::new("kills: PRAGMA integrity_check", "ok", sound.clone(), sound == "ok"));
    world.end().await?;
    Ok(rows)
}

/// Waits for the last shoppers. Some wait for a notice that was dropped: time flies for them.
async fn see_out(world: &mut World, load: Load) -> anyhow::Result<Journal> {
    let mut leaving = std::pin::pin!(load.end());
    loop {
        tokio::select! {
            journal = &mut leaving => return journal,
            () = tokio::time::sleep(Duration::from_secs(1)) => world.advance(15_000).await?,
        }
    }
}

/// What gateways and networks do to each other on a bad day.
fn trouble() -> serde_json::Value {
    json!([
        { "on": "notify", "kind": "drop", "rate": 0.05 },
        { "on": "notify", "kind": "duplicate", "rate": 0.1, "copies": 3 },
        { "on": "notify", "kind": "forged", "rate": 0.02 },
        { "on": "notify", "kind": "truncated", "rate": 0.02 },
        { "on": "notify", "kind": "reorder", "rate": 0.05, "delay_ms": 200 },
        { "on": "call", "kind": "cut_after", "rate": 0.03 },
        { "on": "call", "kind": "5xx", "rate": 0.03 },
        { "on": "call", "kind": "systemerror", "rate": 0.02 },
    ])
}
