//! Shoppers: they order, push, pay, pay twice, close, pay late, walk away, want money back, and look. Each
//! insists as people and malls do, through every restart; a seed says who does what.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::mall::Mall;
use super::oracle::Sighting;
use super::world::Hand;

/// Shoppers under way at the same time: more wait outside.
const CROWD: usize = 256;

/// Shoppers at work.
pub struct Load {
    stop: CancellationToken,
    task: JoinHandle<Journal>,
}

/// What shoppers did and saw.
#[derive(Debug, Default)]
pub struct Journal {
    /// How many there were.
    pub shoppers: usize,
    /// Those whose visit did not end as it should, in words.
    pub stuck: Vec<String>,
    /// What each who looked saw.
    pub sightings: Vec<Vec<Sighting>>,
}

impl Load {
    /// Lets so many shoppers a second in, until [`Load::end`].
    pub fn start(hand: Hand, mall: Mall, seed: u64, per_second: u64) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(crowd(hand, mall, seed, per_second, stop.clone()));
        Self { stop, task }
    }

    /// Lets nobody in any more and waits until all are through.
    ///
    /// # Errors
    /// The crowd panicked.
    pub async fn end(self) -> anyhow::Result<Journal> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

async fn crowd(hand: Hand, mall: Mall, seed: u64, per_second: u64, stop: CancellationToken) -> Journal {
    let places = Arc::new(Semaphore::new(CROWD));
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / per_second.max(1)));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    let mut journal = Journal::default();
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => break,
        }
        let Ok(permit) = places.clone().acquire_owned().await else { break };
        number += 1;
        let shopper = Shopper { hand: hand.clone(), mall: mall.clone(), number: format!("T{number:08}") };
        let dice = Dice::new(seed, number);
        visits.spawn(async move {
            let visit = shopper.visit(dice).await;
            drop(permit);
            (shopper.number, visit)
        });
        while let Some(visit) = visits.try_join_next() {
            journal.write(visit);
        }
    }
    while let Some(visit) = visits.join_next().await {
        journal.write(visit);
    }
    journal
}

type Visit = Result<(String, anyhow::Result<Vec<Sighting>>), tokio::task::JoinError>;

impl Journal {
    fn write(&mut self, visit: Visit) {
        self.shoppers += 1;
        match visit {
            Ok((_, Ok(seen))) if seen.is_empty() => {}
            Ok((_, Ok(seen))) => self.sightings.push(seen),
            Ok((number, Err(error))) => self.stuck.push(format!("order {number}: {error:#}")),
            Err(error) => self.stuck.push(error.to_string()),
        }
    }
}

struct Shopper {
    hand: Hand,
    mall: Mall,
    number: String,
}

impl Shopper {
    async fn visit(&self, mut dice: Dice) -> anyhow::Result<Vec<Sighting>> {
        let fen = i64::try_from(dice.between(1, 100_000))?;
        let (first, second) = if dice.percent(50) { ("wx", "ali") } else { ("ali", "wx") };
        self.hand.order(&self.mall, &self.number, fen).await?;
        let code = self.hand.code(&self.mall, &self.number, first).await?;
        match dice.below(100) {
            // Pays, and most stay to see it.
            0..80 => {
                let paid = self.pay(&code).await?;
                if paid && dice.percent(30) { self.watch().await } else { Ok(Vec::new()) }
            }
            // Opens both codes and pays both.
            80..86 => {
                let other = self.hand.push(&self.mall, &self.number, second).await?;
                self.hand.emulator(Method::POST, "/scan", json!({ "code": code })).await?;
                self.pay(&code).await?;
                if let Ok(other) = other {
                    self.pay(&other).await?;
                }
                Ok(Vec::new())
            }
            // The mall closes, the shopper pays all the same.
            86..91 => {
                let path = format!("/rest/orders/Order/{}/close", self.number);
                self.hand.insist(&self.mall, Method::POST, &path, &Value::Null).await?;
                self.pay(&code).await?;
                Ok(Vec::new())
            }
            // Pays, and wants some of it back.
            91..97 => {
                if !self.pay(&code).await? {
                    return Ok(Vec::new());
                }
                let seen = self.watch().await?;
                let back = i64::try_from(dice.between(1, u64::try_from(fen)?))?;
                self.give_back(back).await?;
                Ok(seen)
            }
            // Walks away.
            _ => Ok(Vec::new()),
        }
    }

    /// Whether it could be paid: some codes cannot any more, then nothing is owed.
    async fn pay(&self, code: &str) -> anyhow::Result<bool> {
        match self.hand.pay(code).await {
            Ok(_) => Ok(true),
            Err(error)
                if ["\"closed\"", "\"already_paid\"", "\"expired\""]
                    .iter()
                    .any(|word| error.to_string().contains(word)) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks until the order is paid.
    async fn watch(&self) -> anyhow::Result<Vec<Sighting>> {
        let mut seen: Vec<Sighting> = Vec::new();
        for _ in 0..600 {
            let now: Sighting = serde_json::from_value(self.hand.read(&self.mall, &self.number).await?)?;
            let paid = now.state == "paid";
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            if paid {
                return Ok(seen);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("not paid a minute after the payment; seen {seen:?}")
    }

    async fn give_back(&self, fen: i64) -> anyhow::Result<()> {
        let path = format!("/rest/orders/Order/{}/refunds", self.number);
        let body =
            json!({ "refund_number": format!("R{}", self.number), "amount": fen, "reason": "torture" });
        let reply = self.hand.insist(&self.mall, Method::POST, &path, &body).await?;
        let taken = reply.status.is_success() || reply.status == StatusCode::NOT_FOUND;
        anyhow::ensure!(taken, "the refund was refused: {}", reply.data);
        Ok(())
    }
}
