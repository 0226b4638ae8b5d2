//! What goes on the wire: each gateway's messages, both directions, as bytes in and values out.
//! Never opens a connection, reads a clock or draws randomness: time and nonces come in as `Stamp`.
//! Facts are cited as `gateways.md N`; start with `Merchant` (our half) and `Counterpart` (theirs).

pub mod alipay;
pub mod explain;
#[cfg(test)]
mod flips;
pub mod keys;
#[cfg(test)]
mod testing;
mod visit;
pub mod wechat_oauth;
pub mod wechat_v2;
pub mod wechat_v3;
pub mod xml;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use serde::{Deserialize, Serialize};

pub use self::visit::{Shop, Visit};
use crate::domain::id::{Channel, OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::order::Code;
use crate::domain::refund::RefundStanding;

/// The time and the nonce of one message, drawn by the caller.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// When the message is made.
    pub now: UnixMillis,
    /// 32 letters and digits, fresh for each message.
    pub nonce: String,
}

/// What is asked of a gateway about one trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Place an attempt. Repeating it with the same terms is safe and gives another code of the same trade.
    Create {
        /// Our number.
        out_trade_no: OutTradeNo,
        /// Everything else; stored with the attempt and sent again unchanged.
        terms: Terms,
    },
    /// Ask how a trade stands.
    Query {
        /// Our number.
        out_trade_no: OutTradeNo,
    },
    /// Close an unpaid trade.
    Close {
        /// Our number.
        out_trade_no: OutTradeNo,
    },
    /// Give money of a paid trade back. Repeating it unchanged is safe: it is done once.
    Refund {
        /// Our number of the trade.
        out_trade_no: OutTradeNo,
        /// What and how much.
        refund: RefundTerms,
    },
    /// Ask how a refund stands.
    RefundQuery {
        /// Our number of the trade. WeChat needs only the refund's: a query without the trade's is read
        /// with the refund's number in its place.
        out_trade_no: OutTradeNo,
        /// Our number of the refund.
        out_refund_no: OutRefundNo,
    },
}

impl Call {
    /// Our number of the trade it is about.
    pub const fn out_trade_no(&self) -> &OutTradeNo {
        match self {
            Self::Create { out_trade_no, .. }
            | Self::Query { out_trade_no }
            | Self::Close { out_trade_no }
            | Self::Refund { out_trade_no, .. }
            | Self::RefundQuery { out_trade_no, .. } => out_trade_no,
        }
    }
}

/// The terms of an attempt, as the gateway will see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How the shopper meets the gateway.
    pub scene: Scene,
    /// Already cleaned for this gateway (`clean_title` of its module).
    pub title: String,
    /// What is due.
    pub total: Fen,
    /// Absolute, without a query.
    pub notify_url: String,
    /// The last moment to pay, already rounded up to what the gateway takes.
    pub time_expire: UnixMillis,
    /// The payer's address, or ours for QR codes.
    pub client_ip: String,
    /// Where the shopper pays in the very browser that shows the page.
    #[serde(default, skip_serializing_if = "Visit::is_none")]
    pub visit: Visit,
}

/// A refund, as the gateway will see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundTerms {
    /// Our number of it.
    pub out_refund_no: OutRefundNo,
    /// What the trade was paid with, in all. Zero where it was read from Alipay's request, which does not
    /// say it.
    pub total: Fen,
    /// What goes back.
    pub amount: Fen,
    /// For the shopper; each gateway is told what it can take of it.
    pub reason: Option<String>,
    /// Where WeChat says that it is done (absolute, without a query; empty: nowhere); Alipay says it with
    /// the trade's notices.
    pub notify_url: String,
}

/// How a call leaves: as a request, or, for Alipay's app string, without one.
#[derive(Debug)]
pub enum Outgoing {
    /// Send this and give the answer to `decode_reply`.
    Send(Request<Bytes>),
    /// Signed here; nothing is sent.
    Local(Reply),
}

/// A gateway's trusted answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Create`.
    Created(Code),
    /// To `Query`.
    Trade(Trade),
    /// To `Close`: closed now or before.
    Closed,
    /// To `Refund` and `RefundQuery`.
    Refund(RefundStanding),
}

/// How a trade stands, by the gateway's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trade {
    /// Not paid yet, may still be. Also every status we do not know.
    Waiting,
    /// The gateway has no such trade: never placed, or an Alipay code that nobody scanned.
    Absent,
    /// Paid. Also after refunds.
    Paid(Paid),
    /// Closed without payment.
    Closed,
}

/// Money the gateway took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Our number.
    pub out_trade_no: OutTradeNo,
    /// The gateway's number.
    pub transaction_id: TransactionId,
    /// The order amount, before coupons.
    pub total: Fen,
    /// When.
    pub paid_at: UnixMillis,
}

/// A notice whose signature, merchant and app are ours. Only `decode_notice` makes one, so business
/// code cannot be handed anything unverified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// For halves outside this module, whose gateways are scripted: they vouch for what they decode.
    pub const fn by_half(value: T) -> Self {
        Self(value)
    }

    /// What was verified.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// What was verified.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

/// What a gateway tells us by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Our number.
    pub out_trade_no: OutTradeNo,
    /// The gateway's id of this delivery, audit data only.
    pub delivery_id: Option<String>,
    /// What it says.
    pub told: Told,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// How the trade stands.
    Trade(Trade),
    /// Something happened to a refund. Never booked as such, for WeChat's v2 notice has no signature:
    /// the refund is asked for at once (gateways.md 5, pitfall 3).
    Refund {
        /// Our number of the refund.
        out_refund_no: OutRefundNo,
    },
}

/// What is wrong with bytes from the other side, sorted by what must be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not the protocol. Change nothing.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The signature is missing, of another kind, or wrong. Change nothing.
    #[error("bad signature: {0}")]
    BadSignature(String),
    /// Signed, or so it says, with a key that we do not have, or that is not good now. Change nothing.
    #[error("unknown key: {0}")]
    UnknownKey(String),
    /// The signature is right, its stamp is not of about now: an old message, or a clock that is wrong. Not
    /// applied; what it tells is asked for instead.
    #[error("stale: {0}")]
    Stale(String),
    /// Trusted or not, it is about another merchant or app. Change nothing.
    #[error("another merchant or app: {0}")]
    ForeignAccount(String),
    /// The gateway said no.
    #[error("refused: {code} {message}")]
    Refused {
        /// The gateway's own code.
        code: String,
        /// The gateway's own words.
        message: String,
        /// Whether the same call may be answered differently later.
        retry: Retry,
    },
    /// Asked, outcome unknown (SYSTEMERROR, 20000, 5xx): ask again with the same numbers.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// What a refusal means for the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The answer will stay no.
    Never,
    /// Later perhaps (rate limit, balance).
    Later,
    /// The trade is paid: query it.
    AlreadyPaid,
    /// The number is used up (closed, or placed with other terms): a new attempt needs a new number.
    NewNumber,
}

/// The answers to a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Applied or recorded, committed. Do not come again.
    Accepted,
    /// Not taken, by a fault of ours. Come again.
    Failed,
    /// Not taken: the bytes cannot be trusted. Come again, if they are yours.
    Untrusted,
}

/// Our half: what a merchant sends and reads.
pub trait Merchant: Send + Sync {
    /// The account under which trades are unique: app and merchant id, colon between.
    fn account(&self) -> &str;

    /// Writes and signs a call.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the call does not fit this protocol (a scene of the other gateway).
    fn encode_call(&self, call: &Call, stamp: &Stamp) -> Result<Outgoing, Fault>;

    /// Checks and reads the answer to `call`. `now` is the real time: what is signed may be stamped.
    ///
    /// # Errors
    /// [`Fault`]; anything that is neither a trusted yes nor a trusted no is `Unknown`, `Malformed` or
    /// `BadSignature`, all of which mean: query.
    fn decode_reply(&self, call: &Call, reply: &Response<Bytes>, now: UnixMillis) -> Result<Reply, Fault>;

    /// Checks and reads a notice.
    ///
    /// # Errors
    /// [`Fault`]; none of them may change anything but the audit log.
    fn decode_notice(&self, notice: &Request<Bytes>, now: UnixMillis) -> Result<Verified<Notice>, Fault>;
}

/// What our half asked, as the other half read it, with what it needs to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What was asked.
    pub call: Call,
    /// The interface called, as faults name it: `wx.unifiedorder`, `alipay.trade.precreate`, …
    pub method: String,
    /// Every parameter except the nonce, signature and stamp, in canonical order: two creations of one
    /// number must agree in it (gateways.md 1.2, 4.6).
    pub fingerprint: String,
    /// What must be echoed in the reply (sign type, method name) and in the trade's notices.
    pub echo: Vec<(String, String)>,
}

/// Why the other half refuses a request, in the real gateway's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Answer to send.
    pub code: String,
    /// Its message.
    pub message: String,
    /// Whether the request was trusted: trusted refusals are signed business failures, others are not signed.
    pub trusted: bool,
    /// What a developer needs to know: the canonical string, what differs, the likely cause. Never a secret.
    pub explanation: String,
    /// What must be echoed in the reply.
    pub echo: Vec<(String, String)>,
}

/// What the other side answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Create`.
    Created(Code),
    /// To `Query`.
    Trade(Standing),
    /// To `Close`.
    Closed,
    /// To `Refund`: taken on, now or before.
    Refund(GatewayRefund),
    /// To `RefundQuery`; `None` where the protocol answers yes about a refund that it does not know (Alipay).
    RefundQuery(Option<GatewayRefund>),
    /// No, in the gateway's own code and words.
    Refused(Refusal),
}

/// Why the gateway's own state forbids a call. Each protocol has its own word for each
/// ([`Counterpart::refuse`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// No such trade (at Alipay: also a code that nobody scanned).
    Absent,
    /// The trade is paid.
    Paid,
    /// The trade is closed.
    Closed,
    /// The number is in use with other parameters ([`Received::fingerprint`] differs).
    OtherTerms,
    /// There is no money to give back.
    NotPaid,
    /// More than what is left of the payment.
    RefundTooMuch,
    /// The refund's number is in use with another amount, or the total is not what the trade was paid with.
    RefundDiffers,
    /// No such refund.
    RefundAbsent,
    /// WeChat's JSAPI: the `openid` is none of this app's.
    UnknownPayer,
    /// The gateway itself is in trouble; the outcome is unknown.
    Busy,
}

/// A trade as the gateway itself knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
    /// What is due.
    pub total: Fen,
    /// What the shopper sees.
    pub title: String,
    /// How it was placed.
    pub scene: Scene,
    /// Set once a trade exists at Alipay (scanned), always at WeChat once paid.
    pub transaction_id: Option<TransactionId>,
    /// The payer: openid or buyer id.
    pub payer: Option<String>,
    /// When it was created, by the gateway's clock.
    pub created_at: UnixMillis,
    /// When it was paid.
    pub paid_at: Option<UnixMillis>,
    /// Where it stands.
    pub state: TradeState,
    /// What went back of it. Each protocol has its own way to tell (gateways.md 4.5, 5 pitfall 11).
    #[serde(default)]
    pub refunded: Option<Refunded>,
    /// [`Received::echo`] of the call that created it: a notice is signed with the sign type of the
    /// creation and repeats its attach, body and passback parameters.
    #[serde(default)]
    pub echo: Vec<(String, String)>,
}

/// What went back of a trade, as its queries and notices tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refunded {
    /// In all.
    pub total: Fen,
    /// The merchant's number of the last refund.
    pub out_refund_no: OutRefundNo,
    /// When that was done.
    pub at: UnixMillis,
}

/// Where a trade stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TradeState {
    /// Unpaid.
    #[serde(rename = "NOTPAY")]
    NotPay,
    /// Paid.
    #[serde(rename = "SUCCESS")]
    Success,
    /// Closed unpaid.
    #[serde(rename = "CLOSED")]
    Closed,
}

/// A refund as the gateway itself knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRefund {
    /// The merchant's number of the trade.
    pub out_trade_no: OutTradeNo,
    /// The gateway's number of the trade.
    pub transaction_id: TransactionId,
    /// The merchant's number of the refund.
    pub out_refund_no: OutRefundNo,
    /// The gateway's number of the refund.
    pub refund_id: String,
    /// What the trade was paid with.
    pub total: Fen,
    /// What goes back.
    pub amount: Fen,
    /// What went back of the trade so far, this refund included.
    pub refunded_total: Fen,
    /// The payer: openid or buyer id.
    pub payer: Option<String>,
    /// For the shopper.
    pub reason: Option<String>,
    /// When it was accepted, by the gateway's clock.
    pub asked_at: UnixMillis,
    /// When it was done.
    pub done_at: Option<UnixMillis>,
    /// Where it stands.
    pub state: GatewayRefundState,
    /// Whether this call repeats an accepted one (Alipay answers `fund_change` N then).
    #[serde(default)]
    pub repeated: bool,
}

/// Where a refund stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayRefundState {
    /// Accepted.
    #[serde(rename = "PROCESSING")]
    Processing,
    /// Done.
    #[serde(rename = "SUCCESS")]
    Success,
    /// Will not be done.
    #[serde(rename = "CLOSED")]
    Closed,
}

/// The other half: what a gateway reads and sends. Used by the emulator only.
pub trait Counterpart: Send + Sync {
    /// Checks and reads a merchant's request as strictly as the real gateway.
    ///
    /// # Errors
    /// [`Refusal`] in the gateway's words.
    fn decode_call(&self, request: &Request<Bytes>, now: UnixMillis) -> Result<Received, Refusal>;

    /// The refusal of a trusted call for what the gateway knows about the trade, in this protocol's
    /// words (gateways.md 1.2, 1.5, 4.12).
    fn refuse(&self, received: &Received, objection: Objection) -> Refusal;

    /// Writes and signs an answer. `echo` is that of the request.
    fn encode_answer(&self, answer: &Answer, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes>;

    /// Writes and signs the notice of a paid trade, addressed to `notify_url`. `delivery_id` stays the
    /// same over the retries of one event.
    fn encode_notice(
        &self,
        trade: &Standing,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Request<Bytes>;

    /// Writes the notice of a refund that came to its end, addressed to `notify_url`. `None`: this protocol
    /// has none, the trade's notice tells it (Alipay), or the refund is still under way.
    fn encode_refund_notice(
        &self,
        refund: &GatewayRefund,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Option<Request<Bytes>>;

    /// Whether the merchant's answer counts as received.
    fn decode_ack(&self, ack: &Response<Bytes>) -> bool;
}

/// The title as the gateway of `scene` takes it; `fallback` (the order number) if nothing is left.
pub fn clean_title(scene: Scene, title: &str, fallback: &str) -> String {
    match scene.channel() {
        Channel::Wx => wechat_v2::clean_title(title, fallback),
        Channel::Ali => alipay::clean_title(title, fallback),
    }
}

/// The last moment to pay, rounded up to what the gateway of `scene` takes (contract.md 4).
pub fn round_expiry(scene: Scene, now: UnixMillis, wanted: UnixMillis) -> UnixMillis {
    match scene.channel() {
        Channel::Wx => wechat_v2::round_expiry(now, wanted),
        Channel::Ali => alipay::round_expiry(scene, now, wanted),
    }
}

/// A POST of `body`. A URL that is none, or not absolute, is the caller's mistake.
fn post(url: &str, content_type: &'static str, body: impl Into<Bytes>) -> Result<Request<Bytes>, Fault> {
    let built = Request::post(url).header(CONTENT_TYPE, content_type).body(body.into());
    match built {
        Ok(request) if request.uri().host().is_some() => Ok(request),
        _ => Err(Fault::Malformed("the URL is not an absolute one".to_owned())),
    }
}

/// An answer with HTTP 200, which both gateways send and want even for refusals (gateways.md 1.1, 4.1).
fn answer(content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A notice. Its address was checked when the trade was placed; one that is none is never reached.
fn notice(url: &str, content_type: &'static str, body: impl Into<Bytes>) -> Request<Bytes> {
    let body: Bytes = body.into();
    post(url, content_type, body.clone()).unwrap_or_else(|_| Request::new(body))
}

/// What the real gateways want of a `notify_url` (gateways.md 1.2, 4.1 and pitfall 23): absolute, at most
/// 256 bytes, no query; https, or http to this very machine.
fn check_notify_url(text: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(text).map_err(|_| "notify_url is not an absolute URL")?;
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("notify_url has no host"),
    };
    if text.len() > 256 {
        Err("notify_url is longer than 256 bytes")
    } else if url.query().is_some() || url.fragment().is_some() {
        Err("notify_url must not have a query")
    } else if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        Err("notify_url must be https (http only to a loopback address)")
    } else {
        Ok(())
    }
}

/// The end of the second `at` lies in: both protocols write whole seconds, and a limit must not shrink.
const fn whole_second(at: UnixMillis) -> UnixMillis {
    let rest = at.0.rem_euclid(1000);
    if rest == 0 { at } else { at.plus(1000 - rest) }
}

/// What neither gateway takes in a title (gateways.md 5, pitfall 28): characters of four bytes, the
/// joiners and selectors such characters leave behind, control characters and what XML cannot hold.
fn untitled(letter: char) -> bool {
    letter.len_utf8() == 4
        || letter.is_control()
        || matches!(letter, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{20e3}' | '\u{fffe}' | '\u{ffff}')
}

/// A whole number of fen in digits alone, as WeChat writes amounts.
fn fen(text: &str) -> Option<Fen> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).and_then(|fen| Fen::new(fen).ok())
}

/// Cuts `text` to at most `max` bytes on a character boundary.
pub fn truncate_bytes(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}
