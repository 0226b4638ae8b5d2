//! A small mall, an ordinary customer of the service: it orders over HTTP with its API key and believes
//! webhooks only. Never looks into the service; what it knows survives kill -9 in a file of its own.
//! Pages: `mall_pages`. Webhooks: <https://www.standardwebhooks.com>.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::StartError;
use super::ledger::{Ledger, LedgerError};
use crate::domain::id::{OrderType, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::time;
use crate::gateway::keys::Secret;
use crate::runtime::clock::Clock;
use crate::runtime::transport::{Timeouts, Transport};

/// The mall.
#[derive(Clone)]
pub struct Mall {
    inner: Arc<Inner>,
}

struct Inner {
    /// The service's base URL.
    service: String,
    api_key: Secret,
    webhook_secret: Secret,
    clock: Clock,
    transport: Transport,
    state: Mutex<Orders>,
    ledger: Ledger,
}

/// What the mall needs.
pub struct MallConfig {
    /// The service's base URL, without a slash at its end.
    pub service: String,
    /// The mall's key there.
    pub api_key: Secret,
    /// `whsec_` and base64, shared with the service.
    pub webhook_secret: Secret,
}

/// Something on the shelf.
#[derive(Clone, Copy, Debug)]
pub struct Goods {
    /// Its name in the form.
    pub sku: &'static str,
    /// What it is, and the order's title.
    pub title: &'static str,
    /// Its price in fen.
    pub price: i64,
    /// What kind of order it makes.
    pub order_type: OrderType,
}

/// An order as the mall knows it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its number.
    pub order_number: String,
    /// Its kind.
    pub order_type: OrderType,
    /// What was bought.
    pub title: String,
    /// What it costs, in fen.
    pub total_fee: Fen,
    /// `pending`, `paid` or `closed`, by the newest webhook.
    pub state: String,
    /// Where it is paid, if the mall made it itself.
    #[serde(skip)]
    pub checkout_url: Option<String>,
    /// The snapshot's version that `state` is from.
    #[serde(skip)]
    version: i64,
    /// What the service told, oldest first.
    pub events: Vec<Told>,
}

/// One event. However often it is delivered, it counts once.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// `webhook-id`.
    pub id: String,
    /// `order.paid`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// How often it came.
    pub deliveries: u32,
}

/// One line of the mall's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Record {
    Ordered { item: Item, checkout_url: String },
    Told { id: String, kind: String, item: Item, state: String, version: i64 },
    ToldAgain { id: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    order_number: String,
    order_type: OrderType,
    title: String,
    total_fee: Fen,
}

/// What a webhook says, as far as the mall cares.
#[derive(Debug, Deserialize)]
struct Webhook {
    #[serde(rename = "type")]
    kind: String,
    data: Snapshot,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    #[serde(flatten)]
    item: Item,
    state: String,
    version: i64,
}

#[derive(Debug, Default)]
struct Orders {
    entries: BTreeMap<(OrderType, String), Entry>,
    sequence: Vec<(OrderType, String)>,
    events: HashMap<String, (OrderType, String)>,
}

/// Why nothing could be bought.
#[derive(Debug, thiserror::Error)]
pub enum BuyError {
    /// Not on the shelf.
    #[error("no such goods")]
    NoSuchGoods,
    /// The service did not take the order.
    #[error("the service did not take the order: {0}")]
    Refused(String),
    /// The mall's own file.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbelievable {
    /// A header is missing or is not what the standard says.
    Headers,
    /// More than five minutes off.
    Stale,
    /// Not signed by the service.
    Signature,
    /// Signed, but not an event.
    Body,
}

impl Mall {
    /// Opens the mall's file in `data`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: MallConfig, data: &Path, clock: Clock) -> Result<Self, StartError> {
        let (ledger, records) = Ledger::open::<Record>(&data.join("mall.jsonl"))?;
        let mut orders = Orders::default();
        for record in records {
            orders.apply(record);
        }
        let transport = Transport::gateways([config.service.as_str()], Timeouts::GATEWAYS)?;
        let MallConfig { service, api_key, webhook_secret } = config;
        let state = Mutex::new(orders);
        Ok(Self {
            inner: Arc::new(Inner { service, api_key, webhook_secret, clock, transport, state, ledger }),
        })
    }

    /// The service's base URL.
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// Orders one of `sku` at the service. Returns where to pay.
    ///
    /// # Errors
    /// [`BuyError`].
    pub async fn buy(&self, sku: &str) -> Result<String, BuyError> {
        let goods = SHELF.iter().find(|goods| goods.sku == sku).ok_or(BuyError::NoSuchGoods)?;
        let refused = |why: &dyn ToString| BuyError::Refused(why.to_string());
        let total_fee = Fen::new(goods.price).map_err(|error| refused(&error))?;
        let tail = super::draw::digits(4).map_err(|error| refused(&error))?;
        let order_number = format!("M{}{tail}", time::compact(self.inner.clock.now()));
        let title = goods.title.to_owned();
        let item = Item { order_number, order_type: goods.order_type, title, total_fee };
        let checkout_url = self.place(&item).await?;
        let record = Record::Ordered { item, checkout_url: checkout_url.clone() };
        self.record(&mut self.orders(), record);
        self.inner.ledger.settled().await?;
        Ok(checkout_url)
    }

    /// `POST /rest/orders`. If the answer is lost nothing is owed: the shopper buys again.
    async fn place(&self, item: &Item) -> Result<String, BuyError> {
        let body = json!({
            "order_type": item.order_type,
            "order_number": item.order_number,
            "title": item.title,
            "total_fee": item.total_fee,
            "return_url": format!("{}/mall", self.inner.service),
        });
        let placed = self.ask(Method::POST, "/rest/orders", Some(body), StatusCode::CREATED).await?;
        let url = placed.get("checkout_url").and_then(Value::as_str);
        url.map(str::to_owned).ok_or_else(|| BuyError::Refused("it names no checkout_url".to_owned()))
    }

    /// A call of the service's API; the `data` of its answer.
    ///
    /// # Errors
    /// [`BuyError::Refused`] with the answer, if it is not the one that is wanted.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        wanted: StatusCode,
    ) -> Result<Value, BuyError> {
        let refused = |why: &dyn ToString| BuyError::Refused(why.to_string());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.inner.service))
            .header(header::AUTHORIZATION, self.inner.api_key.expose())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()))
            .map_err(|error| refused(&error))?;
        let answer = self.inner.transport.send(request).await.map_err(|error| refused(&error))?;
        if answer.status() != wanted {
            return Err(refused(&String::from_utf8_lossy(answer.body())));
        }
        let mut whole: Value = serde_json::from_slice(answer.body()).map_err(|error| refused(&error))?;
        Ok(whole.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// Takes a webhook: checks it, writes it down, counts it once.
    ///
    /// # Errors
    /// [`Unbelievable`] inside; the outer error means: not written down, come again.
    pub async fn hear(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        real_now: UnixMillis,
    ) -> Result<Result<(), Unbelievable>, LedgerError> {
        let id = match verify(&self.inner.webhook_secret, headers, body, real_now) {
            Ok(id) => id,
            Err(why) => return Ok(Err(why)),
        };
        let Ok(webhook) = serde_json::from_slice::<Webhook>(body) else {
            return Ok(Err(Unbelievable::Body));
        };
        {
            let mut orders = self.orders();
            let record = if orders.events.contains_key(&id) {
                Record::ToldAgain { id }
            } else {
                let Webhook { kind, data: Snapshot { item, state, version } } = webhook;
                Record::Told { id, kind, item, state, version }
            };
            self.record(&mut orders, record);
        }
        self.inner.ledger.settled().await.map(Ok)
    }

    /// The mall's list, newest first.
    pub fn newest_first(&self) -> Vec<Entry> {
        let orders = self.orders();
        orders.sequence.iter().rev().filter_map(|key| orders.entries.get(key)).cloned().collect()
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, orders: &mut Orders, record: Record) {
        self.inner.ledger.push(&record);
        orders.apply(record);
    }
}

impl Orders {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Ordered { item, checkout_url } => self.entry(item).checkout_url = Some(checkout_url),
            Record::Told { id, kind, item, state, version } => {
                self.events.insert(id.clone(), (item.order_type, item.order_number.clone()));
                let entry = self.entry(item);
                entry.events.push(Told { id, kind, deliveries: 1 });
                // Webhooks may overtake each other; the version says which is newer.
                if version >= entry.version {
                    entry.version = version;
                    entry.state = state;
                }
            }
            Record::ToldAgain { id } => {
                let entry = self.events.get(&id).and_then(|key| self.entries.get_mut(key));
                let told = entry.and_then(|entry| entry.events.iter_mut().find(|told| told.id == id));
                if let Some(told) = told {
                    told.deliveries = told.deliveries.saturating_add(1);
                }
            }
        }
    }

    /// The entry of this order; made if the mall hears of it for the first time.
    fn entry(&mut self, item: Item) -> &mut Entry {
        let key = (item.order_type, item.order_number.clone());
        if !self.entries.contains_key(&key) {
            self.sequence.push(key.clone());
        }
        self.entries.entry(key).or_insert_with(|| Entry {
            order_number: item.order_number,
            order_type: item.order_type,
            title: item.title,
            total_fee: item.total_fee,
            state: "pending".to_owned(),
            checkout_url: None,
            version: 0,
            events: Vec::new(),
        })
    }
}

/// Checks a delivery as the standard says and tells its id.
///
/// # Errors
/// [`Unbelievable`].
pub fn verify(
    secret: &Secret,
    headers: &HeaderMap,
    body: &[u8],
    real_now: UnixMillis,
) -> Result<String, Unbelievable> {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Unbelievable::Headers);
    let (id, timestamp, signatures) =
        (text("webhook-id")?, text("webhook-timestamp")?, text("webhook-signature")?);
    let sent = timestamp.parse::<i64>().map_err(|_| Unbelievable::Headers)?;
    if real_now.since(UnixMillis(sent.saturating_mul(1000))).abs() > TOLERANCE_MS {
        return Err(Unbelievable::Stale);
    }
    let bare = secret.expose().strip_prefix("whsec_").unwrap_or(secret.expose());
    let key = STANDARD.decode(bare).map_err(|_| Unbelievable::Signature)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let right = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
        // `hmac::verify` compares in constant time.
        STANDARD.decode(signature).is_ok_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    });
    if right { Ok(id.to_owned()) } else { Err(Unbelievable::Signature) }
}

/// The whole shop.
pub const SHELF: &[Goods] = &[
    Goods { sku: "tea", title: "明前龙井 50 克", price: 12_800, order_type: OrderType::Order },
    Goods { sku: "cup", title: "青瓷茶杯", price: 1_234, order_type: OrderType::Order },
    Goods { sku: "card", title: "明信片", price: 1, order_type: OrderType::Order },
    Goods { sku: "wallet", title: "余额充值", price: 10_000, order_type: OrderType::Wallet },
    Goods { sku: "visit", title: "茶艺课预约", price: 6_600, order_type: OrderType::Appointment },
];

/// Standard Webhooks: five minutes, in real time.
const TOLERANCE_MS: i64 = 5 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: UnixMillis = UnixMillis(1_614_265_330_000);

    fn mall(data: &Path) -> Mall {
        let config = MallConfig {
            service: "http://127.0.0.1:9".to_owned(),
            api_key: Secret::new("key"),
            webhook_secret: Secret::new(SECRET),
        };
        Mall::new(config, data, Clock::frozen(NOW)).unwrap()
    }

    fn headers(id: &str, seconds: i64, signature: &str) -> HeaderMap {
        let seconds = seconds.to_string();
        let pairs =
            [("webhook-id", id), ("webhook-timestamp", seconds.as_str()), ("webhook-signature", signature)];
        pairs
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    fn signed(id: &str, body: &str) -> HeaderMap {
        let seconds = NOW.0 / 1000;
        let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
        headers(id, seconds, &format!("v1,{}", STANDARD.encode(tag)))
    }

    fn event(kind: &str, state: &str, version: i64) -> String {
        json!({
            "type": kind,
            "timestamp": "2021-02-25T23:02:10+08:00",
            "data": {
                "order_type": "Order", "order_number": "12346", "title": "DEMO", "total_fee": 11,
                "state": state, "version": version, "attempts": [],
            },
        })
        .to_string()
    }

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn verifies_what_others_signed() {
        let secret = Secret::new(SECRET);
        let body = br#"{"test": 2432232314}"#;
        let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let check = |signature: &str, body: &[u8], now: i64| {
            verify(&secret, &headers(id, 1_614_265_330, signature), body, UnixMillis(now))
        };
        assert_eq!(check(right, body, NOW.0), Ok(id.to_owned()));
        assert_eq!(check(&format!("v1a,x v1,AAAA {right}"), body, NOW.0), Ok(id.to_owned()));
        assert_eq!(check(right, br#"{"test": 2432232315}"#, NOW.0), Err(Unbelievable::Signature));
        assert_eq!(check("v1,", body, NOW.0), Err(Unbelievable::Signature));
        assert_eq!(check(right, body, NOW.0 + 301_000), Err(Unbelievable::Stale));
        assert_eq!(check(right, body, NOW.0 - 301_000), Err(Unbelievable::Stale));
        assert_eq!(verify(&secret, &HeaderMap::new(), body, NOW), Err(Unbelievable::Headers));
    }

    #[tokio::test]
    async fn an_event_counts_once_and_survives() {
        let data = tempfile::tempdir().unwrap();
        let mall_now = mall(data.path());
        let paid = event("order.paid", "paid", 2);
        for _ in 0..3 {
            let heard = mall_now.hear(&signed("evt_1", &paid), paid.as_bytes(), NOW).await.unwrap();
            assert_eq!(heard, Ok(()));
        }
        // An older snapshot that was overtaken changes nothing back.
        let late = event("order.closed", "pending", 1);
        mall_now.hear(&signed("evt_0", &late), late.as_bytes(), NOW).await.unwrap().unwrap();
        let forged = mall_now.hear(&signed("evt_2", &late), paid.as_bytes(), NOW).await.unwrap();
        assert_eq!(forged, Err(Unbelievable::Signature));
        let wanted = json!([{
            "order_number": "12346", "order_type": "Order", "title": "DEMO", "total_fee": 11, "state": "paid",
            "events": [
                { "id": "evt_1", "type": "order.paid", "deliveries": 3 },
                { "id": "evt_0", "type": "order.closed", "deliveries": 1 },
            ],
        }]);
        assert_eq!(json!(mall_now.newest_first()), wanted);
        drop(mall_now);
        assert_eq!(json!(mall(data.path()).newest_first()), wanted);
    }
}
