//! Giving money back: taking the wish on, and bringing it to its end at the gateway. Never asks without the
//! wish being committed, never with another number than the stored one: the gateway then does it once,
//! however often it is asked.

use std::sync::Arc;

use super::ask::CallError;
use super::{Checkout, CheckoutError, refused_error};
use crate::domain::id::{Channel, OutRefundNo};
use crate::domain::order::{Event, Order, OrderId};
use crate::domain::refund::{Refund, RefundStanding, RefundState, RefundWanted};
use crate::gateway::{Call, Fault, RefundTerms, Reply, Retry};
use crate::runtime::crash::{self, Point};
use crate::server::store::Find;

impl Checkout {
    /// Takes a refund on; a worker has it made. The flag says whether it is new.
    ///
    /// # Errors
    /// [`CheckoutError`] says why it cannot be.
    pub async fn refund(
        &self,
        id: OrderId,
        wanted: RefundWanted,
    ) -> Result<(Arc<Order>, Refund, bool), CheckoutError> {
        let number = wanted.number.clone();
        let before = self.find(Find::Id(id)).await?.ok_or(CheckoutError::NotFound)?;
        let (order, refused) = self.apply(id, Event::RefundAsked(wanted)).await?;
        if let Some(refused) = refused {
            return Err(refused_error(refused));
        }
        crash::point(Point::RefundAsked);
        let refund = order.refund(&number).cloned().ok_or(CheckoutError::NotFound)?;
        let new = before.refund(&number).is_none();
        Ok((order, refund, new))
    }

    /// Brings a refund one step further. `true`: nothing more is to be done.
    ///
    /// # Errors
    /// [`CheckoutError`]: the outcome is unknown, or the gateway is not to be had; again later.
    pub async fn work_refund(&self, id: OrderId, number: &OutRefundNo) -> Result<bool, CheckoutError> {
        let order = self.find(Find::Id(id)).await?.ok_or(CheckoutError::NotFound)?;
        let refund = order.refund_by_no(number).ok_or(CheckoutError::NotFound)?;
        let standing = match refund.state {
            RefundState::Succeeded { .. } => return Ok(true),
            // A person may have mended it at the gateway: asked about, never made again.
            RefundState::Failed { .. } => match self.query_refund(&order, refund).await? {
                done @ RefundStanding::Succeeded { .. } => done,
                RefundStanding::Absent | RefundStanding::Processing | RefundStanding::Failed { .. } => {
                    return Ok(true);
                }
            },
            RefundState::Asked => self.make_refund(&order, refund).await?,
            RefundState::Processing => match self.query_refund(&order, refund).await? {
                // The gateway forgot it, or had never done it: asked again, it is done once.
                RefundStanding::Absent => self.make_refund(&order, refund).await?,
                known => known,
            },
        };
        let event = Event::RefundTold { out_refund_no: number.clone(), standing };
        let (order, refused) = self.apply(id, event).await?;
        crash::point(Point::RefundSaved);
        if let Some(refused) = refused {
            tracing::error!(order = %order.key, refund = %number, %refused, "a refund contradicts the order");
            return Ok(true);
        }
        Ok(order.refund_by_no(number).is_none_or(Refund::is_settled))
    }

    async fn make_refund(&self, order: &Order, refund: &Refund) -> Result<RefundStanding, CheckoutError> {
        let channel = refund.trade.channel;
        let total = order.money().find(|money| refund.is_of(money)).map(|money| money.fee);
        let path = match channel {
            Channel::Wx => "wx/refund_notify",
            Channel::Ali => "ali/pay_notify",
        };
        let call = Call::Refund {
            out_trade_no: refund.trade.out_trade_no.clone(),
            refund: RefundTerms {
                out_refund_no: refund.out_refund_no.clone(),
                total: total.ok_or_else(|| CheckoutError::Internal("a refund of no money".to_owned()))?,
                amount: refund.amount,
                reason: refund.reason.clone(),
                notify_url: format!("{}/rest/pub/{path}", self.public_base_url()),
            },
        };
        crash::point(Point::RefundCalled);
        match self.call(order, channel, &call).await {
            Ok(Reply::Refund(standing)) => {
                crash::point(Point::RefundAnswered);
                Ok(standing)
            }
            Ok(reply) => Err(CheckoutError::Internal(format!("not an answer to a refund: {reply:?}"))),
            Err(CallError::Fault(Fault::Refused { code, message, retry })) if retry != Retry::Later => {
                tracing::warn!(order = %order.key, %channel, %code, %message, "the gateway refused a refund");
                // An earlier call may have been taken on and its answer lost: the refund itself is asked.
                match self.query_refund(order, refund).await? {
                    RefundStanding::Absent => Ok(RefundStanding::Failed { code }),
                    known => Ok(known),
                }
            }
            Err(error) => Err(error.unavailable(channel)),
        }
    }

    async fn query_refund(&self, order: &Order, refund: &Refund) -> Result<RefundStanding, CheckoutError> {
        let channel = refund.trade.channel;
        let call = Call::RefundQuery {
            out_trade_no: refund.trade.out_trade_no.clone(),
            out_refund_no: refund.out_refund_no.clone(),
        };
        match self.call(order, channel, &call).await {
            Ok(Reply::Refund(standing)) => Ok(standing),
            Ok(reply) => Err(CheckoutError::Internal(format!("not an answer to a refund query: {reply:?}"))),
            Err(error) => Err(error.unavailable(channel)),
        }
    }
}
