//! The order's state machine: `advance` is the only thing that changes an order.
//! Never asks a gateway, a clock or a database; every fact comes in as an `Event`.
//! The rules as a table: `order_rules.txt` beside this file; how they are saved: `server::store`.

use serde::{Deserialize, Serialize};

use super::id::{
    Channel, OrderKey, OutTradeNo, Payer, Scene, Title, TradeId, TransactionId, UnixMillis, word_enum,
};
use super::money::Fen;
use super::refund::{self, DuplicatePayment, LatePayment, Policy, Refund};

pub use super::event::{Effect, Event, WebhookKind};

/// The database's number of an order. Never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub i64);

/// What the mall wants paid, with everything that has happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The database's number.
    pub id: OrderId,
    /// Merchant, type and number.
    pub key: OrderKey,
    /// What the mall asked for.
    pub terms: Terms,
    /// When it was created here.
    pub created_at: UnixMillis,
    /// Where it stands.
    pub state: State,
    /// Counts changes of state, payments, refunds and anomalies, not of attempts. Starts at 1.
    pub version: i64,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// Money that did not pay this order, oldest first.
    pub anomalies: Vec<Anomaly>,
    /// Money given back, of whatever came in, oldest first.
    pub refunds: Vec<Refund>,
}

/// What the mall asked for. Never changes after creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is sold.
    pub title: Title,
    /// What is due, in fen, at least 1.
    pub total: Fen,
    /// When the order stops being payable; `None` for the demo's seeded orders.
    pub expires_at: Option<UnixMillis>,
    /// Where the shopper goes afterwards.
    pub return_url: Option<String>,
    /// The mall's word for the buyer; echoed to the mall only.
    pub buyer: Option<String>,
    /// The mall's own note; echoed to the mall only.
    pub attach: Option<String>,
    /// `zh-CN` or `en`, if the mall chose one.
    pub locale: Option<String>,
}

/// Where an order stands. Each variant holds exactly what is known there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Payable.
    Pending,
    /// Takes no new attempt; the open ones are being closed at their gateways. Still `pending` to the mall.
    Closing {
        /// Who or what asked.
        cause: CloseCause,
    },
    /// Paid, once.
    Paid {
        /// The money that paid it.
        payment: Payment,
    },
    /// Over without payment; every attempt is closed.
    Closed {
        /// When the last attempt was closed.
        at: UnixMillis,
        /// Who or what asked.
        cause: CloseCause,
    },
}

word_enum!(
    /// Why an order is closed.
    CloseCause {
        /// Its time was up.
        Expired = "expired",
        /// The mall asked.
        Merchant = "merchant",
    }
);

/// One order placed at one gateway for one scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Our number at the gateway.
    pub out_trade_no: OutTradeNo,
    /// How the shopper meets the gateway.
    pub scene: Scene,
    /// Whom it is for; `None`: whoever has its code.
    pub payer: Option<Payer>,
    /// The gateway account (`app_id:mch_id` or `app_id:seller_id`) it was placed under.
    pub account: String,
    /// The exact request, as the gateway layer wrote it; sent again unchanged when the outcome is unknown.
    pub request: String,
    /// When it was committed here, before the gateway was called.
    pub opened_at: UnixMillis,
    /// Until when its code is shown.
    pub expires_at: UnixMillis,
    /// Where it stands.
    pub state: AttemptState,
}

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Committed; the gateway was called or is about to be, outcome unknown.
    Opening,
    /// The gateway gave what the shopper needs.
    Ready(Code),
    /// The gateway said no, finally.
    Refused {
        /// The gateway's own error code.
        code: String,
    },
    /// Closed at the gateway, or past the time it can be paid.
    Closed,
    /// Money came in through it.
    Paid,
}

/// What a gateway hands out for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// `code_url`, `qr_code` or the app's `order_string`.
    pub content: String,
    /// WeChat v2's `prepay_id`; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepay_id: Option<String>,
    /// Until when it may be handed out, where it ends before its attempt does: a link of WeChat's MWEB. The
    /// same request then gives another one for the same trade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

impl Code {
    /// Whether it may be handed out.
    pub fn is_good(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Money that a gateway says it took, after its signature, merchant and app were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The attempt it came through.
    pub trade: TradeId,
    /// The gateway's number: with channel and account the key under which money counts once.
    pub transaction_id: TransactionId,
    /// How much, in fen.
    pub fee: Fen,
    /// When, by the gateway's word.
    pub paid_at: UnixMillis,
}

/// Money that did not pay the order. Never silent: recorded, shown, told to the mall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What is wrong with it.
    pub kind: AnomalyKind,
    /// The money.
    pub payment: Payment,
}

word_enum!(
    /// Why money did not pay the order.
    AnomalyKind {
        /// The order was paid already.
        Duplicate = "duplicate",
        /// The order was closed.
        Late = "late",
        /// Another amount than the order's.
        Mismatch = "mismatch",
    }
);

/// The order after an event, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The order as it now is. Equal to the old one if the event changed nothing.
    pub order: Order,
    /// What must now be done.
    pub effects: Vec<Effect>,
}

/// An event that contradicts the order. Nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The order is paid.
    #[error("the order is paid")]
    AlreadyPaid,
    /// The order is closed or closing.
    #[error("the order is closed")]
    AlreadyClosed,
    /// Expiry before its time.
    #[error("the order has not expired yet")]
    NotExpired,
    /// No attempt has this number.
    #[error("the order has no such attempt")]
    UnknownAttempt,
    /// Too many payers have asked for attempts of their own lately.
    #[error("the order has too many attempts")]
    TooManyAttempts,
    /// An attempt with this number exists already.
    #[error("the order already has an attempt of this number")]
    AttemptExists,
    /// The attempt took money, so it was not closed unpaid.
    #[error("the attempt is paid")]
    AttemptPaid,
    /// Nothing paid this order.
    #[error("the order is not paid")]
    NotPaid,
    /// No money of this number came in for the order.
    #[error("the order has no such payment")]
    NoSuchMoney,
    /// A refund with this number exists with other content.
    #[error("the order has another refund of this number")]
    RefundExists,
    /// The gateway took the same money for another order already.
    #[error("another order has this transaction")]
    CountedElsewhere,
    /// More than what came in, or nothing.
    #[error("the refund is more than what is left of the payment")]
    RefundTooMuch,
    /// The gateways make so many refunds of one payment and no more.
    #[error("the order has too many refunds")]
    TooManyRefunds,
    /// No refund has this number.
    #[error("the order has no such refund")]
    UnknownRefund,
    /// The version counter is at its end.
    #[error("too many changes")]
    VersionOverflow,
}

/// How long a code may be payable after we stop showing it, in ms: its end is rounded up, by five minutes at
/// most (contract.md 4), and one more for the payment under way.
const CODE_OUTLIVES_MS: i64 = 360_000;
/// How far our clock may be ahead of the gateway's for a code to be surely over at the second look, in ms: an
/// hour's jump (summer time kept by hand) and some minutes.
const CLOCK_AHEAD_MS: i64 = 4_500_000;
/// Payers who have an open attempt of one scene at the same time; and how many may come in such a time, in
/// ms. Who they are is for the browser to say, and each costs the gateway calls.
const PAYERS_MAX: usize = 8;
const PAYERS_LATELY: usize = 30;
const LATELY_MS: i64 = 600_000;
/// How long after an attempt is opened it is first queried, in ms (WeChat advises at most 60 s).
pub const FIRST_QUERY_MS: i64 = 30_000;

impl Order {
    /// What an attempt's code must outlive to be handed out again, in ms: time to scan and to pay.
    pub const LIVE_MARGIN_MS: i64 = 10_000;
    /// How much time a placing must still give the shopper, in ms: WeChat refuses one that ends within five
    /// minutes (gateways.md 1.2), so a request older than this is not repeated.
    const PLACE_MARGIN_MS: i64 = 310_000;
    /// How long a placing may be repeated whatever its end, in ms: less than what its end was rounded up by.
    const REPEAT_MS: i64 = 20_000;

    /// The attempt with this number.
    pub fn attempt(&self, trade: &TradeId) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.is(trade))
    }

    /// The attempt that a push for `scene` and `payer` uses again: not refused, closed or paid, and not
    /// about to run out, unless the order ends with it, so that a new one would live no longer. One whose
    /// placing is still unknown is placed again with the same request, while the gateway takes that.
    pub fn live_attempt(
        &self,
        scene: Scene,
        payer: Option<&Payer>,
        account: &str,
        now: UnixMillis,
    ) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| {
            attempt.scene == scene
                && attempt.payer.as_ref() == payer
                && attempt.account == account
                && attempt.is_open()
                && (attempt.state != AttemptState::Opening
                    || attempt.expires_at > now.plus(Self::PLACE_MARGIN_MS)
                    || now.since(attempt.opened_at) < Self::REPEAT_MS)
                && (attempt.expires_at > now.plus(Self::LIVE_MARGIN_MS) || self.ends_with(attempt))
        })
    }

    /// Whether the attempt's code is payable for as long as the order is.
    pub fn ends_with(&self, attempt: &Attempt) -> bool {
        self.terms.expires_at.is_some_and(|end| attempt.expires_at >= end)
    }

    /// The payment that paid the order.
    pub fn payment(&self) -> Option<&Payment> {
        match &self.state {
            State::Paid { payment } => Some(payment),
            State::Pending | State::Closing { .. } | State::Closed { .. } => None,
        }
    }

    /// Whether this money is already counted: once as money of the right amount (the payment, a
    /// duplicate or late), once as a mismatch. The two do not stand in each other's way: a transaction
    /// first told with a wrong amount may still turn out to be right.
    fn knows(&self, payment: &Payment) -> bool {
        let same = |other: &Payment| {
            other.trade.channel == payment.trade.channel && other.transaction_id == payment.transaction_id
        };
        let right = payment.fee == self.terms.total;
        (right && self.payment().is_some_and(same))
            || self
                .anomalies
                .iter()
                .any(|anomaly| same(&anomaly.payment) && right == (anomaly.kind != AnomalyKind::Mismatch))
    }

    fn open_trades(&self) -> impl Iterator<Item = TradeId> {
        self.attempts.iter().filter(|attempt| attempt.is_open()).map(Attempt::trade)
    }

    fn set_attempt(&mut self, trade: &TradeId, state: AttemptState) {
        for attempt in &mut self.attempts {
            if attempt.is(trade) {
                attempt.state = state;
                return;
            }
        }
    }

    pub(super) fn bump(&mut self) -> Result<(), Refused> {
        self.version = self.version.checked_add(1).ok_or(Refused::VersionOverflow)?;
        Ok(())
    }
}

impl Attempt {
    /// Its name.
    pub fn trade(&self) -> TradeId {
        TradeId { channel: self.scene.channel(), out_trade_no: self.out_trade_no.clone() }
    }

    fn is(&self, trade: &TradeId) -> bool {
        self.scene.channel() == trade.channel && self.out_trade_no == trade.out_trade_no
    }

    /// Whether money may still come through it: opening or ready, even when its code is no longer shown.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, AttemptState::Opening | AttemptState::Ready(_))
    }

    /// When a closed attempt is looked at again, if it may have been paid all the same. Alipay knows no
    /// trade before the scan, so a code that nobody opened cannot be closed there: only its own end bounds
    /// it (gateways.md 5, pitfall 17). Notices may be lost, and money must not be silent. Twice: the first
    /// look would be too early if our clock were ahead of theirs.
    pub fn looks(&self) -> Option<[UnixMillis; 2]> {
        let bounded = self.state == AttemptState::Closed && self.scene.channel() == Channel::Ali;
        let first = self.expires_at.plus(CODE_OUTLIVES_MS);
        bounded.then(|| [first, first.plus(CLOCK_AHEAD_MS)])
    }

    /// The code, if the gateway gave one and it is still good to show.
    pub fn code(&self) -> Option<&Code> {
        if let AttemptState::Ready(code) = &self.state { Some(code) } else { None }
    }
}

impl Step {
    pub(super) fn unchanged(order: &Order) -> Self {
        Self { order: order.clone(), effects: Vec::new() }
    }
}

/// Applies one event. Repeating an event changes nothing; a contradicting one is refused by name.
///
/// # Errors
/// [`Refused`]: the event contradicts the order, which then stays as it is.
pub fn advance(order: &Order, event: Event, policy: Policy, now: UnixMillis) -> Result<Step, Refused> {
    match event {
        Event::Opened(attempt) => opened(order, attempt, now),
        Event::Ready { trade, code } => ready(order, &trade, code),
        Event::Refused { trade, code } => refused(order, &trade, code, now),
        Event::Money(payment) => money(order, payment, policy, now),
        Event::CloseAsked { cause } => close_asked(order, cause, now),
        Event::AttemptClosed { trade } => attempt_closed(order, &trade, now),
        Event::RefundAsked(wanted) => refund::asked(order, wanted, now),
        Event::RefundTold { out_refund_no, standing } => refund::told(order, &out_refund_no, standing, now),
    }
}

fn opened(order: &Order, attempt: Attempt, now: UnixMillis) -> Result<Step, Refused> {
    match order.state {
        State::Pending => {}
        State::Paid { .. } => return Err(Refused::AlreadyPaid),
        State::Closing { .. } | State::Closed { .. } => return Err(Refused::AlreadyClosed),
    }
    if let Some(known) = order.attempt(&attempt.trade()) {
        return if *known == attempt { Ok(Step::unchanged(order)) } else { Err(Refused::AttemptExists) };
    }
    let alike = order.attempts.iter().filter(|old| old.scene == attempt.scene);
    let lately = alike.clone().filter(|old| now.since(old.opened_at) < LATELY_MS).count();
    if attempt.payer.is_some() && lately >= PAYERS_LATELY {
        return Err(Refused::TooManyAttempts);
    }
    let mut effects = vec![Effect::Query { trade: attempt.trade(), due: now.plus(FIRST_QUERY_MS) }];
    // The code this one replaces is no longer shown; close it so that it cannot be paid beside the new one.
    // What somebody else was given stays theirs, until there are too many: then the oldest goes.
    let (own, others): (Vec<_>, Vec<_>) =
        alike.filter(|old| old.is_open()).partition(|old| old.payer == attempt.payer);
    let too_many = others.len().saturating_sub(PAYERS_MAX - 1);
    let replaced = own.into_iter().chain(others.into_iter().take(too_many));
    effects.extend(replaced.map(|old| Effect::Close { trade: old.trade() }));
    let mut next = order.clone();
    next.attempts.push(attempt);
    Ok(Step { order: next, effects })
}

fn ready(order: &Order, trade: &TradeId, code: Code) -> Result<Step, Refused> {
    let attempt = order.attempt(trade).ok_or(Refused::UnknownAttempt)?;
    match &attempt.state {
        AttemptState::Opening => {}
        // One that ends before its attempt is replaced by the next.
        AttemptState::Ready(known) if known.until.is_some() && code.until > known.until => {}
        // The first code stays: a repeated call gives another one for the same trade, both are payable.
        AttemptState::Ready(_) | AttemptState::Refused { .. } | AttemptState::Closed | AttemptState::Paid => {
            return Ok(Step::unchanged(order));
        }
    }
    let mut step = Step::unchanged(order);
    step.order.set_attempt(trade, AttemptState::Ready(code));
    match order.state {
        State::Pending => {}
        // It became payable after the order stopped being so.
        State::Closing { .. } | State::Paid { .. } | State::Closed { .. } => {
            step.effects.push(Effect::Close { trade: trade.clone() });
        }
    }
    Ok(step)
}

fn refused(order: &Order, trade: &TradeId, code: String, now: UnixMillis) -> Result<Step, Refused> {
    let attempt = order.attempt(trade).ok_or(Refused::UnknownAttempt)?;
    let mut step = Step::unchanged(order);
    match attempt.state {
        AttemptState::Opening => step.order.set_attempt(trade, AttemptState::Refused { code }),
        AttemptState::Ready(_) | AttemptState::Refused { .. } | AttemptState::Closed | AttemptState::Paid => {
            return Ok(step);
        }
    }
    // It may have been the last one that a close was waiting for.
    finish_closing(step, now)
}

fn money(order: &Order, payment: Payment, policy: Policy, now: UnixMillis) -> Result<Step, Refused> {
    order.attempt(&payment.trade).ok_or(Refused::UnknownAttempt)?;
    if order.knows(&payment) {
        return Ok(Step::unchanged(order));
    }
    let mut step = Step::unchanged(order);
    step.order.bump()?;
    if payment.fee != order.terms.total {
        step.order.anomalies.push(Anomaly { kind: AnomalyKind::Mismatch, payment });
        step.effects.push(Effect::Webhook(WebhookKind::PaymentMismatch));
        return Ok(step);
    }
    step.order.set_attempt(&payment.trade, AttemptState::Paid);
    let (kind, webhook, back) = match (&order.state, policy) {
        (State::Pending | State::Closing { .. }, _)
        | (State::Closed { .. }, Policy { late: LatePayment::Accept, .. }) => {
            let siblings = step.order.open_trades().collect::<Vec<_>>();
            step.order.state = State::Paid { payment };
            step.effects.push(Effect::Webhook(WebhookKind::OrderPaid));
            step.effects.extend(siblings.into_iter().map(|trade| Effect::Close { trade }));
            return Ok(step);
        }
        (State::Paid { .. }, Policy { duplicate, .. }) => {
            (AnomalyKind::Duplicate, WebhookKind::PaymentDuplicate, duplicate == DuplicatePayment::Refund)
        }
        (State::Closed { .. }, Policy { late, .. }) => {
            (AnomalyKind::Late, WebhookKind::PaymentLate, late == LatePayment::Refund)
        }
    };
    step.order.anomalies.push(Anomaly { kind, payment: payment.clone() });
    step.effects.push(Effect::Webhook(webhook));
    if back {
        refund::give_back(&mut step, &payment, now);
    }
    Ok(step)
}

fn close_asked(order: &Order, cause: CloseCause, now: UnixMillis) -> Result<Step, Refused> {
    match order.state {
        State::Pending => {}
        State::Closing { .. } | State::Closed { .. } => return Ok(Step::unchanged(order)),
        State::Paid { .. } => return Err(Refused::AlreadyPaid),
    }
    if cause == CloseCause::Expired && order.terms.expires_at.is_none_or(|at| now < at) {
        return Err(Refused::NotExpired);
    }
    let mut step = Step::unchanged(order);
    step.order.state = State::Closing { cause };
    step.effects = order.open_trades().map(|trade| Effect::Close { trade }).collect();
    finish_closing(step, now)
}

fn attempt_closed(order: &Order, trade: &TradeId, now: UnixMillis) -> Result<Step, Refused> {
    let attempt = order.attempt(trade).ok_or(Refused::UnknownAttempt)?;
    match attempt.state {
        AttemptState::Opening | AttemptState::Ready(_) => {}
        AttemptState::Refused { .. } | AttemptState::Closed => return Ok(Step::unchanged(order)),
        AttemptState::Paid => return Err(Refused::AttemptPaid),
    }
    let mut step = Step::unchanged(order);
    step.order.set_attempt(trade, AttemptState::Closed);
    finish_closing(step, now)
}

/// A closing order with no open attempt left is closed.
fn finish_closing(mut step: Step, now: UnixMillis) -> Result<Step, Refused> {
    if let State::Closing { cause } = step.order.state
        && step.order.open_trades().next().is_none()
    {
        step.order.bump()?;
        step.order.state = State::Closed { at: now, cause };
        step.effects.push(Effect::Webhook(WebhookKind::OrderClosed));
    }
    Ok(step)
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
