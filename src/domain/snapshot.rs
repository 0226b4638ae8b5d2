//! An order as the mall sees it: the JSON of `GET /rest/orders/…` and of every webhook (contract.md 5).
//! Never holds a capability: tokens and URLs are added by the API for the one who may have them.

use serde::Serialize;

use super::id::{Channel, OrderNumber, OrderType, OutTradeNo, RefundNumber, Scene, Title, TransactionId};
use super::money::Fen;
use super::order::{AnomalyKind, AttemptState, Order, Payment, State};
use super::refund::{Refund, RefundState};
use super::time::rfc3339;

/// The whole order.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Kind of order.
    pub order_type: OrderType,
    /// The mall's number.
    pub order_number: OrderNumber,
    /// What is sold.
    pub title: Title,
    /// What is due, in fen.
    pub total_fee: Fen,
    /// `pending`, `paid` or `closed`.
    pub state: &'static str,
    /// Counts changes; a reader ignores a snapshot older than one it has.
    pub version: i64,
    /// RFC 3339, +08:00.
    pub created_at: String,
    /// RFC 3339, +08:00; `null` for an order that does not expire.
    pub expires_at: Option<String>,
    /// What was paid for it, in fen.
    pub paid_fee: Fen,
    /// What was given back of that, in fen.
    pub refunded_fee: Fen,
    /// When it was paid, by the gateway's word.
    pub paid_at: Option<String>,
    /// Oldest first.
    pub attempts: Vec<AttemptSnapshot>,
    /// What paid the order.
    pub payments: Vec<PaymentSnapshot>,
    /// Refunds of what paid the order.
    pub refunds: Vec<RefundSnapshot>,
    /// The rest is not shown to the holder of an order's own token.
    #[serde(flatten)]
    pub private: Option<Private>,
}

/// What only the merchant's API key may read.
#[derive(Clone, Debug, Serialize)]
pub struct Private {
    /// The mall's word for the buyer.
    pub buyer: Option<String>,
    /// The mall's own note.
    pub attach: Option<String>,
    /// Money that did not pay the order.
    pub anomalies: Vec<AnomalySnapshot>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptSnapshot {
    /// `wx` or `ali`.
    pub channel: Channel,
    /// `NATIVE`, `QRCODE`, `APP`.
    pub scene: Scene,
    /// Our number at the gateway.
    pub out_trade_no: OutTradeNo,
    /// `opening`, `ready`, `refused`, `closed`, `paid`.
    pub state: &'static str,
}

/// Money that paid the order.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentSnapshot {
    /// `wx` or `ali`.
    pub channel: Channel,
    /// Our number at the gateway.
    pub out_trade_no: OutTradeNo,
    /// The gateway's number.
    pub transaction_id: TransactionId,
    /// In fen.
    pub fee: Fen,
    /// RFC 3339, +08:00.
    pub paid_at: String,
}

/// A refund.
#[derive(Clone, Debug, Serialize)]
pub struct RefundSnapshot {
    /// The mall's number of it.
    pub refund_number: RefundNumber,
    /// In fen.
    pub amount: Fen,
    /// `processing`, `succeeded` or `failed`.
    pub state: &'static str,
}

/// Money that did not pay the order.
#[derive(Clone, Debug, Serialize)]
pub struct AnomalySnapshot {
    /// `duplicate`, `late` or `mismatch`.
    pub kind: AnomalyKind,
    /// `wx` or `ali`.
    pub channel: Channel,
    /// The gateway's number.
    pub transaction_id: TransactionId,
    /// In fen.
    pub fee: Fen,
    /// Where giving it back stands, as of its newest refund: `processing`, `succeeded`, `failed`; `null`
    /// while nobody has asked for it.
    pub refund_state: Option<&'static str>,
}

/// The state as the mall sees it: closing is still pending, for money may still come in.
pub const fn state_word(state: &State) -> &'static str {
    match state {
        State::Pending | State::Closing { .. } => "pending",
        State::Paid { .. } => "paid",
        State::Closed { .. } => "closed",
    }
}

impl Snapshot {
    /// Everything, for the merchant.
    pub fn for_merchant(order: &Order) -> Self {
        Self { private: Some(Private::of(order)), ..Self::for_token(order) }
    }

    /// Without buyer, attach and anomalies, for the holder of the order's own token.
    pub fn for_token(order: &Order) -> Self {
        let payment = order.payment();
        Self {
            order_type: order.key.order_type,
            order_number: order.key.number.clone(),
            title: order.terms.title.clone(),
            total_fee: order.terms.total,
            state: state_word(&order.state),
            version: order.version,
            created_at: rfc3339(order.created_at),
            expires_at: order.terms.expires_at.map(rfc3339),
            paid_fee: payment.map_or(Fen::ZERO, |payment| payment.fee),
            refunded_fee: payment.map_or(Fen::ZERO, |payment| order.refunded(payment)),
            paid_at: payment.map(|payment| rfc3339(payment.paid_at)),
            attempts: order
                .attempts
                .iter()
                .map(|attempt| AttemptSnapshot {
                    channel: attempt.scene.channel(),
                    scene: attempt.scene,
                    out_trade_no: attempt.out_trade_no.clone(),
                    state: attempt_word(&attempt.state),
                })
                .collect(),
            payments: payment.map(PaymentSnapshot::of).into_iter().collect(),
            refunds: order
                .refunds
                .iter()
                .filter(|refund| payment.is_some_and(|payment| refund.is_of(payment)))
                .map(RefundSnapshot::of)
                .collect(),
            private: None,
        }
    }
}

impl Private {
    fn of(order: &Order) -> Self {
        Self {
            buyer: order.terms.buyer.clone(),
            attach: order.terms.attach.clone(),
            anomalies: order
                .anomalies
                .iter()
                .map(|anomaly| AnomalySnapshot {
                    kind: anomaly.kind,
                    channel: anomaly.payment.trade.channel,
                    transaction_id: anomaly.payment.transaction_id.clone(),
                    fee: anomaly.payment.fee,
                    refund_state: order
                        .refunds
                        .iter()
                        .rev()
                        .find(|refund| refund.is_of(&anomaly.payment))
                        .map(|refund| refund_word(&refund.state)),
                })
                .collect(),
        }
    }
}

impl PaymentSnapshot {
    fn of(payment: &Payment) -> Self {
        Self {
            channel: payment.trade.channel,
            out_trade_no: payment.trade.out_trade_no.clone(),
            transaction_id: payment.transaction_id.clone(),
            fee: payment.fee,
            paid_at: rfc3339(payment.paid_at),
        }
    }
}

impl RefundSnapshot {
    /// As the mall sees it.
    pub fn of(refund: &Refund) -> Self {
        Self {
            refund_number: refund.number.clone(),
            amount: refund.amount,
            state: refund_word(&refund.state),
        }
    }
}

/// The state as the mall sees it: whether the gateway has taken it on yet is our business.
pub const fn refund_word(state: &RefundState) -> &'static str {
    match state {
        RefundState::Asked | RefundState::Processing => "processing",
        RefundState::Failed { .. } => "failed",
        RefundState::Succeeded { .. } => "succeeded",
    }
}

const fn attempt_word(state: &AttemptState) -> &'static str {
    match state {
        AttemptState::Opening => "opening",
        AttemptState::Ready(_) => "ready",
        AttemptState::Refused { .. } => "refused",
        AttemptState::Closed => "closed",
        AttemptState::Paid => "paid",
    }
}
