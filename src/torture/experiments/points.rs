//! The process dies at every named point, once each: it must come there, and after a restart everything must
//! hold as if it had not died. What shoppers and malls were about is asked again by them, as in life.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::super::mall::Mall;
use super::super::table::{Row, Spread};
use super::super::world::{Hand, World};
use super::super::{Plan, bare, evidence, oracle};
use crate::runtime::crash::Point;

/// How long a point may take to be reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// An order is placed, pushed and paid.
    Paid,
    /// The mall closes an order with a code.
    Closed,
    /// The mall gives some of a payment back.
    Refunded,
    /// An order's time runs out.
    Expired,
}

/// All points.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "points", 1).await?;
    let (mut again, mut not_reached, mut broken) = (Spread::default(), Vec::new(), Vec::new());
    for (index, point) in Point::ALL.iter().enumerate() {
        world.start_child(Some((*point, 1))).await?;
        let story = story(*point);
        let (hand, mall, number) = (world.hand(), world.mall()?.clone(), format!("C{index:05}"));
        let told = tokio::spawn(async move { tell(&hand, &mall, &number, story).await });
        if !lead_to(&mut world, story).await? {
            not_reached.push(point.to_string());
            world.kill()?;
        }
        again.add(world.start_child(None).await?);
        if let Err(error) = told.await? {
            broken.push(format!("{point}: {error:#}"));
        }
        if let Err(error) = evidence::drain(&mut world).await {
            broken.push(format!("{point}: {error:#}"));
        }
        let all = evidence::gather(&world, Vec::new()).await?;
        for finding in oracle::judge(&all) {
            broken.extend(finding.broken.iter().map(|what| format!("{point}: {}: {what}", finding.name)));
        }
        world.stop_service().await?;
    }
    let sound = bare::integrity(&world.database())?;
    world.end().await?;
    let what = format!("points: died at {} named points", Point::ALL.len());
    let limit = Duration::from_secs(2);
    Ok(vec![
        Row::none(format!("{what}, reached"), "all of them", &not_reached),
        Row::none(format!("{what}, I1-I7"), "0 broken", &broken),
        Row::new("points: serving again", "within 2 s", again.to_string(), again.max() <= limit),
        Row::new("points: PRAGMA integrity_check", "ok", sound.clone(), sound == "ok"),
    ])
}

const fn story(point: Point) -> Story {
    match point {
        Point::AcceptRead
        | Point::AcceptVerified
        | Point::AcceptBeforeCommit
        | Point::AcceptAfterCommit
        | Point::AcceptBeforeAnswer
        | Point::PushCommitted
        | Point::PushAnswered
        | Point::PushSaved
        | Point::DeliverClaimed
        | Point::DeliverBeforeSend
        | Point::DeliverTaken
        | Point::DeliverSaved => Story::Paid,
        Point::CloseQueried | Point::CloseClosed | Point::CloseQueriedAgain => Story::Closed,
        Point::RefundAsked | Point::RefundCalled | Point::RefundAnswered | Point::RefundSaved => {
            Story::Refunded
        }
        Point::ExpireClaimed | Point::ExpireSaved => Story::Expired,
    }
}

/// Waits until the child is dead, and moves the clock where the story needs it.
async fn lead_to(world: &mut World, story: Story) -> anyhow::Result<bool> {
    if story != Story::Expired {
        return world.until_dead(PATIENCE).await;
    }
    for _ in 0..10 {
        if world.until_dead(Duration::from_secs(1)).await? {
            return Ok(true);
        }
        world.advance(61_000).await?;
    }
    Ok(false)
}

/// What mall and shopper do, insisting.
async fn tell(hand: &Hand, mall: &Mall, number: &str, story: Story) -> anyhow::Result<()> {
    let order = format!("/rest/orders/Order/{number}");
    match story {
        Story::Paid => {
            hand.order(mall, number, 100).await?;
            hand.pay(&hand.code(mall, number, "wx").await?).await?;
        }
        Story::Closed => {
            hand.order(mall, number, 100).await?;
            hand.code(mall, number, "wx").await?;
            let closed = hand.insist(mall, Method::POST, &format!("{order}/close"), &Value::Null).await?;
            anyhow::ensure!(closed.status.is_success(), "not closed: {}", closed.data);
        }
        Story::Refunded => {
            hand.order(mall, number, 100).await?;
            hand.pay(&hand.code(mall, number, "ali").await?).await?;
            hand.until(mall, number, "paid").await?;
            let body = json!({ "refund_number": format!("R{number}"), "amount": 40 });
            let asked = hand.insist(mall, Method::POST, &format!("{order}/refunds"), &body).await?;
            anyhow::ensure!(asked.status.is_success(), "not refunded: {}", asked.data);
        }
        Story::Expired => {
            let body = json!({
                "order_type": "Order", "order_number": number, "title": "torture", "total_fee": 100,
                "expires_in": 60,
            });
            hand.insist(mall, Method::POST, "/rest/orders", &body).await?;
        }
    }
    Ok(())
}
