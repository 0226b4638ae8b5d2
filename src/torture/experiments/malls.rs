//! A mall that is dead for 80 hours of business time, first hanging, then refusing: every event reaches it
//! when it is back, and another mall is told as if nothing were wrong.

use std::time::Duration;

use super::super::mall::{Mall, Mood};
use super::super::table::{Row, Spread, thousands};
use super::super::world::World;
use super::super::{Plan, evidence, oracle};
use crate::runtime::clock::Clock;

/// How long it is dead, in hours.
const DEAD_H: usize = 80;
/// How many of those it hangs in place of refusing.
const HANGING_H: usize = 5;
/// Orders of each mall in each hour.
const ORDERS: usize = 3;
/// What the slowest hundredth of the other mall's webhooks may take.
const SOON: Duration = Duration::from_secs(5);

/// All of it.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "malls", 2).await?;
    drop(world.start_here().await?);
    let [dead, other] = world.malls.as_slice() else { anyhow::bail!("not two malls") };
    let (dead, other) = (dead.clone(), other.clone());
    let mut paid = Vec::new();
    for hour in 0..DEAD_H {
        dead.set(if hour < HANGING_H { Mood::Hanging } else { Mood::Dead });
        for index in 0..ORDERS {
            pay(&world, &dead, &format!("X{hour:03}n{index:02}")).await?;
            let number = format!("Y{hour:03}n{index:02}");
            pay(&world, &other, &number).await?;
            paid.push((number, Clock::real()));
        }
        evidence::notices_answered(&world).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.advance(3_600_000).await?;
    }
    let heard_while_dead = dead.told().len();
    dead.set(Mood::Well);
    let back = world.clock.now();
    evidence::drain(&mut world).await?;
    let virtual_h = world.clock.now().since(back) / 3_600_000;
    let all = evidence::gather(&world, Vec::new()).await?;
    let missing: Vec<String> = (0..DEAD_H * ORDERS)
        .map(|n| format!("X{:03}n{:02}", n / ORDERS, n % ORDERS))
        .filter(|number| !dead.told().values().any(|told| told.number == *number))
        .collect();
    let spread = delays(&other, &paid)?;
    let what = format!("malls: dead {DEAD_H} h, {} events", thousands(DEAD_H * ORDERS));
    let rows = vec![
        Row::none(what, "every one delivered", &missing),
        Row::told(
            "malls: delivered while dead, then all within",
            format!("{heard_while_dead}, {virtual_h} h"),
        ),
        Row::new(
            "malls: the other mall, from payment",
            "p99 < 5 s",
            spread.to_string(),
            spread.percentile(99) < SOON,
        ),
        oracle::row("malls", &all),
    ];
    world.end().await?;
    Ok(rows)
}

async fn pay(world: &World, mall: &Mall, number: &str) -> anyhow::Result<()> {
    let hand = world.hand();
    hand.order(mall, number, 100).await?;
    let code = hand.code(mall, number, "wx").await?;
    hand.pay(&code).await.map(drop)
}

/// Real time from the payment at the gateway to the mall.
fn delays(mall: &Mall, paid: &[(String, crate::domain::id::UnixMillis)]) -> anyhow::Result<Spread> {
    let told = mall.told();
    let mut spread = Spread::default();
    for (number, at) in paid {
        let first = told.values().find(|one| one.number == *number && one.kind == "order.paid");
        let ms = first.map_or(i64::from(u32::MAX), |one| one.first_at.since(*at));
        spread.add(Duration::from_millis(u64::try_from(ms.max(0))?));
    }
    Ok(spread)
}
