//! Malls on loopback that answer as told and keep what they were sent, and a service that tells them,
//! without gateways. Never fakes the way there: requests go over real connections.

use core::time::Duration;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use shouyin::domain::id::{MerchantId, OrderKey, OrderNumber, OrderType, Title, UnixMillis};
use shouyin::domain::money::Fen;
use shouyin::domain::order::{CloseCause, Terms};
use shouyin::runtime::clock::Clock;
use shouyin::runtime::transport::Internet;
use shouyin::server::capability::hash;
use shouyin::server::checkout::{Checkout, Wanted};
use shouyin::server::config::Config;
use shouyin::server::merchants::Merchants;
use shouyin::server::store::sqlite::SqliteStore;
use shouyin::server::store::{Store, StoredEvent};
use shouyin::server::worker;
use tokio::net::TcpListener;

/// The secret of every mall here.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// How a mall answers.
#[derive(Clone)]
pub enum Answer {
    /// With a status, a header and a body.
    Say(u16, Option<(&'static str, String)>, String),
    /// With 500 to what has these words in it, else with 200.
    Refuse(&'static str),
    /// After 15 seconds.
    Hang,
}

/// What a mall was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub mall: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: UnixMillis,
}

impl Sent {
    pub fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }
}

#[derive(Default)]
struct Known {
    answers: Mutex<HashMap<String, Answer>>,
    sent: Mutex<Vec<Sent>>,
}

/// The malls and the service.
pub struct Shop {
    pub checkout: Checkout,
    pub clock: Clock,
    known: Arc<Known>,
    base: String,
    folder: tempfile::TempDir,
}

impl Shop {
    /// A service with these merchants, in memory.
    pub async fn in_memory(clock: Clock, merchants: &[&str]) -> Self {
        Self::start(clock, merchants, |_| Arc::new(SqliteStore::in_memory().unwrap())).await
    }

    /// A service with these merchants, on disk.
    pub async fn on_disk(clock: Clock, merchants: &[&str]) -> Self {
        let open = |folder: &Path| -> Arc<dyn Store> {
            Arc::new(SqliteStore::open(&folder.join("shouyin.db"), "test").unwrap())
        };
        Self::start(clock, merchants, open).await
    }

    async fn start(clock: Clock, merchants: &[&str], store: impl FnOnce(&Path) -> Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let known = Arc::new(Known::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let malls = Router::new().route("/{mall}", post(answer)).with_state(known.clone());
        tokio::spawn(async move { axum::serve(listener, malls).await });
        let urls = merchants.iter().map(|name| (*name, format!("{base}/{name}"))).collect::<Vec<_>>();
        let config = config(folder.path(), &with_urls(&urls));
        let merchants = Merchants::new(&config.merchants, &config.gateways, &Internet).unwrap();
        let store = store(folder.path());
        let url = "http://127.0.0.1:1".to_owned();
        let checkout = Checkout::new(store, merchants, clock.clone(), b"secret of the tests", url);
        Self { checkout, clock, known, base, folder }
    }

    /// Another configuration: these merchants with these addresses.
    pub fn configure(&self, urls: &[(&str, String)]) {
        self.set(&with_urls(urls));
    }

    /// Another configuration: these merchants with these lines.
    pub fn set(&self, lines: &[(&str, String)]) {
        let config = config(self.folder.path(), lines);
        let merchants = Merchants::new(&config.merchants, &config.gateways, &Internet).unwrap();
        self.checkout.set_merchants(merchants);
    }

    /// Ends the service; its folder stays.
    pub fn close(self) -> tempfile::TempDir {
        self.folder
    }

    /// Its database, if it is on disk.
    pub fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("shouyin.db")
    }

    /// The address of a mall.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// From now on the mall answers with this status.
    pub fn says(&self, mall: &str, status: u16) {
        self.answers(mall, Answer::Say(status, None, String::new()));
    }

    /// From now on the mall answers so.
    pub fn answers(&self, mall: &str, answer: Answer) {
        self.known.answers.lock().unwrap().insert(mall.to_owned(), answer);
    }

    /// What the mall was sent, in order.
    pub fn sent(&self, mall: &str) -> Vec<Sent> {
        self.known.sent.lock().unwrap().iter().filter(|sent| sent.mall == mall).cloned().collect()
    }

    /// Something happens of which the mall must be told: an order is closed.
    pub async fn happen(&self, merchant: &str, number: &str) {
        let terms = Terms {
            title: Title::new("茶").unwrap(),
            total: Fen::new(100).unwrap(),
            expires_at: None,
            return_url: None,
            buyer: None,
            attach: None,
            locale: None,
        };
        let key = OrderKey {
            merchant: MerchantId::new(merchant).unwrap(),
            order_type: OrderType::Order,
            number: OrderNumber::new(number).unwrap(),
        };
        let (order, created) = self.checkout.create(Wanted { key, terms, expires_in: None }).await.unwrap();
        assert!(created, "{number}");
        self.checkout.close(order.id, CloseCause::Merchant).await.unwrap();
    }

    /// What the merchant was and will be told.
    pub async fn events(&self, merchant: &str) -> Vec<StoredEvent> {
        let (merchant, mut all, mut after) = (MerchantId::new(merchant).unwrap(), Vec::new(), 0);
        loop {
            let page = self.checkout.events(merchant.clone(), after, 1_000).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = last.id;
            all.extend(page);
        }
    }

    /// Does everything that is due, one by one, until nothing is; says how much that was.
    pub async fn work(&self) -> usize {
        let mut done = 0;
        loop {
            let tasks = worker::claim(&self.checkout, worker::every_place(&self.checkout)).await.unwrap();
            if tasks.is_empty() {
                return done;
            }
            done += tasks.len();
            for task in tasks {
                worker::perform(&self.checkout, task).await;
            }
        }
    }
}

/// The key of a merchant.
pub fn api_key(merchant: &str) -> String {
    format!("the key of {merchant}")
}

fn with_urls<'a>(malls: &[(&'a str, String)]) -> Vec<(&'a str, String)> {
    let line = |url: &String| if url.is_empty() { String::new() } else { format!("webhook_url = \"{url}\"") };
    malls.iter().map(|(name, url)| (*name, line(url))).collect()
}

fn config(folder: &Path, merchants: &[(&str, String)]) -> Config {
    let folder = folder.display();
    let merchant = |(name, lines): &(&str, String)| {
        let key = hex::encode(hash(&api_key(name)));
        format!(
            "[[merchant]]\nid = \"{name}\"\nname = \"{name}\"\napi_key_sha256 = [\"{key}\"]\n\
             webhook_secret = \"{SECRET}\"\nwebhook_allow = [\"127.0.0.1\"]\n{lines}\n\
             [merchant.wechat]\napp_id = \"wx{name}\"\nmch_id = \"10000100\"\napi_v2_key = \"{KEY}\"\n"
        )
    };
    let server = format!("[server]\nsecret_file = \"{folder}/secret\"\n");
    let text: String = core::iter::once(server).chain(merchants.iter().map(merchant)).collect();
    let file = format!("{folder}/shouyin.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(Path::new(&file)), []).unwrap()
}

async fn answer(
    State(known): State<Arc<Known>>,
    UrlPath(mall): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sent = Sent { mall: mall.clone(), headers, body: body.clone(), at: Clock::real() };
    known.sent.lock().unwrap().push(sent);
    let answer = known.answers.lock().unwrap().get(&mall).cloned();
    match answer {
        None => StatusCode::OK.into_response(),
        Some(Answer::Say(status, header, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some((name, value)) = header {
                let value = HeaderValue::from_str(&value).unwrap();
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
            response
        }
        Some(Answer::Refuse(words)) => {
            let refused = String::from_utf8_lossy(&body).contains(words);
            if refused { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }.into_response()
        }
        Some(Answer::Hang) => {
            tokio::time::sleep(Duration::from_secs(15)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// A merchant by its name.
pub fn id(merchant: &str) -> MerchantId {
    MerchantId::new(merchant).unwrap()
}
