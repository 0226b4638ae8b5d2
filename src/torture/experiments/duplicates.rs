//! 64 copies of one notice at the same moment, order after order: one effect each, and 64 times success.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::Mutex;

use super::super::line::Line;
use super::super::table::{Row, Spread, thousands};
use super::super::world::World;
use super::super::{Plan, evidence};
use super::notices::seed;
use crate::runtime::clock::Stopwatch;

/// Copies of each notice.
const COPIES: usize = 64;
/// Orders.
const ORDERS: usize = 1_000;
/// What the slowest hundredth may take.
const SOON: Duration = Duration::from_millis(250);

/// All of it.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "duplicates", 1).await?;
    let checkout = world.start_here().await?;
    let notices = seed(&world, &checkout, ORDERS).await?;
    drop(checkout);
    let lines = try_join_all((0..COPIES).map(|_| Line::open(world.service))).await?;
    let lines: Vec<_> = lines.into_iter().map(|line| Arc::new(Mutex::new(line))).collect();
    let (mut spread, mut refused) = (Spread::default(), Vec::new());
    for notice in notices {
        let notice = Arc::new(notice);
        let copies = lines.iter().map(|line| {
            let (line, notice) = (line.clone(), notice.clone());
            tokio::spawn(async move {
                let mut line = line.lock().await;
                let watch = Stopwatch::start();
                let answer = line.exchange(&notice).await?;
                anyhow::Ok((answer, watch.elapsed()))
            })
        });
        for copy in try_join_all(copies).await? {
            let (answer, took) = copy?;
            spread.add(took);
            if !answer.is_success() {
                refused.push(String::from_utf8_lossy(&answer.body).into_owned());
            }
        }
    }
    evidence::webhooks_told(&world).await?;
    let (paid, told) = (effects(&world)?, told_once(&world)?);
    world.end().await?;
    let what = format!("duplicates: {COPIES} copies x {} orders", thousands(ORDERS));
    Ok(vec![
        Row::none(format!("{what}, refused"), "64 success answers each", &refused),
        Row::none(format!("{what}, effects"), "exactly one each", &paid),
        Row::none("duplicates: order.paid at the mall", "exactly one each", &told),
        Row::new(
            "duplicates: time to answer",
            "p99 < 250 ms",
            spread.to_string(),
            spread.percentile(99) < SOON,
        ),
    ])
}

/// Orders with another number of effects than one payment and one event.
fn effects(world: &World) -> anyhow::Result<Vec<String>> {
    let connection = evidence::look(world)?;
    let mut query = connection.prepare(
        "SELECT order_number, state, version, \
           (SELECT count(*) FROM payments WHERE order_id = orders.id), \
           (SELECT count(*) FROM events WHERE order_id = orders.id) FROM orders ORDER BY id",
    )?;
    let mut rows = query.query([])?;
    let (mut broken, mut orders) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (number, state): (String, String) = (row.get(0)?, row.get(1)?);
        let counts: (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        if (state.as_str(), counts) != ("paid", (2, 1, 1)) {
            broken.push(format!("order {number} is {state}; version, payments, events: {counts:?}"));
        }
        orders += 1;
    }
    if orders != ORDERS {
        broken.push(format!("{orders} orders in place of {ORDERS}"));
    }
    Ok(broken)
}

/// Orders that their mall was not told of once.
fn told_once(world: &World) -> anyhow::Result<Vec<String>> {
    let told = world.mall()?.told();
    let mut numbers: Vec<&str> = told.values().map(|one| one.number.as_str()).collect();
    numbers.sort_unstable();
    let twice = numbers.iter().zip(numbers.iter().skip(1)).filter(|(one, next)| one == next);
    let mut broken: Vec<String> = twice.map(|(number, _)| format!("order {number} twice")).collect();
    if numbers.len() != ORDERS {
        broken.push(format!("{} events in place of {ORDERS}", numbers.len()));
    }
    Ok(broken)
}
