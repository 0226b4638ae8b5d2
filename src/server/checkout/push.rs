//! Push: the code of an order's live attempt, placing one if there is none. Never calls the gateway
//! before the attempt and its exact request are committed; repeats that request when the outcome is unknown.

use std::sync::Arc;

use super::ask::CallError;
use super::{Checkout, CheckoutError, Pushed, refused_error};
use crate::domain::id::{Channel, Scene, UnixMillis};
use crate::domain::order::{Attempt, Event, Order, State};
use crate::gateway::{self, Call, Fault, Reply, Retry};
use crate::runtime::crash::{self, Point};
use crate::server::store::NewAttempt;

/// How long a gateway's code is payable: 2 h (gateways.md 1.2, 4.4).
const CODE_LIFE_MS: i64 = 2 * 3_600_000;
/// Codes are no longer shown this long before they end.
const CODE_MARGIN_MS: i64 = 5 * 60_000;
/// New numbers tried in one push when the gateway says that a number is used up.
const NUMBERS_PER_PUSH: u32 = 3;

impl Checkout {
    /// The code of the scene's live attempt, placing one if there is none. Parallel pushes share one call.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn push(&self, order: &Arc<Order>, scene: Scene) -> Result<Pushed, CheckoutError> {
        if let Some(pushed) = self.live(order, scene)? {
            return Ok(pushed);
        }
        let lost = Err(CheckoutError::Internal("the push was lost".to_owned()));
        let (this, order) = (self.clone(), order.clone());
        let id = order.id;
        self.inner.pushes.join((id, scene), lost, async move { this.place(&order, scene).await }).await
    }

    /// The live attempt's code, if it is there already.
    fn live(&self, order: &Arc<Order>, scene: Scene) -> Result<Option<Pushed>, CheckoutError> {
        self.payable(order)?;
        let channel = scene.channel();
        let member = self.member(&order.key.merchant)?;
        let half = member.gateway(channel).ok_or(CheckoutError::NotConfigured(channel))?;
        let attempt = order.live_attempt(scene, half.account(), self.now());
        Ok(attempt.and_then(|attempt| pushed(order, attempt)))
    }

    /// Whether there is something to pay, and time for it.
    pub(super) fn payable(&self, order: &Order) -> Result<(), CheckoutError> {
        let ended = order.terms.expires_at.is_some_and(|at| at <= self.now());
        match order.state {
            State::Pending if !ended => Ok(()),
            State::Paid { .. } => Err(CheckoutError::AlreadyPaid),
            State::Pending | State::Closing { .. } | State::Closed { .. } => {
                Err(CheckoutError::AlreadyClosed)
            }
        }
    }

    async fn place(&self, order: &Arc<Order>, scene: Scene) -> Result<Pushed, CheckoutError> {
        let mut last = CheckoutError::Internal("no number was tried".to_owned());
        for _ in 0..NUMBERS_PER_PUSH {
            match self.place_once(order, scene).await? {
                Ok(pushed) => return Ok(pushed),
                Err(used_up) => last = used_up,
            }
        }
        Err(last)
    }

    /// One attempt. The inner error means that its number is used up and the next one may do.
    async fn place_once(
        &self,
        order: &Arc<Order>,
        scene: Scene,
    ) -> Result<Result<Pushed, CheckoutError>, CheckoutError> {
        let channel = scene.channel();
        let (id, now) = (order.id, self.now());
        let wanted = self.attempt_for(order, scene, now)?;
        let policies = self.merchants().policies();
        let opened =
            self.inner.store.open_attempt(id, wanted, policies, now).await?.map_err(refused_error)?;
        let (order, trade) = (Arc::new(opened.order), opened.trade);
        self.inner.hub.publish(&order);
        let attempt = order.attempt(&trade).ok_or(CheckoutError::NotFound)?;
        if let Some(pushed) = pushed(&order, attempt) {
            return Ok(Ok(pushed));
        }
        let terms: gateway::Terms = serde_json::from_str(&attempt.request)
            .map_err(|error| CheckoutError::Internal(format!("stored request: {error}")))?;
        crash::point(Point::PushCommitted);
        let call = Call::Create { out_trade_no: trade.out_trade_no.clone(), terms };
        let refusal = match self.call(&order, channel, &call).await {
            Ok(Reply::Created(code)) => {
                crash::point(Point::PushAnswered);
                let event = Event::Ready { trade: trade.clone(), code };
                let (order, _) = self.apply(id, event).await?;
                let attempt = order.attempt(&trade).ok_or(CheckoutError::NotFound)?;
                crash::point(Point::PushSaved);
                let not_ready = || CheckoutError::AlreadyClosed;
                return Ok(Ok(pushed(&order, attempt).ok_or_else(not_ready)?));
            }
            Ok(reply) => {
                return Err(CheckoutError::Internal(format!("not an answer to a creation: {reply:?}")));
            }
            Err(CallError::Fault(Fault::Refused { code, message, retry })) => (code, message, retry),
            Err(error) => return Err(error.unavailable(channel)),
        };
        let (code, message, retry) = refusal;
        tracing::warn!(order = %order.key, %channel, %code, %message, "the gateway refused an attempt");
        match retry {
            Retry::Later => {
                return Err(CheckoutError::GatewayUnavailable {
                    channel,
                    reason: format!("{code} {message}"),
                });
            }
            Retry::AlreadyPaid => {
                let asked = self.query(id, trade).await?;
                let reason = "the gateway says paid, its query does not".to_owned();
                let unclear = CheckoutError::GatewayUnavailable { channel, reason };
                return Err(if asked.payment().is_some() { CheckoutError::AlreadyPaid } else { unclear });
            }
            Retry::Never | Retry::NewNumber => {}
        }
        let event = Event::Refused { trade, code: code.clone() };
        self.apply(id, event).await?;
        let error = CheckoutError::GatewayRefused { channel, code, message };
        if retry == Retry::NewNumber { Ok(Err(error)) } else { Err(error) }
    }

    /// The attempt a push wants, with the exact request that will be sent.
    fn attempt_for(&self, order: &Order, scene: Scene, now: UnixMillis) -> Result<NewAttempt, CheckoutError> {
        let channel = scene.channel();
        let member = self.member(&order.key.merchant)?;
        let half = member.gateway(channel).ok_or(CheckoutError::NotConfigured(channel))?;
        let code_end = now.plus(CODE_LIFE_MS);
        let wanted_end = order.terms.expires_at.map_or(code_end, |at| at.min(code_end));
        let path = match channel {
            Channel::Wx => "wx",
            Channel::Ali => "ali",
        };
        let terms = gateway::Terms {
            scene,
            title: gateway::clean_title(scene, order.terms.title.as_str(), order.key.number.as_str()),
            total: order.terms.total,
            notify_url: format!("{}/rest/pub/{path}/pay_notify", self.inner.public_base_url),
            time_expire: gateway::round_expiry(scene, now, wanted_end),
            client_ip: "127.0.0.1".to_owned(),
        };
        let request =
            serde_json::to_string(&terms).map_err(|error| CheckoutError::Internal(error.to_string()))?;
        let expires_at = wanted_end.min(code_end.plus(-CODE_MARGIN_MS));
        Ok(NewAttempt { scene, account: half.account().to_owned(), request, expires_at })
    }
}

fn pushed(order: &Arc<Order>, attempt: &Attempt) -> Option<Pushed> {
    let code = attempt.code()?.clone();
    Some(Pushed { order: order.clone(), attempt: attempt.clone(), code })
}
