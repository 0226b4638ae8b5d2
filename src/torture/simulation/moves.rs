//! The moves: what malls, shoppers and gateways do to the service, one at a time, drawn from the dice.
//! Never decides whether the service did right; the oracle does.

use super::gateways::{Due, Trade};
use super::oracle::Breach;
use super::run::{Done, Known, Life, Run, sane};
use super::wire::request_of;
use crate::domain::id::{Channel, OrderKey, OrderNumber, OrderType, OutTradeNo, RefundNumber, Scene, Title};
use crate::domain::money::Fen;
use crate::domain::order::{CloseCause, OrderId, Terms};
use crate::domain::refund::RefundWanted;
use crate::gateway::{self, Ack, Notice, Told};
use crate::server::checkout::CheckoutError;
use crate::server::checkout::Wanted;
use crate::server::notice;
use crate::server::store::Find;
use crate::server::worker;

/// How far our clock is ahead at most: a jump of an hour, and what it was off by before.
const AHEAD_MS: i64 = 4_200_000;

/// One kind of step.
#[derive(Clone, Copy, Debug)]
enum Move {
    Create,
    Again,
    Push,
    Shop,
    Confirm,
    Close,
    Refund,
    Notice,
    Forge,
    Work,
    Call,
    Ghost,
    Time,
    Jump,
    Balance,
}

/// How often each kind is drawn.
const WEIGHTS: &[(Move, usize)] = &[
    (Move::Create, 40),
    (Move::Again, 1),
    (Move::Push, 8),
    (Move::Shop, 16),
    (Move::Confirm, 3),
    (Move::Close, 2),
    (Move::Refund, 6),
    (Move::Notice, 14),
    (Move::Forge, 1),
    (Move::Work, 20),
    (Move::Call, 50),
    (Move::Ghost, 4),
    (Move::Time, 10),
    (Move::Jump, 1),
    (Move::Balance, 1),
];

impl Run<'_> {
    /// Draws a step and does it.
    pub(super) async fn step(&mut self, life: &mut Life) -> Result<(), Breach> {
        match self.drawn_move() {
            Move::Create | Move::Again => self.create(life),
            Move::Push => self.push(life),
            Move::Shop => self.shop(),
            Move::Confirm => self.confirm(life),
            Move::Close => self.close(life),
            Move::Refund => self.refund(life),
            Move::Notice => self.notice(life),
            Move::Forge => return self.forge(life).await,
            Move::Work => {
                let (webhooks, others) =
                    self.dice.pick(&[(1, 1), (0, 2), (2, 0), (3, 1), (1, 3)]).unwrap_or((1, 1));
                self.claim(life, webhooks, others).await?;
            }
            Move::Call => self.call(),
            Move::Ghost => self.ghost(),
            Move::Time => self.time(),
            Move::Jump => {
                let ahead = self.dice.between(60_000, 3_600_000);
                if self.clock.now().since(self.now()) + ahead > AHEAD_MS {
                    return Ok(());
                }
                self.note(|_| format!("our clock jumps {ahead} ms ahead"));
                self.count("clock jumps");
                self.clock.advance(ahead);
            }
            Move::Balance => {
                let mut outside = self.air.outside();
                outside.gateways.broke = !outside.gateways.broke;
            }
        }
        Ok(())
    }

    /// A kind of step, of those that can do anything now.
    fn drawn_move(&mut self) -> Move {
        let thrown = self.dice.below(1 << 32);
        let air = self.air.clone();
        let outside = air.outside();
        let known = self.orders.iter().any(|known| known.id.is_some());
        let weight = |(kind, weight): &(Move, usize)| {
            let able = match kind {
                Move::Create => self.orders.len() < self.plan.orders,
                Move::Push | Move::Confirm | Move::Close => known,
                Move::Refund => outside.gateways.trades.iter().any(|trade| trade.money.is_some()),
                Move::Shop => outside.gateways.trades.iter().any(|trade| trade.payable(outside.now)),
                Move::Notice => !outside.gateways.notices.is_empty(),
                Move::Call => !outside.calls.is_empty(),
                Move::Ghost => !self.ghosts.is_empty(),
                Move::Again | Move::Forge | Move::Work | Move::Time | Move::Jump | Move::Balance => true,
            };
            // Slow shoppers meet orders that are closed meanwhile.
            let weight = match (kind, self.plan.slow) {
                (Move::Shop, true) => weight / 8,
                (Move::Close, true) => weight * 4,
                _ => *weight,
            };
            if able { weight } else { 0 }
        };
        let mut left = thrown % WEIGHTS.iter().map(weight).sum::<usize>().max(1);
        let drawn = WEIGHTS.iter().find(|entry| {
            let weight = weight(entry);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        drawn.map_or(Move::Work, |(kind, _)| *kind)
    }

    /// The mall creates an order, or the same once more.
    fn create(&mut self, life: &mut Life) {
        let at = self.dice.below(self.plan.orders);
        if at >= self.orders.len() {
            let Some(known) = self.new_order() else { return };
            self.orders.push(known);
        }
        let at = at.min(self.orders.len().saturating_sub(1));
        let Some(known) = self.orders.get(at) else { return };
        let wanted = Wanted { key: known.key.clone(), terms: known.terms.clone(), expires_in: None };
        self.note(|_| format!("mall creates {}", wanted.key));
        let shop = life.shop.clone();
        life.jobs.spawn(async move { Done::Created(at, shop.create(wanted).await.map(|(order, _)| order)) });
    }

    fn new_order(&mut self) -> Option<Known> {
        let n = self.orders.len();
        let number = if self.dice.percent(50) { format!("order{n:03}") } else { format!("o{n}") };
        let order_type = self.dice.pick(&[OrderType::Order, OrderType::Order, OrderType::Wallet])?;
        let lives = self.dice.pick(&[60_000, 300_000, 900_000, 1_800_000, 7_200_000])?;
        let key =
            OrderKey { merchant: self.config.id.clone(), order_type, number: OrderNumber::new(number).ok()? };
        let terms = Terms {
            title: Title::new("Tea").ok()?,
            total: Fen::new(self.dice.between(2, 50_000)).ok()?,
            expires_at: Some(self.clock.now().plus(lives)),
            return_url: None,
            buyer: None,
            attach: None,
            locale: None,
        };
        Some(Known::new(key, terms))
    }

    /// An order that exists at the service.
    fn any_order(&mut self) -> Option<OrderId> {
        let at = self.dice.below(self.orders.len());
        self.orders.get(at).and_then(|known| known.id)
    }

    fn push(&mut self, life: &mut Life) {
        let Some(id) = self.any_order() else { return };
        let Some(scene) =
            self.dice.pick(&[Scene::Native, Scene::Native, Scene::QrCode, Scene::QrCode, Scene::App])
        else {
            return;
        };
        self.note(|_| format!("push {scene} of {id:?}"));
        self.count("pushes");
        let shop = life.shop.clone();
        life.jobs.spawn(async move {
            let pushed = match shop.find(Find::Id(id)).await {
                Ok(Some(order)) => shop.push(&order, scene).await,
                Ok(None) => Err(CheckoutError::NotFound),
                Err(error) => Err(error),
            };
            Done::Pushed(pushed)
        });
    }

    /// A shopper scans or pays any code that was ever shown.
    fn shop(&mut self) {
        let air = self.air.clone();
        let mut outside = air.outside();
        let now = outside.now;
        let payable = |trade: &&Trade| trade.payable(now);
        let n = outside.gateways.trades.iter().filter(payable).count();
        let drawn = self.dice.below(n);
        let Some(trade) = outside.gateways.trades.iter().filter(payable).nth(drawn).cloned() else { return };
        if self.dice.percent(25) {
            outside.gateways.scan(trade.channel, &trade.number);
            drop(outside);
            self.note(|_| format!("shopper scans {}:{}", trade.channel, trade.number));
            return;
        }
        let wrong = self.dice.percent(6);
        let fee = trade.terms.total.get() + if wrong { self.dice.pick(&[-1, 1]).unwrap_or(1) } else { 0 };
        let Ok(fee) = Fen::new(fee) else { return };
        let tries = match self.plan.tellings {
            0 => 0,
            most => u32::try_from(self.dice.below(most + 1)).unwrap_or(1),
        };
        outside.gateways.pay(trade.channel, &trade.number, fee, now, tries);
        drop(outside);
        self.note(|_| {
            format!("shopper pays {fee} by {}:{}, told {tries} times", trade.channel, trade.number)
        });
        self.count("payments");
    }

    fn confirm(&mut self, life: &mut Life) {
        let Some(id) = self.any_order() else { return };
        self.note(|_| format!("shopper says {id:?} is paid"));
        let shop = life.shop.clone();
        life.jobs.spawn(async move { Done::Asked(shop.confirm(id).await.map(drop)) });
    }

    fn close(&mut self, life: &mut Life) {
        let Some(id) = self.any_order() else { return };
        self.note(|_| format!("mall closes {id:?}"));
        let shop = life.shop.clone();
        life.jobs.spawn(async move { Done::Asked(shop.close(id, CloseCause::Merchant).await.map(drop)) });
    }

    /// The mall wants money back: all, some, nothing, or too much; of the payment, or of any money at all.
    fn refund(&mut self, life: &mut Life) {
        let Some(id) = self.any_order() else { return };
        let total =
            self.orders.iter().find(|known| known.id == Some(id)).map_or(1, |it| it.terms.total.get());
        let amount = match self.dice.below(10) {
            0 => total + 1,
            1 => 0,
            2..=4 => total,
            _ => self.dice.between(1, total),
        };
        let number = RefundNumber::new(format!("r{}", self.dice.below(4)));
        let (Ok(amount), Ok(number)) = (Fen::new(amount), number) else { return };
        let some_money = self.dice.percent(20).then(|| {
            let outside = self.air.outside();
            outside.gateways.trades.iter().find_map(|it| Some(it.money.as_ref()?.transaction_id.clone()))
        });
        let wanted = RefundWanted { number, amount, reason: None, transaction_id: some_money.flatten() };
        self.note(|_| format!("mall wants back of {id:?}: {wanted:?}"));
        self.count("refunds asked");
        let shop = life.shop.clone();
        life.jobs.spawn(async move { Done::Asked(shop.refund(id, wanted).await.map(drop)) });
    }

    /// A gateway tells something: in any order, once, twice at the same time, or not after all.
    fn notice(&mut self, life: &mut Life) {
        let tellings = u32::try_from(self.plan.tellings).unwrap_or(1);
        let waiting = self.waiting(tellings);
        let (drawn, fate) = (self.dice.below(waiting), self.dice.below(10));
        let due = {
            let mut outside = self.air.outside();
            let notices = &mut outside.gateways.notices;
            let Some(due) = notices.get_mut(drawn) else { return };
            due.tries = due.tries.saturating_sub(1);
            let told = due.clone();
            if told.tries == 0 || fate > 4 {
                notices.remove(drawn);
            }
            told
        };
        if fate == 0 {
            self.count("notices lost");
            self.note(|_| format!("lost: notice {:?}", due.notice));
            return;
        }
        let copies = if fate < 4 { 2 } else { 1 };
        self.count(if copies == 2 { "notices doubled" } else { "notices" });
        for _ in 0..copies {
            self.tell(life, due.clone());
        }
    }

    /// How many notices wait; those that nobody will hear are gone.
    pub(super) fn waiting(&mut self, tellings: u32) -> usize {
        let mut outside = self.air.outside();
        let now = outside.now;
        outside.gateways.tell_refunds(now, tellings);
        outside.gateways.notices.retain(|due| due.tries > 0);
        outside.gateways.notices.len()
    }

    pub(super) fn tell(&mut self, life: &mut Life, due: Due) {
        self.note(|_| format!("{} tells {:?}", due.channel, due.notice));
        let (shop, limits) = (life.shop.clone(), life.limits.clone());
        life.jobs.spawn(async move {
            let request = request_of(&due, true, true);
            let ack = notice::settle(&shop, &limits, due.channel, &request).await;
            Done::Told(due, ack)
        });
    }

    /// I1: a notice that was answered with success has had its effect; and a true one is answered so.
    pub(super) async fn acknowledged(&mut self, life: &Life, due: Due, ack: Ack) -> Result<(), Breach> {
        let by = Find::Key(match self.order_of(due.channel, &due.notice.out_trade_no, life).await? {
            Some(key) => key,
            None => return Err(Breach::new("I1", format!("nobody has {:?}", due.notice))),
        });
        let Some(Some(order)) = sane(life.shop.find(by).await)? else { return Ok(()) };
        let known = match &due.notice.told {
            Told::Trade(gateway::Trade::Paid(paid)) => order
                .payment()
                .into_iter()
                .chain(order.anomalies.iter().map(|anomaly| &anomaly.payment))
                .any(|payment| payment.transaction_id == paid.transaction_id && payment.fee == paid.total),
            Told::Trade(_) => true,
            Told::Refund { out_refund_no } => order.refund_by_no(out_refund_no).is_some(),
        };
        if ack != Ack::Accepted || !known {
            return Err(Breach::new("I1", format!("{:?} was answered {ack:?}: {order:?}", due.notice)));
        }
        Ok(())
    }

    async fn order_of(
        &self,
        channel: Channel,
        number: &OutTradeNo,
        life: &Life,
    ) -> Result<Option<OrderKey>, Breach> {
        let account = match channel {
            Channel::Wx => "app:mch",
            Channel::Ali => "app:seller",
        };
        let trade = crate::domain::id::TradeId { channel, out_trade_no: number.clone() };
        let by = Find::Trade { account: account.to_owned(), trade };
        let found = sane(life.shop.find(by).await)?;
        Ok(found.flatten().map(|order| order.key.clone()))
    }

    /// I8: what no gateway has said changes nothing but the list of what came.
    async fn forge(&mut self, life: &mut Life) -> Result<(), Breach> {
        let ours = |error: crate::server::store::StoreError| Breach::new("I0", error.to_string());
        let (ours_to_hear, sealed) = self
            .dice
            .pick(&[(true, false), (false, true), (false, false), (true, true)])
            .unwrap_or((true, false));
        // Sealed and for us: a true notice of a trade that nobody here has placed.
        let number = if ours_to_hear && sealed { "stranger" } else { "order000" };
        let Ok(number) = OutTradeNo::new(number) else { return Ok(()) };
        let Ok(transaction_id) = crate::domain::id::TransactionId::new("forged") else { return Ok(()) };
        let paid = gateway::Paid {
            out_trade_no: number.clone(),
            transaction_id,
            total: Fen::ZERO,
            paid_at: self.now(),
        };
        let told = Told::Trade(gateway::Trade::Paid(paid));
        let notice = Notice { out_trade_no: number, delivery_id: None, told };
        let channel = self.dice.pick(Channel::ALL).unwrap_or(Channel::Wx);
        let due = Due { channel, notice, tries: 0 };
        self.note(|_| format!("forged, ours {ours_to_hear}, sealed {sealed}: {:?}", due.notice));
        self.count("forged notices");
        let before = self.bench.changes().map_err(ours)?;
        let request = request_of(&due, ours_to_hear, sealed);
        let ack = notice::settle(&life.shop, &life.limits, channel, &request).await;
        let after = self.bench.changes().map_err(ours)?;
        if ack == Ack::Accepted || after - before != 1 {
            let what = format!("a forged notice was answered {ack:?} and changed {} rows", after - before);
            return Err(Breach::new("I8", what));
        }
        Ok(())
    }

    /// A worker claims tasks and starts on them. How many it got.
    pub(super) async fn claim(
        &mut self,
        life: &mut Life,
        webhooks: u32,
        others: u32,
    ) -> Result<usize, Breach> {
        let mut places = worker::every_place(&life.shop);
        (places.webhooks, places.others) = (webhooks, others);
        let claimed = worker::claim(&life.shop, places).await;
        let tasks = claimed.map_err(|error| Breach::new("I0", error.to_string()))?;
        let n = tasks.len();
        for task in tasks {
            self.note(|_| {
                format!("work: {} {} of {:?}, try {}", task.kind, task.subject, task.order, task.tries)
            });
            let shop = life.shop.clone();
            life.jobs.spawn(async move {
                worker::perform(&shop, task).await;
                Done::Worked
            });
        }
        Ok(n)
    }
}
