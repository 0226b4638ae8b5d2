//! What the gateways say about an attempt: query, confirm, close. Never assumes: an unknown outcome is
//! asked again with the same number, and every answer goes through `apply`.

use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use http::StatusCode;

use super::{Checkout, CheckoutError};
use crate::domain::id::{Channel, Scene, TradeId};
use crate::domain::order::{Attempt, Event, Order, OrderId, Payment};
use crate::gateway::{Call, Fault, Outgoing, Reply, Retry, Stamp, Trade};
use crate::runtime::clock::Clock;
use crate::runtime::crash::{self, Point};
use crate::runtime::random;
use crate::runtime::transport::SendError;
use crate::server::store::Find;

/// A shopper's "I have paid" asks the gateway at most this often per order.
const CONFIRM_INTERVAL_MS: i64 = 1_000;

/// What a call to a gateway can end in.
pub(super) enum CallError {
    Fault(Fault),
    Send(SendError),
    Other(CheckoutError),
}

impl CallError {
    pub(super) fn unavailable(self, channel: Channel) -> CheckoutError {
        let reason = match self {
            Self::Fault(Fault::Refused { code, message, retry: Retry::Never }) => {
                return CheckoutError::GatewayRefused { channel, code, message };
            }
            Self::Fault(fault) => fault.to_string(),
            Self::Send(error) => error.to_string(),
            Self::Other(error) => return error,
        };
        CheckoutError::GatewayUnavailable { channel, reason }
    }
}

impl Checkout {
    /// Asks the gateways about every open attempt of an order: a shopper says it is paid.
    ///
    /// # Errors
    /// [`CheckoutError`]; an unreachable gateway is one only if no other attempt could be asked.
    pub async fn confirm(&self, id: OrderId) -> Result<Arc<Order>, CheckoutError> {
        let mut order = self.find(Find::Id(id)).await?.ok_or(CheckoutError::NotFound)?;
        if !self.may_confirm(id) {
            return Ok(order);
        }
        // At the same time: one gateway that is slow must not keep the other's word back.
        let open = order.attempts.iter().filter(|attempt| attempt.is_open());
        let asked = join_all(open.map(|attempt| self.query(id, attempt.trade()))).await;
        let mut failure = None;
        for answer in asked {
            match answer {
                Ok(asked) if asked.version >= order.version => order = asked,
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if order.payment().is_none() => Err(error),
            _ => Ok(order),
        }
    }

    /// Asks the gateway about one attempt and applies what it says. Parallel askers share one call.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn query(&self, id: OrderId, trade: TradeId) -> Result<Arc<Order>, CheckoutError> {
        let lost = Err(CheckoutError::Internal("the query was lost".to_owned()));
        self.inner.hub.asked(id, self.now());
        let this = self.clone();
        let key = (id, trade.clone());
        let work = async move { Ok(this.ask(id, &trade).await?.0) };
        self.inner.queries.join(key, lost, work).await
    }

    /// Query, close, query: the end of one attempt. `Ok(false)`: not yet, try again later.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn close_attempt(&self, id: OrderId, trade: &TradeId) -> Result<bool, CheckoutError> {
        let (order, standing) = self.ask(id, trade).await?;
        let attempt = order.attempt(trade).ok_or(CheckoutError::NotFound)?;
        if !attempt.is_open() {
            return Ok(true);
        }
        let channel = attempt.scene.channel();
        let absent = standing == Some(Trade::Absent);
        let gone = match standing {
            // Alipay knows no trade before the scan: there is nothing to close (`Attempt::looks`). At
            // WeChat a creation may still be on its way.
            Some(Trade::Absent) => channel == Channel::Ali || self.now().since(attempt.opened_at) > 60_000,
            // Paid with another amount (the right one would have paid the attempt): recorded, and there is
            // nothing left to close.
            Some(Trade::Paid(_)) => true,
            Some(Trade::Waiting) => {
                crash::point(Point::CloseQueried);
                let call = Call::Close { out_trade_no: trade.out_trade_no.clone() };
                match self.call(&order, channel, &call).await {
                    // The shopper can pay between the query and the close: the second query says.
                    Ok(_) | Err(CallError::Fault(Fault::Refused { retry: Retry::AlreadyPaid, .. })) => {
                        crash::point(Point::CloseClosed);
                        let after = self.ask(id, trade).await?.1;
                        crash::point(Point::CloseQueriedAgain);
                        matches!(after, Some(Trade::Absent | Trade::Paid(_)))
                    }
                    Err(CallError::Fault(_) | CallError::Send(_)) => false,
                    Err(CallError::Other(error)) => return Err(error),
                }
            }
            // Applied by the query itself.
            Some(Trade::Closed) | None => false,
        };
        let now = self.reread(id).await?;
        let open = now.attempt(trade).is_some_and(Attempt::is_open);
        // The creation was answered while the gateway said that there is no such trade: it said so before.
        let placed = absent && now.attempt(trade).is_some_and(|now| now.state != attempt.state);
        let gone = gone && !placed;
        if open && gone {
            self.apply(id, Event::AttemptClosed { trade: trade.clone() }).await?;
        }
        Ok(!open || gone)
    }

    /// Asks about one attempt and applies the answer. `None`: the attempt is over, there is nothing to ask.
    async fn ask(&self, id: OrderId, trade: &TradeId) -> Result<(Arc<Order>, Option<Trade>), CheckoutError> {
        let order = self.find(Find::Id(id)).await?.ok_or(CheckoutError::NotFound)?;
        let attempt = order.attempt(trade).ok_or(CheckoutError::NotFound)?;
        let looked_at = attempt.looks().is_some_and(|[first, _]| first <= self.now());
        if !attempt.is_open() && !looked_at {
            return Ok((order, None));
        }
        let channel = attempt.scene.channel();
        let call = Call::Query { out_trade_no: trade.out_trade_no.clone() };
        let standing = match self.call(&order, channel, &call).await {
            Ok(Reply::Trade(standing)) => standing,
            Ok(reply) => return Err(CheckoutError::Internal(format!("not an answer to a query: {reply:?}"))),
            Err(error) => return Err(error.unavailable(channel)),
        };
        // Alipay has a trade of a code only once somebody has scanned it (gateways.md 4.4).
        if standing == Trade::Waiting && attempt.scene == Scene::QrCode {
            self.inner.hub.scanned(id, trade);
        }
        let order = match event_of(trade, &standing) {
            Some(event) => self.apply(id, event).await?.0,
            None => order,
        };
        Ok((order, Some(standing)))
    }

    pub(super) async fn call(
        &self,
        order: &Order,
        channel: Channel,
        call: &Call,
    ) -> Result<Reply, CallError> {
        let member = self.member(&order.key.merchant).map_err(CallError::Other)?;
        let half = member.gateway(channel).ok_or(CallError::Other(CheckoutError::NotConfigured(channel)))?;
        let trade = TradeId { channel, out_trade_no: call.out_trade_no().clone() };
        let placed = order.attempt(&trade).map(|attempt| attempt.account.as_str());
        if placed != Some(half.account()) {
            // Another account may know the same number: its money would be taken for this order's, and its
            // "no such trade" for the truth.
            let reason = format!("{trade} was placed under another account than the one configured now");
            tracing::error!(order = %order.key, %reason, "a gateway is not asked");
            return Err(CallError::Other(CheckoutError::GatewayUnavailable { channel, reason }));
        }
        let nonce = random::base62(32)
            .map_err(|error| CallError::Other(CheckoutError::Internal(error.to_string())))?;
        // Stamps inside signatures are real, also in a demo whose business time was moved ahead.
        let stamp = Stamp { now: Clock::real(), nonce };
        match half.encode_call(call, &stamp).map_err(CallError::Fault)? {
            Outgoing::Local(reply) => Ok(reply),
            Outgoing::Send(request) => {
                let reply = member.wire(channel, call).send(request).await.map_err(CallError::Send)?;
                let said = half.decode_reply(call, &reply, Clock::real());
                let too_often = too_often(reply.status(), &said);
                self.inner.pace.heard(channel, half.account(), too_often, self.now());
                said.map_err(CallError::Fault)
            }
        }
    }

    fn may_confirm(&self, id: OrderId) -> bool {
        let now = self.now();
        let mut confirmed = self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes nobody wait for the time before.
        confirmed.retain(|_, at| (0..CONFIRM_INTERVAL_MS).contains(&now.since(*at)));
        match confirmed.entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(now);
                true
            }
        }
    }
}

/// Whether a gateway says that it is asked too often (gateways.md 1.5, 2.9, 4.3).
fn too_often(status: StatusCode, said: &Result<Reply, Fault>) -> bool {
    let Err(Fault::Refused { code, .. }) = said else { return status == StatusCode::TOO_MANY_REQUESTS };
    let word = code.replace('_', "");
    status == StatusCode::TOO_MANY_REQUESTS
        || word.starts_with("FREQUENCYLIMIT")
        || word.starts_with("RATELIMIT")
        || word.ends_with("call-limited")
        || word == "40005"
}

/// The event that a trade's standing is, whether a notice or a query tells it: both meet in one key.
pub fn event_of(trade: &TradeId, standing: &Trade) -> Option<Event> {
    match standing {
        Trade::Waiting | Trade::Absent => None,
        Trade::Closed => Some(Event::AttemptClosed { trade: trade.clone() }),
        Trade::Paid(paid) => Some(Event::Money(Payment {
            trade: trade.clone(),
            transaction_id: paid.transaction_id.clone(),
            fee: paid.total,
            paid_at: paid.paid_at,
        })),
    }
}
