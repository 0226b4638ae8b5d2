//! The service itself: create, push, ask, close. Every face (mall API, pages, notices, workers) goes
//! through here. Never writes a state: it produces events and hands them to `Store::apply`; never calls
//! a gateway inside a transaction. `push` places attempts, `ask` queries and closes them.

mod ask;
mod pad;
mod push;
mod refund;
mod told;
mod watched;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::id::{Channel, MerchantId, OrderKey, Payer, Scene, TradeId, UnixMillis};
use crate::domain::order::{Attempt, CloseCause, Code, Event, Order, OrderId, Refused, Terms};
use crate::runtime::clock::Clock;
use crate::server::capability::{Capabilities, Purpose, hash};
use crate::server::flight::Flights;
use crate::server::hub::Hub;
use crate::server::mall_tokens::MallTokens;
use crate::server::merchants::{Member, Merchants};
use crate::server::pace::Pace;
use crate::server::pads::Pads;
use crate::server::sealing::Sealing;
use crate::server::store::{Applied, Find, InboxRow, NewOrder, Settle, Store, StoreError};

pub use ask::event_of;
pub use push::Placing;
pub use watched::Question;

/// Why the service did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutError {
    /// No such order, or not of this merchant.
    #[error("no such order")]
    NotFound,
    /// The order is paid.
    #[error("the order is paid")]
    AlreadyPaid,
    /// The order is closed, closing, or past its time.
    #[error("the order is closed")]
    AlreadyClosed,
    /// The order exists with other content.
    #[error("the order exists with another {0}")]
    Different(&'static str),
    /// Nothing paid the order, so there is nothing to give back.
    #[error("the order is not paid")]
    NotPaid,
    /// The order has no money of this number.
    #[error("the order has no such payment")]
    NoSuchPayment,
    /// A refund of this number exists with other content.
    #[error("the order has another refund of this number")]
    OtherRefund,
    /// More than what is left of the payment.
    #[error("the refund is more than what is left of the payment")]
    RefundTooMuch,
    /// The gateways make so many refunds of one payment and no more.
    #[error("the order has too many refunds")]
    TooManyRefunds,
    /// No such pad, or not of this merchant.
    #[error("no such pad")]
    NoSuchPad,
    /// The merchant has as many pads as it may.
    #[error("the merchant has too many pads")]
    TooManyPads,
    /// Too many payers have asked for attempts of their own lately.
    #[error("the order has too many attempts")]
    TooManyAttempts,
    /// The merchant does not have this gateway.
    #[error("{0} is not configured")]
    NotConfigured(Channel),
    /// The gateway said no.
    #[error("{channel} refused: {code} {message}")]
    GatewayRefused {
        /// Which gateway.
        channel: Channel,
        /// Its own code.
        code: String,
        /// Its own words.
        message: String,
    },
    /// The gateway cannot be reached, or its answer is unknown; asking again is safe.
    #[error("{channel} is unavailable: {reason}")]
    GatewayUnavailable {
        /// Which gateway.
        channel: Channel,
        /// For the log, not for shoppers.
        reason: String,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error("internal: {0}")]
    Internal(String),
}

/// What a push gave.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The order with the attempt.
    pub order: Arc<Order>,
    /// The live attempt.
    pub attempt: Attempt,
    /// Its code.
    pub code: Code,
}

/// The order a mall wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Type and number, of the merchant that asks.
    pub key: OrderKey,
    /// Its terms.
    pub terms: Terms,
    /// `expires_in` in seconds, if it was given: like the other fields that may be left out, it is
    /// compared with an order that exists already only then.
    pub expires_in: Option<i64>,
}

/// The service. Cheap to clone, shared by everything.
#[derive(Clone)]
pub struct Checkout {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    merchants: RwLock<Arc<Merchants>>,
    clock: Clock,
    capabilities: Capabilities,
    sealing: Sealing,
    public_base_url: String,
    hub: Hub,
    pads: Pads,
    pace: Pace,
    work: Notify,
    pushes: Flights<(OrderId, Scene, Option<Payer>), Result<Pushed, CheckoutError>>,
    queries: Flights<(OrderId, TradeId), Result<Arc<Order>, CheckoutError>>,
    confirmed: Mutex<HashMap<OrderId, UnixMillis>>,
    mall_tokens: MallTokens,
    stopping: CancellationToken,
}

impl Checkout {
    /// Puts the service together. `public_base_url` has no slash at its end.
    pub fn new(
        store: Arc<dyn Store>,
        merchants: Merchants,
        clock: Clock,
        secret: &[u8],
        public_base_url: String,
    ) -> Self {
        let inner = Inner {
            store,
            merchants: RwLock::new(Arc::new(merchants)),
            clock,
            capabilities: Capabilities::new(secret),
            sealing: Sealing::new(secret),
            public_base_url,
            hub: Hub::default(),
            pads: Pads::default(),
            pace: Pace::default(),
            work: Notify::new(),
            pushes: Flights::default(),
            queries: Flights::default(),
            confirmed: Mutex::default(),
            mall_tokens: MallTokens::default(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Business time.
    pub fn now(&self) -> UnixMillis {
        self.inner.clock.now()
    }

    /// The storage, for the workers.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Ours, without a slash at its end.
    pub fn public_base_url(&self) -> &str {
        &self.inner.public_base_url
    }

    /// Signalled whenever there may be new work.
    pub fn work(&self) -> &Notify {
        &self.inner.work
    }

    /// Cancelled when the server begins to stop: streams that would never end by themselves end then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Tokens of the malls' own that were checked lately.
    pub fn mall_tokens(&self) -> &MallTokens {
        &self.inner.mall_tokens
    }

    /// Seals what browsers keep for us.
    pub fn sealing(&self) -> &Sealing {
        &self.inner.sealing
    }

    /// The merchants as now configured.
    pub fn merchants(&self) -> Arc<Merchants> {
        self.inner.merchants.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new configuration to work; calls under way finish with the old one.
    pub fn set_merchants(&self, merchants: Merchants) {
        *self.inner.merchants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(merchants);
    }

    /// The merchant of an order.
    ///
    /// # Errors
    /// [`CheckoutError::Internal`] if it is no longer configured.
    pub fn member(&self, id: &MerchantId) -> Result<Arc<Member>, CheckoutError> {
        let gone = || CheckoutError::Internal(format!("merchant {id} is not configured"));
        self.merchants().get(id).cloned().ok_or_else(gone)
    }

    /// The order's API token.
    pub fn token(&self, key: &OrderKey) -> String {
        self.inner.capabilities.derive(Purpose::Token, key)
    }

    /// The order's page.
    pub fn checkout_url(&self, key: &OrderKey) -> String {
        format!("{}/pay/{}", self.inner.public_base_url, self.page_capability(key))
    }

    /// What stands in the order's page address.
    pub fn page_capability(&self, key: &OrderKey) -> String {
        self.inner.capabilities.derive(Purpose::Page, key)
    }

    /// Creates an order, or finds the same one again. The flag says whether it was created.
    ///
    /// # Errors
    /// [`CheckoutError::Different`] names the first field that differs from the order that exists.
    pub async fn create(&self, wanted: Wanted) -> Result<(Arc<Order>, bool), CheckoutError> {
        let Wanted { key, terms, expires_in } = wanted;
        let new = NewOrder {
            token_hash: hash(&self.token(&key)),
            page_hash: hash(&self.page_capability(&key)),
            key,
            terms: terms.clone(),
        };
        let (order, created) = self.inner.store.create_order(new, self.now()).await?;
        if !created && let Some(field) = difference(&order, &terms, expires_in) {
            return Err(CheckoutError::Different(field));
        }
        self.inner.work.notify_one();
        Ok((Arc::new(order), created))
    }

    /// Looks an order up.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn find(&self, by: Find) -> Result<Option<Arc<Order>>, CheckoutError> {
        Ok(self.inner.store.find(by).await?.map(Arc::new))
    }

    /// A merchant's orders, newest first; see [`Store::list`].
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn list(
        &self,
        merchant: MerchantId,
        state: Option<&'static str>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, CheckoutError> {
        Ok(self.inner.store.list(merchant, state, before, limit).await?)
    }

    /// Records a notice that changes nothing else.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn record_notice(&self, notice: InboxRow) -> Result<(), CheckoutError> {
        Ok(self.inner.store.record_notice(notice, self.now()).await?)
    }

    /// Whether the store takes writes now.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn ready(&self) -> Result<(), CheckoutError> {
        Ok(self.inner.store.ready().await?)
    }

    /// The order whose page this is.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn order_by_page(&self, capability: &str) -> Result<Option<Arc<Order>>, CheckoutError> {
        self.find(Find::Page(hash(capability))).await
    }

    /// The order whose token this is.
    ///
    /// # Errors
    /// [`CheckoutError::Store`].
    pub async fn order_by_token(&self, token: &str) -> Result<Option<Arc<Order>>, CheckoutError> {
        self.find(Find::Token(hash(token))).await
    }

    /// A receiver that holds the order as it now is and every later state of it.
    ///
    /// # Errors
    /// [`CheckoutError`] if it cannot be read.
    pub async fn watch(&self, order: Arc<Order>) -> Result<watch::Receiver<Arc<Order>>, CheckoutError> {
        let id = order.id;
        let receiver = self.inner.hub.watch(order, self.now());
        // What changed between the caller's read and the subscription.
        self.reread(id).await?;
        Ok(receiver)
    }

    /// Reads the order again and tells its watchers if it changed.
    ///
    /// # Errors
    /// [`CheckoutError`].
    pub async fn reread(&self, id: OrderId) -> Result<Arc<Order>, CheckoutError> {
        let order = self.find(Find::Id(id)).await?.ok_or(CheckoutError::NotFound)?;
        self.inner.hub.publish(&order);
        Ok(order)
    }

    /// Gives a trusted notice to the order it names. `false`: no order of ours has it.
    ///
    /// # Errors
    /// [`CheckoutError::Store`]; a refusal by the order is an answer, not an error.
    pub async fn settle(&self, told: Settle) -> Result<bool, CheckoutError> {
        match self.inner.store.settle(told, self.merchants().policies(), self.now()).await? {
            None => Ok(false),
            Some(applied) => {
                self.publish(applied);
                Ok(true)
            }
        }
    }

    /// Gives an event to an order. Runs to its end even if the caller hangs up.
    ///
    /// # Errors
    /// [`CheckoutError::Store`]; a refusal by the order is an answer, not an error.
    pub async fn apply(
        &self,
        id: OrderId,
        event: Event,
    ) -> Result<(Arc<Order>, Option<Refused>), CheckoutError> {
        let policies = self.merchants().policies();
        Ok(self.publish(self.inner.store.apply(id, event, policies, self.now()).await?))
    }

    /// Tells watchers and workers of what was saved.
    fn publish(&self, applied: Applied) -> (Arc<Order>, Option<Refused>) {
        let Applied { order, outcome } = applied;
        let order = Arc::new(order);
        self.inner.hub.publish(&order);
        self.inner.work.notify_one();
        let refused = outcome.err();
        if let Some(refused) = refused {
            tracing::warn!(order = %order.key, %refused, "an event contradicts the order");
        }
        (order, refused)
    }

    /// Stops an order: it takes no new attempt, and its open ones are closed at their gateways.
    ///
    /// # Errors
    /// [`CheckoutError::AlreadyPaid`].
    pub async fn close(&self, id: OrderId, cause: CloseCause) -> Result<Arc<Order>, CheckoutError> {
        let (order, refused) = self.apply(id, Event::CloseAsked { cause }).await?;
        refused.map_or(Ok(order), |refused| Err(refused_error(refused)))
    }
}

fn refused_error(refused: Refused) -> CheckoutError {
    match refused {
        Refused::AlreadyPaid => CheckoutError::AlreadyPaid,
        Refused::AlreadyClosed => CheckoutError::AlreadyClosed,
        Refused::NotPaid => CheckoutError::NotPaid,
        Refused::NoSuchMoney => CheckoutError::NoSuchPayment,
        Refused::RefundExists => CheckoutError::OtherRefund,
        Refused::RefundTooMuch => CheckoutError::RefundTooMuch,
        Refused::TooManyRefunds => CheckoutError::TooManyRefunds,
        Refused::TooManyAttempts => CheckoutError::TooManyAttempts,
        Refused::NotExpired
        | Refused::UnknownAttempt
        | Refused::AttemptExists
        | Refused::AttemptPaid
        | Refused::UnknownRefund
        | Refused::CountedElsewhere
        | Refused::VersionOverflow => CheckoutError::Internal(refused.to_string()),
    }
}

/// The first field in which a repeated creation differs from the order that exists.
fn difference(order: &Order, wanted: &Terms, expires_in: Option<i64>) -> Option<&'static str> {
    let known = &order.terms;
    let known_seconds = known.expires_at.map(|at| at.since(order.created_at) / 1_000);
    let differs = |known: &Option<String>, wanted: &Option<String>| wanted.is_some() && known != wanted;
    if known.title != wanted.title {
        Some("title")
    } else if known.total != wanted.total {
        Some("total_fee")
    } else if expires_in.is_some() && expires_in != known_seconds {
        Some("expires_in")
    } else if differs(&known.return_url, &wanted.return_url) {
        Some("return_url")
    } else if differs(&known.buyer, &wanted.buyer) {
        Some("buyer")
    } else if differs(&known.attach, &wanted.attach) {
        Some("attach")
    } else if differs(&known.locale, &wanted.locale) {
        Some("locale")
    } else {
        None
    }
}
