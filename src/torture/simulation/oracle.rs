//! The oracle: what the service says, held against what the gateways did and what the mall heard. The
//! invariants are those of reliability.md 1.2; I0 is ours: nothing ends in an internal error or never.

use super::gateways::{Gateways, Money, Trade};
use super::wire::Delivery;
use crate::domain::id::UnixMillis;
use crate::domain::order::{AnomalyKind, Attempt, AttemptState, Order, Payment, State};
use crate::domain::refund::{DuplicatePayment, LatePayment, Policy, Refund, RefundState};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// `I1` to `I8`, or `I0`.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

/// What a reader has seen of an order: what it may never see undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    version: i64,
    /// What the mall would see of the state, the anomalies and the refunds.
    public: (u8, usize, Vec<bool>, Vec<bool>),
    attempts: Vec<u8>,
    refunds: Vec<u8>,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// `webhook-id`.
    pub event_id: String,
    /// Which order.
    pub order: i64,
    /// `order.paid` and so on.
    pub kind: String,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Breach {
    /// Of that invariant.
    pub const fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

fn breach(invariant: &'static str, what: String) -> Result<(), Breach> {
    Err(Breach::new(invariant, what))
}

impl Seen {
    /// What is to be seen of an order now.
    fn of(order: &Order) -> Self {
        let state = match order.state {
            State::Pending | State::Closing { .. } => 0,
            State::Closed { .. } => 1,
            State::Paid { .. } => 2,
        };
        let is = |wanted: fn(&RefundState) -> bool| {
            order.refunds.iter().map(|refund| wanted(&refund.state)).collect()
        };
        Self {
            version: order.version,
            public: (
                state,
                order.anomalies.len(),
                is(|state| matches!(state, RefundState::Failed { .. })),
                is(|state| matches!(state, RefundState::Succeeded { .. })),
            ),
            attempts: order.attempts.iter().map(progress).collect(),
            refunds: order.refunds.iter().map(rank).collect(),
        }
    }

    /// The version that was seen.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// I5: what is seen now is not older than what was seen before, and the same version says the same.
    ///
    /// # Errors
    /// [`Breach`].
    pub fn follow(&mut self, order: &Order, policy: Policy) -> Result<(), Breach> {
        let now = Self::of(order);
        let (before, after) = (self.public.0, now.public.0);
        let undone = |old: &[u8], new: &[u8]| {
            old.len() > new.len() || old.iter().zip(new).any(|(before, after)| after < before)
        };
        let back = after < before || (before == 1 && after == 2 && policy.late != LatePayment::Accept);
        if now.version < self.version
            || back
            || now.public.1 < self.public.1
            || undone(&self.attempts, &now.attempts)
            || undone(&self.refunds, &now.refunds)
        {
            return breach("I5", format!("{} went back from {self:?} to {now:?}", order.key));
        }
        if now.version == self.version && now.public != self.public {
            return breach("I5", format!("{} has two versions {}", order.key, now.version));
        }
        *self = now;
        Ok(())
    }
}

fn progress(attempt: &Attempt) -> u8 {
    match attempt.state {
        AttemptState::Opening => 0,
        AttemptState::Ready(_) => 1,
        AttemptState::Refused { .. } | AttemptState::Closed => 2,
        AttemptState::Paid => 3,
    }
}

fn rank(refund: &Refund) -> u8 {
    match refund.state {
        RefundState::Asked => 0,
        RefundState::Processing => 1,
        RefundState::Failed { .. } => 2,
        RefundState::Succeeded { .. } => 3,
    }
}

/// What must hold for an order at any time: no money is invented, and none goes back that did not come in.
///
/// # Errors
/// [`Breach`].
pub fn holds(order: &Order, gateways: &Gateways, now: UnixMillis) -> Result<(), Breach> {
    for payment in order.payment().into_iter().chain(order.anomalies.iter().map(|it| &it.payment)) {
        let trade = trade_of(gateways, payment);
        if !trade.and_then(|trade| trade.money.as_ref()).is_some_and(|money| same(money, payment)) {
            return breach("I2", format!("{} has {payment:?}, which its gateway has not", order.key));
        }
        if order.given_back(payment) > payment.fee {
            return breach("I7", format!("{} gives back more than {payment:?}", order.key));
        }
    }
    for refund in &order.refunds {
        if !matches!(refund.state, RefundState::Succeeded { .. }) {
            continue;
        }
        let trades = gateways.trades.iter().filter(|trade| trade.number == refund.trade.out_trade_no);
        let mut theirs = trades.flat_map(|trade| &trade.refunds);
        let done = theirs
            .any(|it| it.number == refund.out_refund_no && it.amount == refund.amount && it.is_done(now));
        if !done {
            return breach("I7", format!("{} says {refund:?} is done, its gateway does not", order.key));
        }
    }
    Ok(())
}

fn trade_of<'a>(gateways: &'a Gateways, payment: &Payment) -> Option<&'a Trade> {
    let is =
        |trade: &&Trade| trade.channel == payment.trade.channel && trade.number == payment.trade.out_trade_no;
    gateways.trades.iter().find(is)
}

fn same(money: &Money, payment: &Payment) -> bool {
    money.transaction_id == payment.transaction_id && money.fee == payment.fee
}

/// What must hold when everything is quiet.
///
/// # Errors
/// [`Breach`].
pub fn verdict(
    orders: &[Order],
    gateways: &Gateways,
    events: &[Stored],
    heard: &[Delivery],
    policy: Policy,
    now: UnixMillis,
) -> Result<(), Breach> {
    for trade in &gateways.trades {
        no_money_is_silent(trade, orders)?;
        refunds_are_single(trade, orders, now)?;
    }
    for order in orders {
        holds(order, gateways, now)?;
        has_ended(order)?;
        policies_are_kept(order, policy)?;
        is_told(order, events)?;
    }
    the_mall_heard(events, heard)
}

/// I2: each fen that a gateway took is the payment of an order or one of its anomalies, once.
fn no_money_is_silent(trade: &Trade, orders: &[Order]) -> Result<(), Breach> {
    let Some(money) = &trade.money else { return Ok(()) };
    let all = orders.iter().flat_map(Order::money);
    let counted = all.filter(|payment| {
        same(money, payment)
            && payment.trade.channel == trade.channel
            && payment.trade.out_trade_no == trade.number
    });
    match counted.count() {
        1 => Ok(()),
        0 => breach("I2", format!("{money:?} of {}:{} is silent", trade.channel, trade.number)),
        n => breach("I2", format!("{money:?} is counted {n} times")),
    }
}

/// I7: at most what came in goes back, each refund once and for a wish of ours.
fn refunds_are_single(trade: &Trade, orders: &[Order], now: UnixMillis) -> Result<(), Breach> {
    let back: i64 = trade.refunds.iter().filter(|it| !it.is_failed(now)).map(|it| it.amount.get()).sum();
    if back > trade.money.as_ref().map_or(0, |money| money.fee.get()) {
        return breach("I7", format!("{}:{} gave back {back}", trade.channel, trade.number));
    }
    for refund in &trade.refunds {
        let number = &refund.number;
        if trade.refunds.iter().filter(|other| other.number == *number).count() > 1 {
            return breach("I7", format!("{number} was refunded twice"));
        }
        let ours = orders.iter().flat_map(|order| &order.refunds).find(|it| it.out_refund_no == *number);
        let known = ours.is_some_and(|it| {
            it.amount == refund.amount
                && match it.state {
                    RefundState::Succeeded { .. } => refund.is_done(now),
                    RefundState::Failed { .. } => refund.is_failed(now),
                    RefundState::Asked | RefundState::Processing => false,
                }
        });
        if !known {
            return breach("I7", format!("the gateway has {refund:?}, we have {ours:?}"));
        }
    }
    Ok(())
}

/// I6: nothing is left open or unknown.
fn has_ended(order: &Order) -> Result<(), Breach> {
    if matches!(order.state, State::Pending | State::Closing { .. }) {
        return breach("I6", format!("{} never ended: {:?}", order.key, order.state));
    }
    if let Some(open) = order.attempts.iter().find(|attempt| attempt.is_open()) {
        return breach("I6", format!("{} has an open attempt: {open:?}", order.key));
    }
    if let Some(open) = order.refunds.iter().find(|refund| !refund.is_settled()) {
        return breach("I6", format!("{} has an open refund: {open:?}", order.key));
    }
    Ok(())
}

/// Money that the policy gives back has gone back, or its refund has failed aloud; all of it.
fn policies_are_kept(order: &Order, policy: Policy) -> Result<(), Breach> {
    for anomaly in &order.anomalies {
        let automatic = match anomaly.kind {
            AnomalyKind::Duplicate => policy.duplicate == DuplicatePayment::Refund,
            AnomalyKind::Late => policy.late == LatePayment::Refund,
            AnomalyKind::Mismatch => false,
        };
        let of_it: Vec<&Refund> =
            order.refunds.iter().filter(|refund| refund.is_of(&anomaly.payment)).collect();
        let whole = of_it.iter().any(|refund| refund.amount == anomaly.payment.fee);
        if automatic && !whole {
            return breach("I2", format!("{} keeps {anomaly:?}: {of_it:?}", order.key));
        }
    }
    Ok(())
}

/// I3, I4: the mall is told each fact once, and nothing else.
fn is_told(order: &Order, events: &[Stored]) -> Result<(), Breach> {
    let paid = usize::from(order.payment().is_some());
    let of_kind = |kind| order.anomalies.iter().filter(|anomaly| anomaly.kind == kind).count();
    let count =
        |kind: &str| events.iter().filter(|event| event.order == order.id.0 && event.kind == kind).count();
    let succeeded =
        order.refunds.iter().filter(|it| matches!(it.state, RefundState::Succeeded { .. })).count();
    let closed = usize::from(matches!(order.state, State::Closed { .. }));
    // An order that is paid after all, or a refund that succeeds after all, was told before to be over.
    let (closed_max, failed_max) = (closed.max(paid), order.refunds.len());
    let failed = order.refunds.iter().filter(|it| matches!(it.state, RefundState::Failed { .. })).count();
    for (kind, least, most) in [
        ("order.paid", paid, paid),
        ("order.closed", closed, closed_max),
        ("payment.duplicate", of_kind(AnomalyKind::Duplicate), of_kind(AnomalyKind::Duplicate)),
        ("payment.late", of_kind(AnomalyKind::Late), of_kind(AnomalyKind::Late)),
        ("payment.mismatch", of_kind(AnomalyKind::Mismatch), of_kind(AnomalyKind::Mismatch)),
        ("refund.succeeded", succeeded, succeeded),
        ("refund.failed", failed, failed_max),
    ] {
        let told = count(kind);
        if !(least..=most).contains(&told) {
            return breach("I3", format!("{} has {told} events {kind}, not {least}: {order:?}", order.key));
        }
    }
    Ok(())
}

/// I4: every event was taken by the mall at least once, and had the same bytes every time.
fn the_mall_heard(events: &[Stored], heard: &[Delivery]) -> Result<(), Breach> {
    for event in events {
        let mut taken = false;
        for delivery in heard.iter().filter(|delivery| delivery.event_id == event.event_id) {
            taken |= delivery.taken;
            if delivery.body != event.body {
                return breach("I4", format!("{} came with other bytes", event.event_id));
            }
        }
        if !taken {
            return breach("I4", format!("the mall never took {} {}", event.event_id, event.kind));
        }
    }
    match heard.iter().find(|it| !events.iter().any(|event| event.event_id == it.event_id)) {
        Some(strange) => breach("I4", format!("the mall heard {}, which was never stored", strange.event_id)),
        None => Ok(()),
    }
}
