//! Orders that somebody looks at, and how fast gateways are asked about them. Never asks by itself: what is
//! due is handed to the workers.

use std::sync::Arc;

use super::Checkout;
use crate::domain::id::TradeId;
use crate::domain::order::{Order, OrderId};
use crate::server::hub::is_shown;
use crate::server::pace::{Caller, Pace, Permit};

/// A question to a gateway that a watched order wants asked now.
pub struct Question {
    /// About which order.
    pub order: OrderId,
    /// About which attempt.
    pub trade: TradeId,
    /// To be kept until the answer is there.
    pub permit: Permit,
}

impl Checkout {
    /// Somebody looks at the order's page, or polls it.
    pub fn seen(&self, order: &Arc<Order>) {
        self.inner.hub.seen(order, self.now());
    }

    /// Whether a gateway has told that somebody opened the order's code (Alipay; WeChat does not tell).
    pub fn is_scanned(&self, order: &Order) -> bool {
        self.inner.hub.is_scanned(order)
    }

    /// How fast the gateways are asked.
    pub fn pace(&self) -> &Pace {
        &self.inner.pace
    }

    /// What should be asked now about watched orders, as far as their accounts may call: one question per
    /// attempt, however many watch. What there is no room for comes first the next time.
    pub fn questions(&self) -> Vec<Question> {
        let now = self.now();
        let mut questions = Vec::new();
        for order in self.inner.hub.due(now) {
            let before = questions.len();
            for attempt in order.attempts.iter().filter(|attempt| is_shown(attempt)) {
                let channel = attempt.scene.channel();
                if let Ok(permit) = self.inner.pace.take(channel, &attempt.account, Caller::Watched, 1, now) {
                    questions.push(Question { order: order.id, trade: attempt.trade(), permit });
                }
            }
            if questions.len() > before {
                self.inner.hub.asked(order.id, now);
            }
        }
        questions
    }
}
