//! Money given back: what each refund call does, and what became of every refund.
//! Never gives back more than came in, never twice for one number. Rules: gateways.md 1.5, 4.10.
//! A refund is done `DONE_AFTER_MS` after it was accepted; nothing has to happen in between.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::draw;
use super::notices::Notice;
use super::trades::{Decision, Key, Record, Trade};
use crate::domain::id::{Channel, OutRefundNo, OutTradeNo, UnixMillis};
use crate::domain::money::Fen;
use crate::gateway::{
    Answer, GatewayRefund, GatewayRefundState, Objection, RefundTerms, Refunded, TradeState,
};
use crate::runtime::random::NoRandomness;

/// Everything a gateway knows of one refund.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// The trade it gives back.
    pub key: Key,
    /// The merchant's number.
    pub out_refund_no: OutRefundNo,
    /// The gateway's number.
    pub refund_id: String,
    /// How much.
    pub amount: Fen,
    /// For the shopper.
    pub reason: Option<String>,
    /// When it was accepted.
    pub asked_at: UnixMillis,
    /// When it is done.
    pub done_at: UnixMillis,
    /// Whether it ends without the money having moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
}

/// Refunds are unique per merchant at WeChat, per trade at Alipay (gateways.md 1.5, 4.10).
type Name = (Channel, Option<OutTradeNo>, OutRefundNo);

/// All of them.
#[derive(Debug, Default)]
pub struct Refunds {
    /// In order of acceptance.
    all: Vec<Refund>,
    names: HashMap<Name, usize>,
    of_trade: HashMap<Key, Vec<usize>>,
}

impl Refund {
    /// Where it stands.
    pub fn state_at(&self, now: UnixMillis) -> GatewayRefundState {
        match (now >= self.done_at, self.closes) {
            (false, _) => GatewayRefundState::Processing,
            (true, false) => GatewayRefundState::Success,
            (true, true) => GatewayRefundState::Closed,
        }
    }
}

impl Refunds {
    /// Adds one that was accepted.
    pub(super) fn add(&mut self, refund: Refund) {
        let place = self.all.len();
        self.names.insert(name(&refund.key, &refund.out_refund_no), place);
        self.of_trade.entry(refund.key.clone()).or_default().push(place);
        self.all.push(refund);
    }

    /// All of them, oldest first.
    pub fn all(&self) -> &[Refund] {
        &self.all
    }

    /// Those of one trade, oldest first.
    pub fn of(&self, key: &Key) -> impl Iterator<Item = &Refund> {
        let places = self.of_trade.get(key).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.all.get(*place))
    }

    /// The one of this number. At WeChat the trade does not matter.
    pub fn find(&self, key: &Key, out_refund_no: &OutRefundNo) -> Option<&Refund> {
        self.all.get(*self.names.get(&name(key, out_refund_no))?)
    }

    /// What of this trade was given back by `now`.
    pub fn done(&self, key: &Key, now: UnixMillis) -> Fen {
        sum(self.of(key).filter(|refund| refund.state_at(now) == GatewayRefundState::Success))
    }

    /// The same as queries and notices of the trade tell it; `None`: nothing.
    pub fn refunded(&self, key: &Key, now: UnixMillis) -> Option<Refunded> {
        let done = self.of(key).filter(|refund| refund.state_at(now) == GatewayRefundState::Success);
        let last = done.last()?;
        Some(Refunded {
            total: self.done(key, now),
            out_refund_no: last.out_refund_no.clone(),
            at: last.done_at,
        })
    }

    /// What of this trade was given back or is on its way.
    pub fn accepted(&self, key: &Key, now: UnixMillis) -> Fen {
        sum(self.of(key).filter(|refund| refund.state_at(now) != GatewayRefundState::Closed))
    }

    /// What a trusted refund of `trade` does and what it is answered.
    pub(super) fn decide(
        &self,
        trade: Option<&Trade>,
        terms: &RefundTerms,
        now: UnixMillis,
    ) -> Result<Decision, NoRandomness> {
        let Some(trade) = trade else { return Ok(Decision::No(Objection::Absent)) };
        if trade.state != TradeState::Success {
            return Ok(Decision::No(Objection::NotPaid));
        }
        let key = &trade.key;
        // Alipay is not told the total.
        let other_total = key.channel == Channel::Wx && terms.total != trade.terms.total;
        if let Some(known) = self.find(key, &terms.out_refund_no) {
            if known.key != *key || known.amount != terms.amount || other_total {
                return Ok(Decision::No(Objection::RefundDiffers));
            }
            let told = self.told(trade, known, now).map(|told| GatewayRefund { repeated: true, ..told });
            return Ok(yes(told, None));
        }
        if other_total {
            return Ok(Decision::No(Objection::RefundDiffers));
        }
        let all = self.accepted(key, now).checked_add(terms.amount).filter(|all| *all <= trade.terms.total);
        if all.is_none() || terms.amount == Fen::ZERO || self.of(key).count() >= REFUNDS_MAX {
            return Ok(Decision::No(Objection::RefundTooMuch));
        }
        let refund = Refund {
            key: key.clone(),
            out_refund_no: terms.out_refund_no.clone(),
            refund_id: draw::refund_id(now)?,
            amount: terms.amount,
            reason: terms.reason.clone(),
            asked_at: now,
            done_at: now.plus(DONE_AFTER_MS),
            closes: false,
        };
        let notice = notice_of(trade, &refund, &terms.notify_url)?;
        let told = told(trade, &refund, all.unwrap_or_default(), now);
        Ok(yes(told, Some(Record::Refunded { refund: Box::new(refund), notice })))
    }

    /// What a trusted question for a refund of `trade` is answered. WeChat says no where there is none,
    /// Alipay says yes and nothing else (gateways.md 1.5, 4.10).
    pub(super) fn query(
        &self,
        channel: Channel,
        trade: Option<&Trade>,
        out_refund_no: &OutRefundNo,
        now: UnixMillis,
    ) -> Decision {
        let known = trade.and_then(|trade| self.find(&trade.key, out_refund_no).map(|known| (trade, known)));
        let told = known.and_then(|(trade, known)| self.told(trade, known, now));
        match (channel, trade, told) {
            (Channel::Wx, _, None) => Decision::No(Objection::RefundAbsent),
            (Channel::Ali, None, _) => Decision::No(Objection::Absent),
            (_, _, told) => Decision::Yes(Box::new(Answer::RefundQuery(told)), None),
        }
    }

    /// As the gateway tells it at `now`.
    pub fn told(&self, trade: &Trade, refund: &Refund, now: UnixMillis) -> Option<GatewayRefund> {
        let back =
            |other: &&Refund| other.asked_at <= now && other.state_at(now) != GatewayRefundState::Closed;
        told(trade, refund, sum(self.of(&refund.key).filter(back)), now)
    }
}

/// What becomes of a refund that the gateway cannot do. WeChat finds out later, Alipay at once.
pub(super) fn closing(decision: Decision) -> Decision {
    match decision {
        Decision::Yes(answer, Some(Record::Refunded { mut refund, notice })) => {
            match (refund.key.channel, *answer) {
                (Channel::Ali, Answer::Refund(told)) => {
                    let told = GatewayRefund { state: GatewayRefundState::Closed, ..told };
                    Decision::Yes(Box::new(Answer::Refund(told)), None)
                }
                (_, answer) => {
                    refund.closes = true;
                    Decision::Yes(Box::new(answer), Some(Record::Refunded { refund, notice }))
                }
            }
        }
        other => other,
    }
}

/// `None`: the trade has no number, so it was never paid.
fn told(trade: &Trade, refund: &Refund, refunded_total: Fen, now: UnixMillis) -> Option<GatewayRefund> {
    let state = refund.state_at(now);
    Some(GatewayRefund {
        out_trade_no: refund.key.out_trade_no.clone(),
        transaction_id: trade.transaction_id.clone()?,
        out_refund_no: refund.out_refund_no.clone(),
        refund_id: refund.refund_id.clone(),
        total: trade.terms.total,
        amount: refund.amount,
        refunded_total,
        payer: trade.payer.clone(),
        reason: refund.reason.clone(),
        asked_at: refund.asked_at,
        done_at: (state == GatewayRefundState::Success).then_some(refund.done_at),
        state,
        repeated: false,
    })
}

fn yes(told: Option<GatewayRefund>, record: Option<Record>) -> Decision {
    match told {
        Some(told) => Decision::Yes(Box::new(Answer::Refund(told)), record),
        None => Decision::No(Objection::NotPaid),
    }
}

/// WeChat tells the address that the refund named, Alipay the trade's (gateways.md 1.7, 4.5).
fn notice_of(trade: &Trade, refund: &Refund, wanted_url: &str) -> Result<Option<Box<Notice>>, NoRandomness> {
    let notify_url = match refund.key.channel {
        Channel::Wx => wanted_url,
        Channel::Ali => &trade.terms.notify_url,
    };
    if notify_url.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Notice {
        id: draw::delivery_id(refund.asked_at)?,
        key: refund.key.clone(),
        out_refund_no: Some(refund.out_refund_no.clone()),
        event: "refunded".to_owned(),
        notify_url: notify_url.to_owned(),
        copies: 1,
        next_at: Some(refund.done_at),
        rounds: 0,
        deliveries: Vec::new(),
    })))
}

fn name(key: &Key, out_refund_no: &OutRefundNo) -> Name {
    let trade = match key.channel {
        Channel::Wx => None,
        Channel::Ali => Some(key.out_trade_no.clone()),
    };
    (key.channel, trade, out_refund_no.clone())
}

/// Sums stay below the trade's total, which was checked when each was accepted.
fn sum<'a>(refunds: impl Iterator<Item = &'a Refund>) -> Fen {
    let fen = refunds.fold(0_i64, |sum, refund| sum.saturating_add(refund.amount.get()));
    Fen::new(fen).unwrap_or_default()
}

/// contract.md 7.
const DONE_AFTER_MS: i64 = 1000;
/// Refunds of one trade (gateways.md 1.5).
const REFUNDS_MAX: usize = 50;
