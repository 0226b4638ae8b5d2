//! Our half of WeChat v3: what a merchant sends, and what it believes of what comes back.
//! Never takes an unsigned yes. A no is never signed (gateways.md 2.1). The other half: `gateway`.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::keys::{PrivateKey, Secret};
use super::super::wechat_v2::{PayParams, clean};
use super::super::{
    Ack, Call, Fault, Merchant, Notice, Outgoing, Paid, RefundTerms, Reply, Retry, Stamp, Terms, Told, Trade,
    Verified,
};
use super::{
    BY_NUMBER, CERTIFICATES, Certificates, Envelope, H5, JSAPI, KeyRing, NATIVE, NONCE, PROBE, PlatformKey,
    REASON_MAX, REFUNDS, SCHEME, SERIAL, SIGNATURE, SIGNATURE_TYPE, TIMESTAMP, asked_text, clip, header,
    in_path, is_stale, malformed, moment, seconds, sign, told_text,
};
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::order::Code;
use crate::domain::refund::RefundStanding;
use crate::domain::time;

/// One merchant at WeChat.
#[derive(Clone, Debug)]
pub struct Config {
    /// The app or official account bound to the merchant.
    pub app_id: String,
    /// The merchant's number.
    pub mch_id: String,
    /// The serial number of the merchant's API certificate, 40 hex digits.
    pub serial: String,
    /// The key of that certificate: signs requests.
    pub key: PrivateKey,
    /// The `APIv3` key, 32 characters: opens notices and certificates.
    pub api_key: Secret,
    /// What answers and notices are signed with: public keys and certificates, all good at once.
    pub platform: Vec<PlatformKey>,
    /// `https://api.mch.weixin.qq.com` or where the emulator listens.
    pub base_url: String,
}

/// Our half.
#[derive(Debug)]
pub struct WechatV3 {
    config: Config,
    account: String,
    ring: KeyRing,
}

impl WechatV3 {
    /// For one merchant.
    pub fn new(config: Config) -> Self {
        let account = format!("{}:{}", config.app_id, config.mch_id);
        let ring = KeyRing::new(config.platform.iter().cloned());
        Self { config, account, ring }
    }

    /// The platform's keys as they are known now.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// What `getBrandWCPayRequest` takes (gateways.md 2.8).
    pub fn pay_sign(&self, prepay_id: &str, stamp: &Stamp) -> PayParams {
        let (app_id, time_stamp) = (self.config.app_id.clone(), seconds(stamp.now));
        let package = format!("prepay_id={prepay_id}");
        let text = format!("{app_id}\n{time_stamp}\n{}\n{package}\n", stamp.nonce);
        PayParams {
            pay_sign: sign(&self.config.key, text.as_bytes()),
            app_id,
            time_stamp,
            nonce_str: stamp.nonce.clone(),
            package,
            sign_type: "RSA".to_owned(),
        }
    }

    /// Asks for the platform's certificates.
    ///
    /// # Errors
    /// [`Fault::Malformed`]: the base URL is none.
    pub fn ask_certificates(&self, stamp: &Stamp) -> Result<Request<Bytes>, Fault> {
        self.request(Method::GET, CERTIFICATES, None, stamp)
    }

    /// Reads the answer to [`Self::ask_certificates`] and takes over what is new. The first answer may be
    /// signed with a certificate that stands in it: the seal under the `APIv3` key says that it is WeChat's.
    /// Returns how many certificates it held.
    ///
    /// # Errors
    /// [`Fault`]; then nothing changes.
    pub fn learn_certificates(&self, reply: &Response<Bytes>, now: UnixMillis) -> Result<usize, Fault> {
        if reply.status() != StatusCode::OK {
            return Err(refusal(reply, None));
        }
        let told: Certificates =
            serde_json::from_slice(reply.body()).map_err(|error| malformed("certificates", error))?;
        let mut learned = Vec::new();
        for entry in told.data {
            let plain = entry.encrypt_certificate.open(&self.config.api_key)?;
            let pem = String::from_utf8(plain).map_err(|error| malformed("a certificate", error))?;
            let key = PlatformKey::certificate(&pem).map_err(|error| malformed("a certificate", error))?;
            if key.serial != entry.serial_no {
                return Err(Fault::Malformed(format!("a certificate is not {}", clip(&entry.serial_no))));
            }
            learned.push(key);
        }
        let trusted = match trusted(&self.ring, reply.headers(), reply.body(), now) {
            Err(Fault::UnknownKey(_)) => {
                let theirs = KeyRing::new(learned.iter().cloned());
                trusted(&theirs, reply.headers(), reply.body(), now)
            }
            known => known,
        };
        trusted?;
        let count = learned.len();
        self.ring.learn(learned);
        Ok(count)
    }

    /// Where and what a creation is (gateways.md 2.3). All of it follows from the stored terms, so that a
    /// repetition is identical and gives a fresh code of the same trade.
    fn placing(&self, out_trade_no: &OutTradeNo, terms: &Terms) -> Result<(&'static str, Value), Fault> {
        let lacks = |what: &str| Fault::Malformed(format!("{} needs {what}", terms.scene));
        let mut body = json!({
            "appid": self.config.app_id,
            "mchid": self.config.mch_id,
            "description": terms.title,
            "out_trade_no": out_trade_no.as_str(),
            "time_expire": time::rfc3339(terms.time_expire),
            "notify_url": terms.notify_url,
            "amount": { "total": terms.total.get(), "currency": "CNY" },
        });
        let (path, more) = match terms.scene {
            Scene::Native => (NATIVE, None),
            Scene::Jsapi => {
                let openid = terms.visit.openid.as_ref().ok_or_else(|| lacks("an openid"))?;
                (JSAPI, Some(("payer", json!({ "openid": openid.as_str() }))))
            }
            Scene::Mweb => {
                let shop = terms.visit.shop.as_ref().ok_or_else(|| lacks("the shop's address"))?;
                let h5 = json!({ "type": "Wap", "app_name": clean(&shop.name, 64), "app_url": shop.url });
                let scene = json!({ "payer_client_ip": terms.client_ip, "h5_info": h5 });
                (H5, Some(("scene_info", scene)))
            }
            Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
                return Err(Fault::Malformed(format!("{} is not a scene of WeChat v3", terms.scene)));
            }
        };
        if let (Some(members), Some((name, value))) = (body.as_object_mut(), more) {
            members.insert(name.to_owned(), value);
        }
        Ok((path, body))
    }

    /// Writes and signs a request (gateways.md 2.1, 2.2).
    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        stamp: &Stamp,
    ) -> Result<Request<Bytes>, Fault> {
        const AGENT: &str = concat!("shouyin/", env!("CARGO_PKG_VERSION"));
        let none = || Fault::Malformed("the URL is not an absolute one".to_owned());
        let url = format!("{}{path}", self.config.base_url.trim_end_matches('/'));
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .body(body.clone().unwrap_or_default())
            .map_err(|_| none())?;
        let uri = request.uri();
        uri.host().ok_or_else(none)?;
        let target = uri.path_and_query().ok_or_else(none)?.as_str();
        let at = seconds(stamp.now);
        let text = asked_text(request.method().as_str(), target, &at, &stamp.nonce, request.body());
        let authorization = format!(
            "{SCHEME} mchid=\"{}\",nonce_str=\"{}\",signature=\"{}\",timestamp=\"{at}\",serial_no=\"{}\"",
            self.config.mch_id,
            stamp.nonce,
            sign(&self.config.key, &text),
            self.config.serial
        );
        let mut secret = HeaderValue::try_from(authorization)
            .map_err(|_| Fault::Malformed("mch_id or serial holds what no header can".to_owned()))?;
        secret.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, secret);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // With a public key the answers are asked for under it; else a certificate signs (gateways.md 2.1).
        if let Some(serial) = self.ring.preferred().and_then(|serial| HeaderValue::try_from(serial).ok()) {
            headers.insert(SERIAL.clone(), serial);
        }
        Ok(request)
    }

    /// Whether it is about us. Refunds do not name the app (gateways.md 2.9).
    fn ours(&self, merchant: Option<&str>, app: Option<&str>) -> Result<(), Fault> {
        match (merchant, app) {
            (Some(theirs), _) if theirs != self.config.mch_id => {
                Err(Fault::ForeignAccount(format!("mchid {}", clip(theirs))))
            }
            (_, Some(theirs)) if theirs != self.config.app_id => {
                Err(Fault::ForeignAccount(format!("appid {}", clip(theirs))))
            }
            (None, _) => Err(Fault::Malformed("mchid is missing".to_owned())),
            (Some(_), _) => Ok(()),
        }
    }

    fn own_trade(&self, body: &[u8]) -> Result<TradeTold, Fault> {
        let trade: TradeTold = serde_json::from_slice(body).map_err(|error| malformed("the trade", error))?;
        if trade.appid.is_none() {
            return Err(Fault::Malformed("appid is missing".to_owned()));
        }
        self.ours(trade.mchid.as_deref(), trade.appid.as_deref())?;
        Ok(trade)
    }
}

impl Merchant for WechatV3 {
    fn account(&self) -> &str {
        &self.account
    }

    fn encode_call(&self, call: &Call, stamp: &Stamp) -> Result<Outgoing, Fault> {
        let mchid = &self.config.mch_id;
        let (method, path, body) = match call {
            Call::Create { out_trade_no, terms } => {
                let (path, body) = self.placing(out_trade_no, terms)?;
                (Method::POST, path.to_owned(), Some(body))
            }
            Call::Query { out_trade_no } => {
                let path = format!("{BY_NUMBER}{}?mchid={mchid}", in_path(out_trade_no.as_str()));
                (Method::GET, path, None)
            }
            Call::Close { out_trade_no } => {
                let path = format!("{BY_NUMBER}{}/close", in_path(out_trade_no.as_str()));
                (Method::POST, path, Some(json!({ "mchid": mchid })))
            }
            Call::Refund { out_trade_no, refund } => {
                (Method::POST, REFUNDS.to_owned(), Some(giving_back(out_trade_no, refund)))
            }
            Call::RefundQuery { out_refund_no, .. } => {
                (Method::GET, format!("{REFUNDS}/{}", in_path(out_refund_no.as_str())), None)
            }
        };
        self.request(method, &path, body, stamp).map(Outgoing::Send)
    }

    fn decode_reply(&self, call: &Call, reply: &Response<Bytes>, now: UnixMillis) -> Result<Reply, Fault> {
        match reply.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => {}
            // A no is never signed (gateways.md 2.1), also where it answers the question.
            _ => return gone(call, reply).ok_or_else(|| refusal(reply, Some(call))),
        }
        trusted(&self.ring, reply.headers(), reply.body(), now)?;
        let body = reply.body();
        match call {
            Call::Create { terms, .. } => created(body, terms).map(Reply::Created),
            Call::Query { out_trade_no } => {
                let trade = self.own_trade(body)?;
                about("out_trade_no", &trade.out_trade_no, out_trade_no.as_str())?;
                trade.standing().map(Reply::Trade)
            }
            Call::Close { .. } => Ok(Reply::Closed),
            Call::Refund { out_trade_no, refund } => {
                let told = refunded(body, out_trade_no, &refund.out_refund_no)?;
                about("amount.total", &told.amount.total.to_string(), &refund.total.get().to_string())?;
                about("amount.refund", &told.amount.refund.to_string(), &refund.amount.get().to_string())?;
                Ok(Reply::Refund(told.standing()))
            }
            Call::RefundQuery { out_trade_no, out_refund_no } => {
                refunded(body, out_trade_no, out_refund_no).map(|told| Reply::Refund(told.standing()))
            }
        }
    }

    fn decode_notice(&self, notice: &Request<Bytes>, now: UnixMillis) -> Result<Verified<Notice>, Fault> {
        trusted(&self.ring, notice.headers(), notice.body(), now)?;
        let outer: Envelope =
            serde_json::from_slice(notice.body()).map_err(|error| malformed("the notice", error))?;
        let plain = outer.resource.open(&self.config.api_key)?;
        let delivery_id = outer.id.as_deref().map(clip);
        if outer.event_type.starts_with("REFUND.") {
            let told: RefundTold =
                serde_json::from_slice(&plain).map_err(|error| malformed("the refund", error))?;
            self.ours(told.mchid.as_deref(), None)?;
            let out_refund_no = OutRefundNo::new(told.out_refund_no).map_err(|_| wrong("out_refund_no"))?;
            let out_trade_no = OutTradeNo::new(told.out_trade_no).map_err(|_| wrong("out_trade_no"))?;
            return Ok(Verified(Notice { out_trade_no, delivery_id, told: Told::Refund { out_refund_no } }));
        }
        if outer.event_type != "TRANSACTION.SUCCESS" {
            return Err(Fault::Malformed(format!("event_type {}", clip(&outer.event_type))));
        }
        let trade = self.own_trade(&plain)?;
        let out_trade_no = OutTradeNo::new(trade.out_trade_no.clone()).map_err(|_| wrong("out_trade_no"))?;
        let told = Told::Trade(trade.standing()?);
        Ok(Verified(Notice { out_trade_no, delivery_id, told }))
    }
}

/// Whether these bytes are WeChat's, of about now (gateways.md 2.2). The stamp is looked at after the
/// signature, for only then it is WeChat's.
fn trusted(ring: &KeyRing, headers: &HeaderMap, body: &[u8], now: UnixMillis) -> Result<(), Fault> {
    let bad = |why: String| Err(Fault::BadSignature(why));
    let need = |name| {
        header(headers, name)
            .ok_or_else(|| Fault::BadSignature(format!("{name} is missing, doubled or unreadable")))
    };
    let (timestamp, nonce) = (need(&TIMESTAMP)?, need(&NONCE)?);
    let (signature, serial) = (need(&SIGNATURE)?, need(&SERIAL)?);
    if headers.contains_key(&SIGNATURE_TYPE) && header(headers, &SIGNATURE_TYPE) != Some(SCHEME) {
        return bad(format!("{SIGNATURE_TYPE} is not {SCHEME}"));
    }
    if signature.starts_with(PROBE) {
        // It comes again, rightly signed. To let it pass is what the probe looks for.
        return bad("a probe of WeChat's (SIGNTEST), wrong on purpose".to_owned());
    }
    let key = ring.find(serial, now)?;
    if !key.verify_sha256_base64(&told_text(timestamp, nonce, body), signature) {
        return bad(format!("{SIGNATURE} does not fit the bytes and the key {}", clip(serial)));
    }
    match is_stale(timestamp, now) {
        Some(false) => Ok(()),
        Some(true) => {
            let off = format!("stamped {timestamp}, which is five minutes or more from {}", seconds(now));
            Err(Fault::Stale(off))
        }
        None => bad(format!("{TIMESTAMP} is no number of seconds")),
    }
}

/// A trade, in answers and notices (gateways.md 2.4).
#[derive(Deserialize)]
struct TradeTold {
    appid: Option<String>,
    mchid: Option<String>,
    out_trade_no: String,
    transaction_id: Option<String>,
    trade_state: String,
    success_time: Option<String>,
    amount: Option<Amount>,
}

#[derive(Deserialize)]
struct Amount {
    total: Option<i64>,
    currency: Option<String>,
}

impl TradeTold {
    /// gateways.md 7. A state we do not know is waiting.
    fn standing(&self) -> Result<Trade, Fault> {
        match self.trade_state.as_str() {
            // REFUND: any refund happened, so it was paid.
            "SUCCESS" | "REFUND" => self.paid().map(Trade::Paid),
            "CLOSED" | "REVOKED" => Ok(Trade::Closed),
            _ => Ok(Trade::Waiting),
        }
    }

    /// The money of a paid trade. Half a payment is none: every field must be there.
    fn paid(&self) -> Result<Paid, Fault> {
        let missing = |name: &str| Fault::Malformed(format!("{name} is missing"));
        let amount = self.amount.as_ref().ok_or_else(|| missing("amount"))?;
        if let Some(currency) = amount.currency.as_deref()
            && currency != "CNY"
        {
            return Err(Fault::Malformed(format!("currency {}", clip(currency))));
        }
        let transaction_id = self.transaction_id.clone().ok_or_else(|| missing("transaction_id"))?;
        let at = self.success_time.as_deref().ok_or_else(|| missing("success_time"))?;
        // The order amount, not payer_total, which coupons lower (pitfall 5).
        let total = amount.total.ok_or_else(|| missing("amount.total"))?;
        Ok(Paid {
            out_trade_no: OutTradeNo::new(self.out_trade_no.clone()).map_err(|_| wrong("out_trade_no"))?,
            transaction_id: TransactionId::new(transaction_id).map_err(|_| wrong("transaction_id"))?,
            total: Fen::new(total).map_err(|_| wrong("amount.total"))?,
            paid_at: moment(at).ok_or_else(|| wrong("success_time"))?,
        })
    }
}

/// The answer to a refund and to a query for one (gateways.md 2.5).
#[derive(Deserialize)]
struct Refunding {
    out_trade_no: String,
    out_refund_no: String,
    status: String,
    success_time: Option<String>,
    amount: RefundAmount,
}

#[derive(Deserialize)]
struct RefundAmount {
    total: i64,
    refund: i64,
}

impl Refunding {
    fn standing(&self) -> RefundStanding {
        match self.status.as_str() {
            "SUCCESS" => RefundStanding::Succeeded { at: self.success_time.as_deref().and_then(moment) },
            // ABNORMAL: the shopper's bank sent it back, and a person must send it another way.
            failed @ ("CLOSED" | "ABNORMAL") => RefundStanding::Failed { code: failed.to_owned() },
            _ => RefundStanding::Processing,
        }
    }
}

/// A refund notice's content (gateways.md 2.9). What it says of the money is asked for, not believed.
#[derive(Deserialize)]
struct RefundTold {
    mchid: Option<String>,
    out_trade_no: String,
    out_refund_no: String,
}

/// A no (gateways.md 2.7).
#[derive(Deserialize)]
struct No {
    code: String,
    #[serde(default)]
    message: String,
}

/// What the shopper is given: what to scan, what to call WeChat's wallet with, or where to go. WeChat sends
/// the browser back only where the link to its page says so (gateways.md 2.3).
fn created(body: &[u8], terms: &Terms) -> Result<Code, Fault> {
    #[derive(Deserialize)]
    struct Created {
        code_url: Option<String>,
        prepay_id: Option<String>,
        h5_url: Option<String>,
    }
    let made: Created = serde_json::from_slice(body).map_err(|error| malformed("the answer", error))?;
    let need = |value: Option<String>, name: &str| {
        let missing = || Fault::Malformed(format!("{name} is missing"));
        value.filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    let (content, prepay_id) = match terms.scene {
        Scene::Jsapi => {
            let prepay_id = need(made.prepay_id, "prepay_id")?;
            (prepay_id.clone(), Some(prepay_id))
        }
        Scene::Mweb => {
            let mut url = url::Url::parse(&need(made.h5_url, "h5_url")?).map_err(|_| wrong("h5_url"))?;
            if let Some(back) = &terms.visit.return_url {
                url.query_pairs_mut().append_pair("redirect_url", back);
            }
            (url.into(), None)
        }
        // There is no prepay_id here, and none is invented.
        Scene::Native | Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
            (need(made.code_url, "code_url")?, None)
        }
    };
    Ok(Code { content, prepay_id, until: None })
}

fn refunded(body: &[u8], trade: &OutTradeNo, refund: &OutRefundNo) -> Result<Refunding, Fault> {
    let told: Refunding = serde_json::from_slice(body).map_err(|error| malformed("the refund", error))?;
    about("out_trade_no", &told.out_trade_no, trade.as_str())?;
    about("out_refund_no", &told.out_refund_no, refund.as_str())?;
    Ok(told)
}

/// Refuses an answer in which `name` is not what was asked about.
fn about(name: &str, theirs: &str, ours: &str) -> Result<(), Fault> {
    if theirs == ours {
        return Ok(());
    }
    Err(Fault::Malformed(format!("the answer's {name} is {}, not {ours}", clip(theirs))))
}

/// A no that answers the question: there is no such thing, or it is closed already. Only in the gateway's
/// own words: a proxy's page with the same status says nothing of a trade.
fn gone(call: &Call, reply: &Response<Bytes>) -> Option<Reply> {
    if !matches!(reply.status(), StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) {
        return None;
    }
    let no: No = serde_json::from_slice(reply.body()).ok()?;
    match (call, no.code.replace('_', "").as_str()) {
        (Call::Query { .. }, "ORDERNOTEXIST") => Some(Reply::Trade(Trade::Absent)),
        (Call::Close { .. }, "ORDERCLOSED" | "ORDERCLOSE") => Some(Reply::Closed),
        (Call::RefundQuery { .. }, "RESOURCENOTEXISTS" | "REFUNDNOTEXIST") => {
            Some(Reply::Refund(RefundStanding::Absent))
        }
        _ => None,
    }
}

/// Everything that is neither 200 nor 204. Codes are written with and without `_` (gateways.md 2.7).
fn refusal(reply: &Response<Bytes>, call: Option<&Call>) -> Fault {
    let status = reply.status();
    let no: Option<No> = serde_json::from_slice(reply.body()).ok();
    let unknown = || Fault::Unknown(format!("HTTP {}", status.as_u16()));
    // 202: under way; ask again with the same parameters (gateways.md 2.1).
    if !status.is_client_error() {
        return unknown();
    }
    let Some(No { code, message }) = no else {
        return match status {
            StatusCode::TOO_MANY_REQUESTS => Fault::Refused {
                code: "HTTP 429".to_owned(),
                message: "asked too often".to_owned(),
                retry: Retry::Later,
            },
            // Nothing of WeChat's: a proxy's word is no answer.
            _ => unknown(),
        };
    };
    let word = code.replace('_', "");
    let retry = match (call, word.as_str()) {
        (_, "SYSTEMERROR" | "BANKERROR") => {
            return Fault::Unknown(format!("{} {}", clip(&code), clip(&message)));
        }
        // Not the order's fault: our key, clock or speed, and they can be put right.
        (_, "SIGNERROR" | "FREQUENCYLIMITED" | "RATELIMITEXCEEDED" | "RATELIMIT" | "NOTENOUGH") => {
            Retry::Later
        }
        _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) => Retry::Later,
        (Some(Call::Refund { .. } | Call::RefundQuery { .. }), _) => Retry::Never,
        // What exactly is said of a paid trade is not written anywhere; the query will tell (pitfall 16).
        (Some(Call::Close { .. }), "INVALIDREQUEST" | "TRADEERROR") | (_, "ORDERPAID") => Retry::AlreadyPaid,
        (_, "ORDERCLOSED" | "OUTTRADENOUSED") => Retry::NewNumber,
        // One code for three things: paid, taken, or the request is wrong.
        (_, "INVALIDREQUEST") if message.contains("已支付") => Retry::AlreadyPaid,
        (_, "INVALIDREQUEST") if message.contains("201") || message.contains("订单号重复") => {
            Retry::NewNumber
        }
        _ => Retry::Never,
    };
    Fault::Refused { code: clip(&code), message: clip(&message), retry }
}

/// The body of a refund (gateways.md 2.5), all of it from the stored refund.
fn giving_back(out_trade_no: &OutTradeNo, terms: &RefundTerms) -> Value {
    let mut body = json!({
        "out_trade_no": out_trade_no.as_str(),
        "out_refund_no": terms.out_refund_no.as_str(),
        "amount": { "refund": terms.amount.get(), "total": terms.total.get(), "currency": "CNY" },
    });
    let reason = clean(terms.reason.as_deref().unwrap_or_default(), REASON_MAX);
    if let Some(members) = body.as_object_mut() {
        for (name, text) in [("reason", reason.as_str()), ("notify_url", terms.notify_url.as_str())] {
            if !text.is_empty() {
                members.insert(name.to_owned(), Value::from(text));
            }
        }
    }
    body
}

/// The answer to a notice (gateways.md 2.9): nothing for yes, 4xx for what cannot be trusted, 5xx for a fault
/// of ours.
pub fn encode_ack(ack: Ack) -> Response<Bytes> {
    let (status, body) = match ack {
        Ack::Accepted => (StatusCode::NO_CONTENT, ""),
        Ack::Untrusted => (StatusCode::UNAUTHORIZED, r#"{"code":"FAIL","message":"验签失败"}"#),
        Ack::Failed => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"code":"FAIL","message":"处理失败"}"#),
    };
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    if ack != Ack::Accepted {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

fn wrong(name: &str) -> Fault {
    Fault::Malformed(format!("{name} is not one"))
}
