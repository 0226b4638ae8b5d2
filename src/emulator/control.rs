//! The control port: what a shopper does with the phone, what a test wants to see, and the pages for people.
//! Never answers a page of another site: this port moves (invented) money. Envelope and calls: contract.md 7.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode, header};
use leptos::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Emulator;
use super::bridge;
use super::faults::{Fault, MAX_COPIES};
use super::ledger::LedgerError;
use super::ledger_page;
use super::mweb;
use super::page::{self, Frame, Language};
use super::phone;
use super::trades::{Key, Stopped, Trade, Unpayable};
use crate::domain::id::UnixMillis;
use crate::domain::time::rfc3339;
use crate::gateway::Refusal;

pub(super) fn router(emulator: Emulator) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/style.css", get(page::style))
        .route("/scan", post(scan))
        .route("/pay", post(pay))
        .route("/ledger", get(ledger))
        .route("/faults", get(faults).put(put_faults).delete(delete_faults))
        .route("/clock", get(clock).post(advance))
        .route("/log", get(log))
        .merge(phone::router())
        .merge(bridge::router())
        .fallback(async || Denied::new(StatusCode::NOT_FOUND, 4041, "not_found", "no such page or call"))
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::from_fn(own_pages_only))
        .with_state(emulator)
}

/// Why a call at the control port is refused:
///
/// | `status_code` | `error` | HTTP |
/// |---|---|---|
/// | 4000 | `bad_request`: not the JSON that is wanted, an unknown fault, time going back | 400 |
/// | 4001 | `bad_order_string`: the order string or link is signed wrongly, or is not one | 400 |
/// | 4030 | `cross_site`: a page of another site | 403 |
/// | 4040 | `unknown_code`: no trade has this code | 404 |
/// | 4041 | `not_found`: no such page or call | 404 |
/// | 4091 | `already_paid` | 409 |
/// | 4092 | `closed` | 409 |
/// | 4093 | `expired`: the code is older than it may be, or its trade's time is up | 409 |
/// | 4094 | `other_terms`: the order string's or link's number belongs to another trade | 409 |
/// | 5000 | `broken`: the ledger cannot be written | 500 |
#[derive(Debug, thiserror::Error)]
#[error("{name}: {message}")]
pub struct Denied {
    status: StatusCode,
    number: u16,
    name: &'static str,
    /// For the developer who called, or the person with the phone.
    pub message: String,
}

impl Denied {
    pub(super) fn new(
        status: StatusCode,
        number: u16,
        name: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, number, name, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 4000, "bad_request", message)
    }

    /// Whether this is the reason.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    fn broken(why: &LedgerError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 5000, "broken", why.to_string())
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let body = json!({ "status_code": self.number, "error": self.name, "message": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}

impl From<Stopped> for Denied {
    fn from(why: Stopped) -> Self {
        let (status, number, name, message) = match why {
            Stopped::Unpayable(Unpayable::Unknown) => {
                (StatusCode::NOT_FOUND, 4040, "unknown_code", "no trade has this code 没有这个付款码")
            }
            Stopped::Unpayable(Unpayable::Paid) => {
                (StatusCode::CONFLICT, 4091, "already_paid", "the trade is paid 该订单已支付")
            }
            Stopped::Unpayable(Unpayable::Closed) => {
                (StatusCode::CONFLICT, 4092, "closed", "the trade is closed 该订单已关闭")
            }
            Stopped::Unpayable(Unpayable::Expired) => {
                (StatusCode::CONFLICT, 4093, "expired", "the code or its trade has expired 二维码已过期")
            }
            Stopped::Unpayable(Unpayable::Inconsistent) => (
                StatusCode::CONFLICT,
                4094,
                "other_terms",
                "this number belongs to a trade with other terms 商户订单号重复",
            ),
            Stopped::NoRandomness => {
                (StatusCode::INTERNAL_SERVER_ERROR, 5000, "broken", "the random source failed")
            }
        };
        Self::new(status, number, name, message)
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let message = format!("{}: {}\n{}", refusal.code, refusal.message, refusal.explanation);
        Self::new(StatusCode::BAD_REQUEST, 4001, "bad_order_string", message)
    }
}

impl Emulator {
    /// A wallet opens `code`: a code, a `prepay_id`, an app's order string, or a link for a browser.
    pub(super) async fn wallet_scan(&self, code: &str) -> Result<Trade, Denied> {
        let scanned = self.scan_now(code.trim());
        self.inner.ledger.settled().await.map_err(|why| Denied::broken(&why))?;
        self.known(&scanned?)
    }

    /// A wallet opens `code` and the person pays; the notice then leaves in `copies` copies.
    pub(super) async fn wallet_pay(&self, code: &str, copies: u32) -> Result<Trade, Denied> {
        let scanned = self.scan_now(code.trim());
        let paid = scanned.and_then(|key| self.pay_now(&key, copies).map(|()| key));
        self.inner.ledger.settled().await.map_err(|why| Denied::broken(&why))?;
        self.inner.wake.notify_one();
        self.known(&paid?)
    }

    /// The person pays what the wallet shows.
    pub(super) async fn wallet_pay_opened(&self, key: &Key) -> Result<Trade, Denied> {
        let paid = self.pay_now(key, 1);
        self.inner.ledger.settled().await.map_err(|why| Denied::broken(&why))?;
        self.inner.wake.notify_one();
        paid.and_then(|()| self.known(key))
    }

    pub(super) fn known(&self, key: &Key) -> Result<Trade, Denied> {
        let found = self.book().trade(key).cloned();
        found.ok_or_else(|| Stopped::from(Unpayable::Unknown).into())
    }

    fn scan_now(&self, code: &str) -> Result<Key, Denied> {
        let now = self.inner.clock.now();
        let signed = match self.link_in(code) {
            Some(link) => Some(self.decode_link(&link, now)?),
            None if code.contains("sign=") => {
                Some(self.inner.gateways.alipay().decode_order_string(code, now)?)
            }
            None => None,
        };
        let mut book = self.book();
        let (key, records) = match &signed {
            Some(received) => book.scan_signed(received, now)?,
            None => book.scan(mweb::without_way_back(code), now)?,
        };
        for record in records {
            self.record(&mut book, record);
        }
        Ok(key)
    }

    fn pay_now(&self, key: &Key, copies: u32) -> Result<(), Denied> {
        let mut book = self.book();
        let record = book.pay(key, copies, self.inner.clock.now())?;
        self.record(&mut book, record);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    code: String,
    copies: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedFaults {
    faults: Vec<Fault>,
}

async fn scan(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let Scan { code } = parse(&body)?;
    Ok(data(&trade_json(&emulator.wallet_scan(&code).await?)))
}

async fn pay(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let Pay { code, copies } = parse(&body)?;
    let copies = copies.unwrap_or(1);
    if !(1..=MAX_COPIES).contains(&copies) {
        return Err(Denied::bad(format!("\"copies\" must be between 1 and {MAX_COPIES}")));
    }
    Ok(data(&trade_json(&emulator.wallet_pay(&code, copies).await?)))
}

async fn ledger(State(emulator): State<Emulator>, headers: HeaderMap) -> Result<Response, Denied> {
    if wants_html(&headers) {
        return Ok(ledger_page::render(&emulator, Language::of(&headers)).into_response());
    }
    let statement = emulator.statement().await.map_err(|why| Denied::broken(&why))?;
    Ok(data(&statement))
}

async fn faults(State(emulator): State<Emulator>) -> Response {
    data(&json!({ "faults": emulator.inner.faults.list() }))
}

async fn put_faults(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let WantedFaults { faults } = parse(&body)?;
    emulator.inner.faults.replace(faults).map_err(Denied::bad)?;
    Ok(data(&json!({ "faults": emulator.inner.faults.list() })))
}

async fn delete_faults(State(emulator): State<Emulator>) -> Result<Response, Denied> {
    emulator.inner.faults.replace(Vec::new()).map_err(Denied::bad)?;
    Ok(data(&json!({ "faults": [] })))
}

async fn clock(State(emulator): State<Emulator>) -> Response {
    data(&clock_json(&emulator))
}

async fn advance(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let Advance { advance_ms } = parse(&body)?;
    if !(0..=MAX_ADVANCE_MS).contains(&advance_ms) {
        return Err(Denied::bad(format!(
            "\"advance_ms\" must be between 0 and {MAX_ADVANCE_MS}: never back"
        )));
    }
    emulator.advance_clock(advance_ms).await.map_err(|why| Denied::broken(&why))?;
    Ok(data(&clock_json(&emulator)))
}

async fn log(State(emulator): State<Emulator>, headers: HeaderMap) -> Response {
    let entries = emulator.inner.log.newest_first();
    if !wants_html(&headers) {
        return data(&json!({ "calls": entries }));
    }
    let language = Language::of(&headers);
    let rows = entries.into_iter().map(|entry| {
        let explanation = (!entry.explanation.is_empty()).then(|| view! { <pre>{entry.explanation}</pre> });
        view! {
            <li class="log-entry">
                <p>
                    <b>{entry.call}</b>" "{entry.out_trade_no}" "
                    <span class="log-result">{entry.result}</span>
                </p>
                <p class="second">{entry.at}" "{entry.channel.as_str()}" "{entry.message}</p>
                {explanation}
            </li>
        }
    });
    let title = language.pick("网关请求记录", "Calls at the gateways");
    let content = view! {
        <main class="card wide">
            <h1>{title}</h1>
            <ul class="log">{rows.collect_view()}</ul>
            <p><a href="./">{language.pick("返回", "Back")}</a></p>
        </main>
    };
    Frame::new(language, title).render(content).into_response()
}

async fn home(State(emulator): State<Emulator>, headers: HeaderMap) -> Response {
    let language = Language::of(&headers);
    let title = language.pick("支付网关模拟器", "Both gateways, emulated");
    let gateway = emulator.inner.credentials.emulator_url.clone();
    let content = view! {
        <main class="card wide">
            <h1>{title}</h1>
            <p>{language.pick("微信支付与支付宝网关地址：", "WeChat Pay and Alipay answer at ")}<code>{gateway}</code></p>
            <ul class="links">
                <li><a href="phone">{language.pick("手机：扫码付款", "Phone: scan and pay")}</a></li>
                <li><a href="log">{language.pick("请求记录：每次拒绝的原因", "Log: why each call was refused")}</a></li>
                <li><a href="ledger">{language.pick("账本：交易与退款", "Ledger: trades and refunds")}</a></li>
                <li><a href="faults">{language.pick("故障", "Faults")}</a>" (JSON, PUT, DELETE)"</li>
                <li><a href="clock">{language.pick("时钟", "Clock")}</a>" (JSON, POST)"</li>
            </ul>
        </main>
    };
    Frame::new(language, title).render(content).into_response()
}

/// A browser says where a request comes from; programs say nothing and may pass.
pub(super) async fn own_pages_only(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let own = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text("host")
        }
        (None, None) => true,
    };
    if !safe && !own {
        let why = "a page of another site may not use the control port";
        return Denied::new(StatusCode::FORBIDDEN, 4030, "cross_site", why).into_response();
    }
    let mut response = next.run(request).await;
    page::guard(response.headers_mut());
    response
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Bodies are JSON whatever the Content-Type says.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Denied> {
    serde_json::from_slice(body).map_err(|error| Denied::bad(error.to_string()))
}

pub(super) fn data(data: &impl Serialize) -> Response {
    axum::Json(json!({ "status_code": 0, "data": data })).into_response()
}

fn trade_json(trade: &Trade) -> Value {
    json!({
        "channel": trade.key.channel,
        "out_trade_no": trade.key.out_trade_no,
        "transaction_id": trade.transaction_id,
        "total_fee": trade.terms.total,
        "state": trade.state,
    })
}

fn clock_json(emulator: &Emulator) -> Value {
    let now: UnixMillis = emulator.inner.clock.now();
    json!({ "now": rfc3339(now), "offset_ms": emulator.inner.clock.offset_ms() })
}

/// Ten years.
const MAX_ADVANCE_MS: i64 = 3650 * 24 * 60 * 60 * 1000;
