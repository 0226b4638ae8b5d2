//! One run: a service, two gateways, a mall and a few shoppers, on one thread, with a clock that stands still
//! until it is moved. Each step is drawn, done to its end, and looked at. A crash drops everything but the
//! database. After the last step the faults stop, and time runs until nothing is left to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bench::Bench;
use super::dice::Dice;
use super::gateways::{Cheat, Due};
use super::oracle::{Breach, Seen, holds, verdict};
use super::wire::{Air, What};
use crate::domain::id::{OrderKey, UnixMillis};
use crate::domain::order::{Order, OrderId, Terms};
use crate::domain::refund::{DuplicatePayment, LatePayment, Policy};
use crate::gateway::Ack;
use crate::runtime::clock::Clock;
use crate::server::checkout::{Checkout, CheckoutError, Pushed};
use crate::server::config::MerchantConfig;
use crate::server::limits::Limits;
use crate::server::store::{Find, Store as _};

/// The moment a run begins.
const START: UnixMillis = UnixMillis(1_767_225_600_000);
/// Rounds after the last step in which everything must have come to its end.
const QUIET_ROUNDS: usize = 3_000;

/// What is different about a run, apart from its seed. Used by tests of the oracle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// What the gateways do wrong.
    pub cheat: Cheat,
    /// What is done to the database before the verdict.
    pub sabotage: Option<&'static str>,
    /// A trigger named `rig`, by which the database undoes the service's work from the start.
    pub rig: Option<&'static str>,
}

/// What became of a run.
#[derive(Debug, Default)]
pub struct Played {
    /// Steps drawn.
    pub steps: u64,
    /// How often each kind of thing happened.
    pub events: BTreeMap<&'static str, u64>,
    /// What broke.
    pub breach: Option<Breach>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// What the seed decides once.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Orders at most.
    pub(super) orders: usize,
    steps: u64,
    /// Calls of a hundred that go wrong.
    pub(super) faults: usize,
    /// How often a gateway tells each payment; none: never.
    pub(super) tellings: usize,
    /// Steps of a thousand in which the process dies.
    pub(super) crashes: usize,
    /// Whether shoppers take their time.
    pub(super) slow: bool,
    /// What is done with money that pays no order.
    pub(super) policy: Policy,
}

/// An order that the mall has asked for.
pub(super) struct Known {
    pub(super) key: OrderKey,
    pub(super) terms: Terms,
    pub(super) id: Option<OrderId>,
    seen: Seen,
}

/// A request that was given up and arrives all the same.
pub(super) struct Ghost {
    pub(super) what: What,
    pub(super) dies: UnixMillis,
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) bench: &'a Bench,
    pub(super) config: Arc<MerchantConfig>,
    pub(super) dice: Dice,
    pub(super) plan: Plan,
    pub(super) air: Arc<Air>,
    pub(super) clock: Clock,
    pub(super) orders: Vec<Known>,
    pub(super) ghosts: Vec<Ghost>,
    pub(super) played: Played,
    traced: bool,
    changes: u64,
}

/// What lives from a start to a crash.
pub(super) struct Life {
    pub(super) shop: Checkout,
    pub(super) limits: Arc<Limits>,
    pub(super) jobs: JoinSet<Done>,
    watches: Vec<(OrderId, watch::Receiver<Arc<Order>>, i64)>,
}

/// What a job of ours came to.
pub(super) enum Done {
    Created(usize, Result<Arc<Order>, CheckoutError>),
    Pushed(Result<Pushed, CheckoutError>),
    Asked(Result<(), CheckoutError>),
    Told(Due, Ack),
    Worked,
}

impl Known {
    pub(super) fn new(key: OrderKey, terms: Terms) -> Self {
        Self { key, terms, id: None, seen: Seen::default() }
    }
}

enum End {
    Crashed,
    Finished,
}

/// Plays a seed.
pub fn play(bench: &Bench, seed: u64, rules: Rules, traced: bool) -> Played {
    let mut dice = Dice::new(seed);
    let plan = Plan::draw(&mut dice);
    let config = Arc::new(bench.config(plan.policy));
    let mut run = Run {
        bench,
        config,
        dice,
        plan,
        air: Arc::default(),
        clock: Clock::frozen(START),
        orders: Vec::new(),
        ghosts: Vec::new(),
        played: Played::default(),
        traced,
        changes: 0,
    };
    run.air.outside().now = START;
    run.air.outside().gateways.cheat = rules.cheat;
    run.played.breach = run.lives(rules).err();
    run.played
}

impl Plan {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            orders: 1 + dice.below(4),
            steps: u64::try_from(60 + dice.below(81)).unwrap_or(100),
            faults: dice.pick(&[0, 10, 30, 60]).unwrap_or(30),
            tellings: dice.pick(&[0, 1, 3]).unwrap_or(3),
            crashes: dice.pick(&[0, 10, 40]).unwrap_or(10),
            slow: dice.percent(30),
            policy: Policy {
                late: dice
                    .pick(&[LatePayment::Refund, LatePayment::Refund, LatePayment::Accept, LatePayment::Hold])
                    .unwrap_or(LatePayment::Refund),
                duplicate: dice
                    .pick(&[DuplicatePayment::Refund, DuplicatePayment::Refund, DuplicatePayment::Hold])
                    .unwrap_or(DuplicatePayment::Refund),
            },
        }
    }
}

impl Run<'_> {
    fn lives(&mut self, rules: Rules) -> Result<(), Breach> {
        let ours = |what: String| Breach::new("I0", what);
        self.bench.clear().map_err(|error| ours(error.to_string()))?;
        if let Some(rig) = rules.rig {
            self.bench.sabotage(rig).map_err(|error| ours(error.to_string()))?;
        }
        self.note(|run| format!("plan: {:?}", run.plan));
        loop {
            // No timers, no sockets: what a job waits for is the simulation's to give. One yield lets every
            // job run until it waits.
            let runtime = Builder::new_current_thread()
                .event_interval(1_000_000)
                .build()
                .map_err(|error| ours(error.to_string()))?;
            match runtime.block_on(self.live(rules))? {
                End::Crashed => {}
                End::Finished => return Ok(()),
            }
        }
    }

    async fn live(&mut self, rules: Rules) -> Result<End, Breach> {
        // The clock was set right, more or less, while the process was down.
        let skew = if self.dice.percent(70) { 0 } else { self.dice.between(-600_000, 600_000) };
        self.clock = Clock::frozen(self.now().plus(skew));
        let shop = self.bench.open(&self.config, &self.air, self.clock.clone());
        let resumed = self.bench.store.resume(self.clock.now()).await;
        resumed.map_err(|error| Breach::new("I0", error.to_string()))?;
        let mut life =
            Life { shop, limits: Arc::new(Limits::none()), jobs: JoinSet::new(), watches: Vec::new() };
        self.note(|run| format!("start, clock off by {skew} ms, {} calls in the air", run.calls()));
        while self.played.steps < self.plan.steps {
            self.played.steps += 1;
            if self.dice.below(1_000) < self.plan.crashes {
                self.crash();
                return Ok(End::Crashed);
            }
            self.step(&mut life).await?;
            self.settle_down(&mut life).await?;
        }
        self.quiet(&mut life).await?;
        if let Some(sabotage) = rules.sabotage {
            self.bench.sabotage(sabotage).map_err(|error| Breach::new("I0", error.to_string()))?;
        }
        self.judge(&life).await?;
        Ok(End::Finished)
    }

    /// Lets every job run until it waits for something outside, then looks at what changed.
    pub(super) async fn settle_down(&mut self, life: &mut Life) -> Result<(), Breach> {
        loop {
            tokio::task::yield_now().await;
            let Some(done) = life.jobs.try_join_next() else { break };
            let done = done.map_err(|error| Breach::new("I0", format!("a job panicked: {error}")))?;
            self.heard(life, done).await?;
        }
        self.look(life).await
    }

    /// What a job came to. Refusals are answers; that something is wrong inside is none.
    async fn heard(&mut self, life: &mut Life, done: Done) -> Result<(), Breach> {
        match done {
            Done::Worked => Ok(()),
            Done::Asked(result) => sane(result).map(drop),
            Done::Created(at, result) => {
                if let Some(order) = sane(result)?
                    && let Some(known) = self.orders.get_mut(at)
                {
                    known.id = Some(order.id);
                    let id = order.id;
                    let watch = sane(life.shop.watch(order).await)?;
                    life.watches.extend(watch.map(|receiver| (id, receiver, 0)));
                }
                Ok(())
            }
            Done::Pushed(result) => {
                let Some(pushed) = sane(result)? else { return Ok(()) };
                let (channel, number) = (pushed.attempt.scene.channel(), &pushed.attempt.out_trade_no);
                if !pushed.code.content.ends_with(&format!(":{number}")) {
                    return Err(Breach::new("I2", format!("{number} shows {}", pushed.code.content)));
                }
                if let Some(trade) = self.air.outside().gateways.trade(channel, number) {
                    trade.shown = true;
                }
                Ok(())
            }
            Done::Told(due, ack) => self.acknowledged(life, due, ack).await,
        }
    }

    /// Looks at what changed: nothing goes back, and no money is invented.
    async fn look(&mut self, life: &mut Life) -> Result<(), Breach> {
        let ours = |what: String| Breach::new("I0", what);
        let changes = self.bench.changes().map_err(|error| ours(error.to_string()))?;
        if changes == self.changes {
            return Ok(());
        }
        self.changes = changes;
        for (id, version) in self.bench.versions().map_err(|error| ours(error.to_string()))? {
            let at = self.orders.iter().position(|known| known.id == Some(id));
            let Some(known) = at.and_then(|at| self.orders.get_mut(at)) else { continue };
            if known.seen.version() == version {
                continue;
            }
            let order = life.shop.find(Find::Id(id)).await.map_err(|error| ours(error.to_string()))?;
            let order = order.ok_or_else(|| Breach::new("I5", format!("order {id:?} is gone")))?;
            known.seen.follow(&order, self.plan.policy)?;
            let outside = self.air.outside();
            holds(&order, &outside.gateways, outside.now)?;
        }
        for (id, receiver, version) in &mut life.watches {
            let current = receiver.borrow_and_update().version;
            if current < *version {
                return Err(Breach::new("I5", format!("a watcher of {id:?} saw {current} after {version}")));
            }
            *version = current;
        }
        Ok(())
    }

    /// No more faults: everything in the air arrives, and time runs until there is nothing left to do.
    async fn quiet(&mut self, life: &mut Life) -> Result<(), Breach> {
        self.note(|_| "quiet".to_owned());
        self.plan.faults = 0;
        self.air.outside().gateways.broke = false;
        for _ in 0..QUIET_ROUNDS {
            self.settle_down(life).await?;
            if self.finish_calls() || self.finish_notices(life) || self.claim(life, 64, 64).await? > 0 {
                continue;
            }
            let next = self.bench.next_due().map_err(|error| Breach::new("I0", error.to_string()))?;
            let refund = {
                let outside = self.air.outside();
                let refunds = outside.gateways.trades.iter().flat_map(|trade| &trade.refunds);
                refunds.map(|it| it.ends.since(outside.now)).filter(|wait| *wait > 0).min()
            };
            let task = next.map(|due| due.since(self.clock.now()).max(1));
            let Some(wait) = task.into_iter().chain(refund).min() else { return Ok(()) };
            self.pass(wait);
        }
        Err(Breach::new("I0", "there was always something left to do".to_owned()))
    }

    async fn judge(&mut self, life: &Life) -> Result<(), Breach> {
        let mut orders = Vec::new();
        for known in &mut self.orders {
            let Some(id) = known.id else { continue };
            let order = sane(life.shop.find(Find::Id(id)).await)?.flatten();
            let order = order.ok_or_else(|| Breach::new("I5", format!("{} is gone", known.key)))?;
            known.seen.follow(&order, self.plan.policy)?;
            orders.push(Order::clone(&order));
        }
        let events = self.bench.events().map_err(|error| Breach::new("I0", error.to_string()))?;
        for order in &orders {
            self.played.count(order);
        }
        for order in &orders {
            self.note(|_| format!("end: {}", in_a_line(order)));
        }
        let outside = self.air.outside();
        verdict(&orders, &outside.gateways, &events, &outside.mall, self.plan.policy, outside.now)
    }

    /// The true time.
    pub(super) fn now(&self) -> UnixMillis {
        self.air.outside().now
    }

    fn calls(&self) -> usize {
        self.air.outside().calls.len()
    }

    /// Counts something that happened.
    pub(super) fn count(&mut self, kind: &'static str) {
        *self.played.events.entry(kind).or_default() += 1;
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.traced {
            let at = self.now().since(START);
            let line = format!("{:3} {at:9} ms  {}", self.played.steps, line(self));
            self.played.trace.push(line);
        }
    }
}

impl Played {
    fn count(&mut self, order: &Order) {
        let mut add = |kind, n: usize| {
            *self.events.entry(kind).or_default() += u64::try_from(n).unwrap_or(0);
        };
        add("orders paid", usize::from(order.payment().is_some()));
        add("orders closed", usize::from(order.payment().is_none()));
        for anomaly in &order.anomalies {
            add(anomaly.kind.as_str(), 1);
        }
        for refund in &order.refunds {
            let failed = matches!(refund.state, crate::domain::refund::RefundState::Failed { .. });
            add(if failed { "refunds failed" } else { "refunds done" }, 1);
        }
    }
}

/// An order without what never changes.
fn in_a_line(order: &Order) -> String {
    let attempts = order.attempts.iter().map(|it| format!("{} {:?}", it.trade(), it.state));
    let (attempts, state) = (attempts.collect::<Vec<_>>().join(", "), &order.state);
    format!("{} {state:?}, {attempts}, {:?}, {:?}", order.key, order.anomalies, order.refunds)
}

/// Refusals are answers: `None`.
pub(super) fn sane<T>(result: Result<T, CheckoutError>) -> Result<Option<T>, Breach> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (CheckoutError::Internal(_) | CheckoutError::Store(_))) => {
            Err(Breach::new("I0", error.to_string()))
        }
        Err(_) => Ok(None),
    }
}
