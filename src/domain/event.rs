//! What can happen to an order, and what must be done then. Only words: `order::advance` says what follows
//! from what.

use super::id::{OutRefundNo, TradeId, UnixMillis, word_enum};
use super::order::{Attempt, CloseCause, Code, Payment};
use super::refund::{RefundStanding, RefundWanted};

/// Something that happened. The API, notices, queries and the clock produce these and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An attempt is about to be placed.
    Opened(Attempt),
    /// The gateway gave a code for an attempt.
    Ready {
        /// Which attempt.
        trade: TradeId,
        /// What it gave.
        code: Code,
    },
    /// The gateway finally refused an attempt.
    Refused {
        /// Which attempt.
        trade: TradeId,
        /// The gateway's own error code.
        code: String,
    },
    /// A gateway took money.
    Money(Payment),
    /// The mall asked for the end, or the time is up.
    CloseAsked {
        /// Which of the two.
        cause: CloseCause,
    },
    /// The gateway closed an attempt, or it can no longer be paid.
    AttemptClosed {
        /// Which attempt.
        trade: TradeId,
    },
    /// The mall wants money given back.
    RefundAsked(RefundWanted),
    /// The gateway says how a refund stands.
    RefundTold {
        /// Which refund.
        out_refund_no: OutRefundNo,
        /// How it stands.
        standing: RefundStanding,
    },
}

/// Something we must now do; saved as a row in the same transaction as the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the mall, with a snapshot of the order as it stands after this step.
    Webhook(WebhookKind),
    /// Ask the gateway about an attempt, from `due` on.
    Query {
        /// Which attempt.
        trade: TradeId,
        /// Not before.
        due: UnixMillis,
    },
    /// Query, close, query an attempt at its gateway.
    Close {
        /// Which attempt.
        trade: TradeId,
    },
    /// Have a refund made at its gateway, and follow it to its end.
    Refund {
        /// Which refund.
        out_refund_no: OutRefundNo,
    },
}

word_enum!(
    /// The events a mall can be told of (contract.md 5).
    WebhookKind {
        /// The order is paid.
        OrderPaid = "order.paid",
        /// The order is closed unpaid.
        OrderClosed = "order.closed",
        /// Money for a paid order.
        PaymentDuplicate = "payment.duplicate",
        /// Money for a closed order.
        PaymentLate = "payment.late",
        /// Money of another amount.
        PaymentMismatch = "payment.mismatch",
        /// Money is back with the shopper.
        RefundSucceeded = "refund.succeeded",
        /// A refund will not be made.
        RefundFailed = "refund.failed",
    }
);
