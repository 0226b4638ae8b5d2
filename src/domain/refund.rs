//! Money given back: what a refund is, and the part of the rulebook that changes one. Never more than the
//! money it gives back, never backwards. `order::advance` is the only caller; the table: `order_rules.txt`.

use super::id::{OutRefundNo, RefundNumber, TradeId, TransactionId, UnixMillis, word_enum};
use super::money::Fen;
use super::number;
use super::order::{Anomaly, AnomalyKind, Effect, Order, Payment, Refused, Step, WebhookKind};

/// Money on its way back, or back, to the shopper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The mall's number, or ours (`auto-1`) where a policy gives the money back.
    pub number: RefundNumber,
    /// Our number at the gateway; asking again with it never gives back twice.
    pub out_refund_no: OutRefundNo,
    /// The attempt the money came through.
    pub trade: TradeId,
    /// The money.
    pub transaction_id: TransactionId,
    /// How much of it, in fen, at least 1.
    pub amount: Fen,
    /// Why, for the shopper.
    pub reason: Option<String>,
    /// When it was committed here, before the gateway was called.
    pub asked_at: UnixMillis,
    /// Where it stands.
    pub state: RefundState,
}

/// Where a refund stands. Only ever moves down this list: the gateway's later word counts, and success is
/// its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// Committed; the gateway was called or is about to be, outcome unknown.
    Asked,
    /// The gateway has taken it on.
    Processing,
    /// The gateway said no, or could not do it: the money is still the merchant's.
    Failed {
        /// The gateway's own code.
        code: String,
    },
    /// The money is back.
    Succeeded {
        /// When, by the gateway's word.
        at: UnixMillis,
    },
}

/// How a refund stands, by the gateway's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundStanding {
    /// The gateway has no such refund: it was never asked, or its answer was lost on the way there.
    Absent,
    /// Taken on, not done. Also every status we do not know.
    Processing,
    /// It will not be done.
    Failed {
        /// The gateway's own code.
        code: String,
    },
    /// Done.
    Succeeded {
        /// When, if the gateway says.
        at: Option<UnixMillis>,
    },
}

/// What the merchant wants done with money that does not pay an order. A mismatch always waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Money for a closed order.
    pub late: LatePayment,
    /// Money for a paid order.
    pub duplicate: DuplicatePayment,
}

word_enum!(
    /// What happens to money that comes after the close.
    LatePayment {
        /// It goes back.
        Refund = "refund",
        /// The order is paid after all.
        Accept = "accept",
        /// A person decides.
        Hold = "hold",
    }
);
word_enum!(
    /// What happens to a second payment of one order.
    DuplicatePayment {
        /// It goes back.
        Refund = "refund",
        /// A person decides.
        Hold = "hold",
    }
);

/// What is to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundWanted {
    /// The mall's number of it; asking again with it changes nothing.
    pub number: RefundNumber,
    /// How much, in fen.
    pub amount: Fen,
    /// Why, for the shopper.
    pub reason: Option<String>,
    /// Of which money; `None`: of the payment that paid the order.
    pub transaction_id: Option<TransactionId>,
}

impl Refund {
    /// Whether nothing more is expected to happen to it.
    pub const fn is_settled(&self) -> bool {
        matches!(self.state, RefundState::Failed { .. } | RefundState::Succeeded { .. })
    }

    /// Whether it gives `payment` back.
    pub fn is_of(&self, payment: &Payment) -> bool {
        self.trade == payment.trade && self.transaction_id == payment.transaction_id
    }

    /// Whether its amount is gone from the merchant, or may be.
    const fn counts(&self) -> bool {
        !matches!(self.state, RefundState::Failed { .. })
    }
}

/// Refunds of one payment at most: WeChat's own limit (gateways.md 1.5).
pub const REFUNDS_MAX: usize = 50;

/// The mall, or a policy, wants money given back.
pub(super) fn asked(order: &Order, wanted: RefundWanted, now: UnixMillis) -> Result<Step, Refused> {
    if let Some(known) = order.refund(&wanted.number) {
        let same_money = match &wanted.transaction_id {
            Some(id) => *id == known.transaction_id,
            // Not just any money: a policy's refund of a second payment is none of what paid the order.
            None => order.payment().is_some_and(|payment| known.is_of(payment)),
        };
        let same = same_money
            && known.amount == wanted.amount
            && (wanted.reason.is_none() || wanted.reason == known.reason);
        return if same { Ok(Step::unchanged(order)) } else { Err(Refused::RefundExists) };
    }
    let payment = match &wanted.transaction_id {
        None => order.payment().ok_or(Refused::NotPaid)?,
        Some(id) => order.money().find(|money| money.transaction_id == *id).ok_or(Refused::NoSuchMoney)?,
    };
    let payment = payment.clone();
    let mut step = Step::unchanged(order);
    step.order.bump()?;
    add(&mut step, &payment, wanted, now)?;
    Ok(step)
}

/// A policy gives an anomaly's money back, all of it, under a number of ours. Money that cannot be given
/// back by itself waits for a person: that must never keep it from being recorded.
pub(super) fn give_back(step: &mut Step, payment: &Payment, now: UnixMillis) {
    let free = |n| {
        let number = RefundNumber::new(format!("auto-{n}")).ok()?;
        step.order.refund(&number).is_none().then_some(number)
    };
    let Some(number) = (1..=step.order.refunds.len() + 1).find_map(free) else { return };
    let wanted = RefundWanted { number, amount: payment.fee, reason: None, transaction_id: None };
    // What cannot be added changes nothing.
    let _ = add(step, payment, wanted, now);
}

fn add(step: &mut Step, payment: &Payment, wanted: RefundWanted, now: UnixMillis) -> Result<(), Refused> {
    if wanted.amount == Fen::ZERO {
        return Err(Refused::RefundTooMuch);
    }
    if step.order.refunds.iter().filter(|refund| refund.is_of(payment)).count() >= REFUNDS_MAX {
        return Err(Refused::TooManyRefunds);
    }
    let room = payment.fee.checked_sub(step.order.given_back(payment)).ok_or(Refused::RefundTooMuch)?;
    room.checked_sub(wanted.amount).ok_or(Refused::RefundTooMuch)?;
    let n = step.order.refunds.len() + 1;
    let out_refund_no =
        number::out_refund_no(&payment.trade.out_trade_no, n).ok_or(Refused::TooManyRefunds)?;
    step.effects.push(Effect::Refund { out_refund_no: out_refund_no.clone() });
    step.order.refunds.push(Refund {
        number: wanted.number,
        out_refund_no,
        trade: payment.trade.clone(),
        transaction_id: payment.transaction_id.clone(),
        amount: wanted.amount,
        reason: wanted.reason,
        asked_at: now,
        state: RefundState::Asked,
    });
    Ok(())
}

/// The gateway says how a refund stands.
pub(super) fn told(
    order: &Order,
    out_refund_no: &OutRefundNo,
    standing: RefundStanding,
    now: UnixMillis,
) -> Result<Step, Refused> {
    let known = order.refund_by_no(out_refund_no).ok_or(Refused::UnknownRefund)?;
    let mut step = Step::unchanged(order);
    let (state, kind) = match (&known.state, standing) {
        (RefundState::Asked, RefundStanding::Processing) => (RefundState::Processing, None),
        (RefundState::Asked | RefundState::Processing, RefundStanding::Failed { code }) => {
            (RefundState::Failed { code }, Some(WebhookKind::RefundFailed))
        }
        (
            RefundState::Asked | RefundState::Processing | RefundState::Failed { .. },
            RefundStanding::Succeeded { at },
        ) => (RefundState::Succeeded { at: at.unwrap_or(now) }, Some(WebhookKind::RefundSucceeded)),
        // Nothing new, or an older word than the one we have.
        (_, RefundStanding::Absent)
        | (
            RefundState::Processing | RefundState::Failed { .. } | RefundState::Succeeded { .. },
            RefundStanding::Processing,
        )
        | (RefundState::Failed { .. } | RefundState::Succeeded { .. }, RefundStanding::Failed { .. })
        | (RefundState::Succeeded { .. }, RefundStanding::Succeeded { .. }) => return Ok(step),
    };
    // Given up as failed, asked anew under another number, and then it succeeds all the same: the gateway
    // itself lets no more go back than came in, so this cannot be true and needs a person.
    if matches!(known.state, RefundState::Failed { .. })
        && let Some(payment) = order.money().find(|money| known.is_of(money))
    {
        let room = payment.fee.checked_sub(order.given_back(payment)).ok_or(Refused::RefundTooMuch)?;
        room.checked_sub(known.amount).ok_or(Refused::RefundTooMuch)?;
    }
    if let Some(kind) = kind {
        step.order.bump()?;
        step.effects.push(Effect::Webhook(kind));
    }
    for refund in &mut step.order.refunds {
        if refund.out_refund_no == *out_refund_no {
            refund.state = state;
            break;
        }
    }
    Ok(step)
}

impl Order {
    /// All money that came in for this order, each transaction once: what paid it first. Of a transaction
    /// that was first told with a wrong amount and then with the right one, the right one counts.
    pub fn money(&self) -> impl Iterator<Item = &Payment> {
        let wrong = |anomaly: &&Anomaly| anomaly.kind == AnomalyKind::Mismatch;
        let right = self
            .payment()
            .into_iter()
            .chain(self.anomalies.iter().filter(move |it| !wrong(it)).map(|anomaly| &anomaly.payment));
        let corrected = |payment: &Payment| {
            let same = |it: &Payment| {
                it.trade.channel == payment.trade.channel && it.transaction_id == payment.transaction_id
            };
            self.payment().is_some_and(same)
                || self.anomalies.iter().any(|it| it.kind != AnomalyKind::Mismatch && same(&it.payment))
        };
        let mismatched = self.anomalies.iter().filter(wrong).map(|anomaly| &anomaly.payment);
        right.chain(mismatched.filter(move |payment| !corrected(payment)))
    }

    /// What kind of anomaly some money is; `None`: it paid the order.
    pub fn anomaly_of(&self, payment: &Payment) -> Option<AnomalyKind> {
        self.anomalies.iter().find(|anomaly| anomaly.payment == *payment).map(|anomaly| anomaly.kind)
    }

    /// The refund of the mall's number.
    pub fn refund(&self, number: &RefundNumber) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.number == *number)
    }

    /// The refund of our number at the gateway.
    pub fn refund_by_no(&self, out_refund_no: &OutRefundNo) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.out_refund_no == *out_refund_no)
    }

    /// What of `payment` is back with the shopper or on its way, in fen; failed refunds do not count.
    pub fn given_back(&self, payment: &Payment) -> Fen {
        self.sum_refunds(payment, Refund::counts)
    }

    /// What of `payment` is back with the shopper, in fen.
    pub fn refunded(&self, payment: &Payment) -> Fen {
        self.sum_refunds(payment, |refund| matches!(refund.state, RefundState::Succeeded { .. }))
    }

    fn sum_refunds(&self, payment: &Payment, which: impl Fn(&Refund) -> bool) -> Fen {
        let mut amounts = self.refunds.iter().filter(|refund| refund.is_of(payment) && which(refund));
        // Each was checked against the payment when it was added; a sum past every limit counts as all.
        amounts.try_fold(Fen::ZERO, |sum, refund| sum.checked_add(refund.amount)).unwrap_or(payment.fee)
    }
}
