//! Push: the code of an order's live attempt, placing one if there is none. Never calls the gateway
//! before the attempt and its exact request are committed; repeats that request when the outcome is unknown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::ask::CallError;
use super::{Checkout, CheckoutError, Pushed, refused_error};
use crate::domain::id::{Channel, Payer, Scene, UnixMillis};
use crate::domain::order::{Attempt, Code, Event, Order, State};
use crate::gateway::{self, Call, Fault, Reply, Retry, Shop, Visit};
use crate::runtime::crash::{self, Point};
use crate::server::store::NewAttempt;

/// How long a gateway's code is payable: 2 h (gateways.md 1.2, 4.4).
const CODE_LIFE_MS: i64 = 2 * 3_600_000;
/// Codes are no longer shown this long before they end.
const CODE_MARGIN_MS: i64 = 5 * 60_000;
/// How long a link of WeChat's MWEB is handed out: it opens for 5 min (gateways.md 1.2), and some of that is
/// for the shopper to press it.
const LINK_GOOD_MS: i64 = 5 * 60_000 - 30_000;
/// New numbers tried in one push when the gateway says that a number is used up.
const NUMBERS_PER_PUSH: u32 = 3;

/// How, and by whom, an attempt is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placing {
    /// How the shopper meets the gateway.
    pub scene: Scene,
    /// Whom the attempt is for: the `openid` at JSAPI, the browser's address at MWEB, else nobody.
    pub payer: Option<Payer>,
    /// The address of the browser that pays; `None`: any phone that scans.
    pub client_ip: Option<IpAddr>,
}

/// A code that whoever has it can pay.
impl From<Scene> for Placing {
    fn from(scene: Scene) -> Self {
        Self { scene, payer: None, client_ip: None }
    }
}

impl Placing {
    /// WeChat's wallet, called by a page inside WeChat.
    pub const fn in_wechat(openid: Payer, client_ip: IpAddr) -> Self {
        Self { scene: Scene::Jsapi, payer: Some(openid), client_ip: Some(client_ip) }
    }

    /// A link in the shopper's own browser. WeChat's works at the address only that it was made for.
    pub fn in_browser(scene: Scene, client_ip: IpAddr) -> Self {
        // Of IPv6 the first half: the other is the device's own to choose, and to change.
        let whom = match client_ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).to_string(),
        };
        let payer = (scene == Scene::Mweb).then(|| Payer::new(whom).ok()).flatten();
        Self { scene, payer, client_ip: Some(client_ip) }
    }
}

impl Checkout {
    /// The code of the live attempt, placing one if there is none. Parallel pushes share one call.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn push(
        &self,
        order: &Arc<Order>,
        placing: impl Into<Placing>,
    ) -> Result<Pushed, CheckoutError> {
        let placing = placing.into();
        if let Some(pushed) = self.live(order, &placing)? {
            return Ok(pushed);
        }
        let lost = Err(CheckoutError::Internal("the push was lost".to_owned()));
        let (this, order) = (self.clone(), order.clone());
        let key = (order.id, placing.scene, placing.payer.clone());
        self.inner.pushes.join(key, lost, async move { this.place(&order, &placing).await }).await
    }

    /// The live attempt's code, if it is there already; nobody is asked.
    ///
    /// # Errors
    /// [`CheckoutError`]: the order takes no payment any more.
    pub fn live(&self, order: &Arc<Order>, placing: &Placing) -> Result<Option<Pushed>, CheckoutError> {
        self.payable(order)?;
        let channel = placing.scene.channel();
        let member = self.member(&order.key.merchant)?;
        let half = member.gateway(channel).ok_or(CheckoutError::NotConfigured(channel))?;
        let payer = placing.payer.as_ref();
        let attempt = order.live_attempt(placing.scene, payer, half.account(), self.now());
        Ok(attempt.and_then(|attempt| pushed(order, attempt, self.now())))
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

    async fn place(&self, order: &Arc<Order>, placing: &Placing) -> Result<Pushed, CheckoutError> {
        let mut last = CheckoutError::Internal("no number was tried".to_owned());
        for _ in 0..NUMBERS_PER_PUSH {
            match self.place_once(order, placing).await? {
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
        placing: &Placing,
    ) -> Result<Result<Pushed, CheckoutError>, CheckoutError> {
        let channel = placing.scene.channel();
        let (id, now) = (order.id, self.now());
        let wanted = self.attempt_for(order, placing, now)?;
        let policies = self.merchants().policies();
        let opened =
            self.inner.store.open_attempt(id, wanted, policies, now).await?.map_err(refused_error)?;
        let (order, trade) = (Arc::new(opened.order), opened.trade);
        self.inner.hub.publish(&order);
        let attempt = order.attempt(&trade).ok_or(CheckoutError::NotFound)?;
        if let Some(pushed) = pushed(&order, attempt, now) {
            return Ok(Ok(pushed));
        }
        let terms: gateway::Terms = serde_json::from_str(&attempt.request)
            .map_err(|error| CheckoutError::Internal(format!("stored request: {error}")))?;
        crash::point(Point::PushCommitted);
        let call = Call::Create { out_trade_no: trade.out_trade_no.clone(), terms };
        let refusal = match self.call(&order, channel, &call).await {
            Ok(Reply::Created(code)) => {
                crash::point(Point::PushAnswered);
                let until = (placing.scene == Scene::Mweb).then(|| now.plus(LINK_GOOD_MS));
                let code = Code { until, ..code };
                let event = Event::Ready { trade: trade.clone(), code };
                let (order, _) = self.apply(id, event).await?;
                let attempt = order.attempt(&trade).ok_or(CheckoutError::NotFound)?;
                crash::point(Point::PushSaved);
                let not_ready = || CheckoutError::AlreadyClosed;
                return Ok(Ok(pushed(&order, attempt, now).ok_or_else(not_ready)?));
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
    fn attempt_for(
        &self,
        order: &Order,
        placing: &Placing,
        now: UnixMillis,
    ) -> Result<NewAttempt, CheckoutError> {
        let scene = placing.scene;
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
            client_ip: placing.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string(),
            visit: self.visit(order, placing, &member.config.name),
        };
        let request =
            serde_json::to_string(&terms).map_err(|error| CheckoutError::Internal(error.to_string()))?;
        let expires_at = wanted_end.min(code_end.plus(-CODE_MARGIN_MS));
        let (payer, account) = (placing.payer.clone(), half.account().to_owned());
        Ok(NewAttempt { scene, payer, account, request, expires_at })
    }

    /// What the gateway wants to know of the browser that pays. It comes back to the order's page, which
    /// asks whether it is paid and believes nothing that stands in its address.
    fn visit(&self, order: &Order, placing: &Placing, payee: &str) -> Visit {
        let back = || Some(format!("{}?asked=1", self.checkout_url(&order.key)));
        let shop = || Shop { url: self.inner.public_base_url.clone(), name: payee.to_owned() };
        match placing.scene {
            Scene::Native | Scene::QrCode | Scene::App => Visit::default(),
            Scene::Jsapi => Visit { openid: placing.payer.clone(), ..Visit::default() },
            Scene::Mweb => Visit { return_url: back(), shop: Some(shop()), ..Visit::default() },
            Scene::Wap | Scene::Page => Visit { return_url: back(), ..Visit::default() },
        }
    }
}

fn pushed(order: &Arc<Order>, attempt: &Attempt, now: UnixMillis) -> Option<Pushed> {
    let code = attempt.code().filter(|code| code.is_good(now))?.clone();
    Some(Pushed { order: order.clone(), attempt: attempt.clone(), code })
}
