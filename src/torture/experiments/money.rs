//! Money in the wrong place or at the wrong time: two channels pay one order, a closed order is paid. None of
//! it may be silent: it is recorded, told, and goes back once.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Method;
use serde_json::{Value, json};

use super::super::mall::Mall;
use super::super::oracle::Anomaly;
use super::super::table::{Row, thousands};
use super::super::world::{Hand, World};
use super::super::{Plan, evidence, oracle};

/// Orders of each experiment.
const ORDERS: usize = 1_000;
/// Shoppers at the same time.
const CROWD: usize = 16;

/// Two channels pay one order at the same moment.
pub async fn races(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "races", 1).await?;
    drop(world.start_here().await?);
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    crowd(|index| race(&hand, &mall, index)).await?;
    evidence::drain(&mut world).await?;
    let all = evidence::gather(&world, Vec::new()).await?;
    let mut broken = Vec::new();
    for order in &all.orders {
        let second: Vec<_> = order.anomalies.iter().map(|one| (one.kind.as_str(), given_back(one))).collect();
        if order.payments.len() != 1 || second != [("duplicate", true)] {
            broken.push(format!("order {} is {} with {second:?}", order.number, order.state));
        }
    }
    let both = all.ledger.trades.iter().filter(|trade| trade.state == "SUCCESS").count();
    let what = format!("races: two channels pay, {} orders", thousands(ORDERS));
    let mut rows = vec![
        Row::none(what, "one paid, one refunded once", &broken),
        Row::new("races: trades paid at the gateways", "two each", thousands(both), both == 2 * ORDERS),
    ];
    rows.push(oracle::row("races", &all));
    world.end().await?;
    Ok(rows)
}

async fn race(hand: &Hand, mall: &Mall, index: usize) -> anyhow::Result<()> {
    let number = format!("R{index:06}");
    hand.order(mall, &number, 100).await?;
    let (wx, ali) = (hand.code(mall, &number, "wx").await?, hand.code(mall, &number, "ali").await?);
    for code in [&wx, &ali] {
        hand.emulator(Method::POST, "/scan", json!({ "code": code })).await?;
    }
    let (one, two) = tokio::join!(hand.pay(&wx), hand.pay(&ali));
    one.and(two).map(drop)
}

/// Orders are closed, and then paid; some while they are being closed.
pub async fn late(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "late", 1).await?;
    drop(world.start_here().await?);
    let (hand, mall) = (world.hand(), world.mall()?.clone());
    // Time for the shopper to pay between the query and the close.
    let slow = json!([{ "on": "wx.closeorder", "kind": "delay", "delay_ms": 100 }]);
    world.faults(slow).await?;
    crowd(|index| pay_late(&hand, &mall, index)).await?;
    evidence::drain(&mut world).await?;
    let all = evidence::gather(&world, Vec::new()).await?;
    let (mut broken, mut late, mut paid, mut unpaid) = (Vec::new(), 0, 0, 0);
    for order in &all.orders {
        let after: Vec<_> = order.anomalies.iter().map(|one| (one.kind.as_str(), given_back(one))).collect();
        match (order.state.as_str(), after.as_slice()) {
            ("closed", [("late", true)]) => late += 1,
            // In time all the same: the gateway's word beats our clock.
            ("paid", []) => paid += 1,
            ("closed", []) => unpaid += 1,
            _ => broken.push(format!("order {} is {} with {after:?}", order.number, order.state)),
        }
    }
    let what = format!("late: paid after the close, {} orders", thousands(ORDERS));
    let counts = format!("{late} late and refunded, {paid} paid during the close, {unpaid} unpaid");
    let mut rows = vec![
        Row::none(what, "0 silent", &broken),
        Row::new("late: what became of them", "4 of 5 late", counts, late >= ORDERS / 5 * 4),
    ];
    rows.push(oracle::row("late", &all));
    world.end().await?;
    Ok(rows)
}

/// An Alipay code that nobody scanned cannot be closed there; at WeChat the shopper is faster than the close.
async fn pay_late(hand: &Hand, mall: &Mall, index: usize) -> anyhow::Result<()> {
    let number = format!("L{index:06}");
    let close = format!("/rest/orders/Order/{number}/close");
    hand.order(mall, &number, 100).await?;
    if index.is_multiple_of(5) {
        let code = hand.code(mall, &number, "wx").await?;
        hand.insist(mall, Method::POST, &close, &Value::Null).await?;
        return match hand.pay(&code).await {
            // The close was faster: nothing is paid.
            Err(error) if error.to_string().contains("\"closed\"") => Ok(()),
            paid => paid.map(drop),
        };
    }
    let code = hand.code(mall, &number, "ali").await?;
    hand.insist(mall, Method::POST, &close, &Value::Null).await?;
    hand.until(mall, &number, "closed").await?;
    hand.pay(&code).await.map(drop)
}

/// Whether money that paid nothing is back with the shopper.
fn given_back(anomaly: &Anomaly) -> bool {
    anomaly.refund_state.as_deref() == Some("succeeded")
}

/// One shopper for each order, some at the same time.
async fn crowd<F: Future<Output = anyhow::Result<()>>>(visit: impl Fn(usize) -> F) -> anyhow::Result<()> {
    stream::iter(0..ORDERS).map(visit).buffer_unordered(CROWD).try_collect().await
}
