//! Gateways that say nothing, or the wrong thing: all notices dropped, and calls whose work is done and whose
//! answer is lost. The query is the guarantee; the same request asked again is done once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Method;
use serde_json::json;

use super::super::mall::Mall;
use super::super::table::{Row, Spread, thousands};
use super::super::world::{Hand, World};
use super::super::{Plan, evidence, oracle};
use crate::runtime::clock::Stopwatch;

/// Shoppers at the same time.
const CROWD: usize = 32;

/// Every notice is dropped.
pub async fn dropped(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let orders = if plan.long { 10_000 } else { 1_000 };
    let mut world = World::new(&plan.ground, "dropped", 1).await?;
    drop(world.start_here().await?);
    world.faults(json!([{ "on": "notify", "kind": "drop" }])).await?;
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    let channel = |index: usize| if index.is_multiple_of(2) { "wx" } else { "ali" };
    let visit = |index| {
        let (hand, mall) = (&hand, &mall);
        async move {
            let number = format!("D{index:06}");
            hand.order(mall, &number, 100).await?;
            let code = hand.code(mall, &number, channel(index)).await?;
            hand.pay(&code).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(0..orders).map(visit).buffer_unordered(CROWD).try_collect::<()>().await?;
    let due = due_queries(&world)?;
    // Second by second of business time, each with time enough for what falls due in it.
    for _ in 0..180 {
        world.advance(1_000).await?;
        quiet(&world).await?;
        if unpaid(&world)? == 0 {
            break;
        }
    }
    let (mut spread, mut broken) = (Spread::default(), Vec::new());
    let recorded = recorded(&world)?;
    for (order, due) in &due {
        match recorded.get(order) {
            Some(at) => spread.add(Duration::from_millis(u64::try_from((at - due).max(0))?)),
            None => broken.push(format!("order {order} is unknown")),
        }
    }
    let limit = Duration::from_mins(1);
    let what = format!("dropped: all notices of {} orders", thousands(orders));
    let mut rows = vec![
        Row::none(what, "every order known", &broken),
        Row::new(
            "dropped: business time from due query",
            "within 60 s",
            spread.to_string(),
            spread.max() <= limit,
        ),
    ];
    evidence::drain(&mut world).await?;
    rows.push(oracle::row("dropped", &evidence::gather(&world, Vec::new()).await?));
    world.end().await?;
    Ok(rows)
}

/// When the first query of each order is due.
fn due_queries(world: &World) -> anyhow::Result<BTreeMap<i64, i64>> {
    let connection = evidence::look(world)?;
    let sql = "SELECT order_id, min(due_at) FROM tasks WHERE kind = 'query' GROUP BY order_id";
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When each order became paid, in business time.
fn recorded(world: &World) -> anyhow::Result<BTreeMap<i64, i64>> {
    let connection = evidence::look(world)?;
    let mut query = connection.prepare("SELECT order_id, recorded_at FROM payments WHERE kind = 'paid'")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn unpaid(world: &World) -> anyhow::Result<i64> {
    let sql = "SELECT count(*) FROM orders WHERE state <> 'paid'";
    Ok(evidence::look(world)?.query_row(sql, [], |row| row.get(0))?)
}

/// Waits until no query is due. Gateways are not asked faster than they like, so that takes its time: it
/// gives up only when nothing becomes less.
async fn quiet(world: &World) -> anyhow::Result<()> {
    let (mut least, mut since) = (i64::MAX, Stopwatch::start());
    while since.elapsed() < Duration::from_secs(30) {
        let sql = "SELECT count(*) FROM tasks WHERE done_at IS NULL AND kind = 'query' AND due_at <= ?1";
        let due: i64 = evidence::look(world)?.query_row(sql, [world.clock.now().0], |row| row.get(0))?;
        if due == 0 {
            return Ok(());
        }
        if due < least {
            (least, since) = (due, Stopwatch::start());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{least} queries are due and not made for half a minute")
}

/// Three calls in ten do their work, and their answer is lost.
pub async fn timeouts(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let orders = if plan.long { 2_000 } else { 300 };
    let mut world = World::new(&plan.ground, "timeouts", 1).await?;
    drop(world.start_here().await?);
    world
        .faults(json!([
            { "on": "call", "kind": "cut_after", "rate": 0.12, "seed": plan.seed },
            { "on": "call", "kind": "status_after", "rate": 0.12, "status": 502, "seed": plan.seed },
            { "on": "call", "kind": "truncated", "rate": 0.04, "seed": plan.seed },
            // Longer than the service waits.
            { "on": "call", "kind": "delay_after", "rate": 0.02, "delay_ms": 11_000, "seed": plan.seed },
        ]))
        .await?;
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    let visits = stream::iter(0..orders).map(|index| pay_and_return(&hand, &mall, index));
    visits.buffer_unordered(CROWD).try_collect::<()>().await?;
    evidence::drain(&mut world).await?;
    let all = evidence::gather(&world, Vec::new()).await?;
    let mut paid = BTreeMap::new();
    for trade in all.ledger.trades.iter().filter(|trade| trade.state == "SUCCESS") {
        let order = trade.out_trade_no.get(..7).unwrap_or_default().to_owned();
        *paid.entry(order).or_insert(0_usize) += 1;
    }
    let double: Vec<String> = paid
        .iter()
        .filter(|(_, count)| **count != 1)
        .map(|(order, count)| format!("{order}: {count}"))
        .collect();
    let what = format!("timeouts: 30% of calls, {} orders", thousands(orders));
    let rows = vec![
        Row::none(format!("{what}, double charges"), "0", &double),
        Row::none("timeouts: left unknown afterwards", "0", &unknown(&world)?),
        Row::told(
            "timeouts: at the gateways",
            format!("{} paid, {} refunds", paid.len(), all.ledger.refunds.len()),
        ),
        oracle::row("timeouts", &all),
    ];
    world.end().await?;
    Ok(rows)
}

async fn pay_and_return(hand: &Hand, mall: &Mall, index: usize) -> anyhow::Result<()> {
    let number = format!("O{index:06}");
    hand.order(mall, &number, 100).await?;
    let code = hand.code(mall, &number, if index.is_multiple_of(2) { "wx" } else { "ali" }).await?;
    hand.pay(&code).await?;
    if index.is_multiple_of(3) {
        hand.until(mall, &number, "paid").await?;
        let body = json!({ "refund_number": format!("B{number}"), "amount": 60 });
        let path = format!("/rest/orders/Order/{number}/refunds");
        let asked = hand.insist(mall, Method::POST, &path, &body).await?;
        anyhow::ensure!(asked.status.is_success(), "not refunded: {}", asked.data);
    }
    Ok(())
}

/// Attempts and refunds whose outcome nobody knows.
fn unknown(world: &World) -> anyhow::Result<Vec<String>> {
    let connection = evidence::look(world)?;
    let mut query = connection.prepare(
        "SELECT 'attempt ' || out_trade_no || ' is ' || state FROM attempts WHERE state = 'opening' \
         UNION ALL SELECT 'refund ' || out_refund_no || ' is ' || state FROM refunds \
         WHERE state IN ('asked', 'processing')",
    )?;
    let rows = query.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
