//! Our half of Alipay: what a merchant sends, and what it believes of what comes back.
//! Never takes an unsigned yes. The other half: `gateway`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{Request, Response};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::keys::{PrivateKey, PublicKey};
use super::super::{
    Ack, Call, Fault, Merchant, Notice, Outgoing, Paid, RefundTerms, Reply, Retry, Stamp, Terms, Told, Trade,
    Verified, answer, post,
};
use super::{
    Empties, Params, canonical, clean_title, clip, first_chars, get, need, placing, put, read_form, sign,
    write_form,
};
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::order::Code;
use crate::domain::refund::RefundStanding;
use crate::domain::time;

/// One merchant at Alipay.
#[derive(Clone, Debug)]
pub struct Config {
    /// The app.
    pub app_id: String,
    /// The merchant's account, `2088…`.
    pub seller_id: String,
    /// `https://openapi.alipay.com/gateway.do` or where the emulator listens.
    pub gateway_url: String,
    /// Signs our requests.
    pub app_key: PrivateKey,
    /// Alipay's own public key (not the app's), which answers and notices must be signed with.
    pub alipay_key: PublicKey,
}

/// Our half.
#[derive(Clone, Debug)]
pub struct Alipay {
    config: Config,
    account: String,
}

impl Alipay {
    /// For one merchant.
    pub fn new(config: Config) -> Self {
        let account = format!("{}:{}", config.app_id, config.seller_id);
        Self { config, account }
    }

    /// Common parameters (gateways.md 4.1), `biz_content` and the signature over all of them.
    fn signed(&self, method: &str, biz_content: &str, urls: Urls<'_>, stamp: &Stamp) -> Params {
        let mut params = Params::new();
        put(&mut params, "app_id", &self.config.app_id);
        put(&mut params, "method", method);
        put(&mut params, "format", "JSON");
        put(&mut params, "charset", "utf-8");
        put(&mut params, "sign_type", "RSA2");
        put(&mut params, "timestamp", &time::spaced(stamp.now));
        put(&mut params, "version", "1.0");
        put(&mut params, "biz_content", biz_content);
        // Public parameters: inside biz_content they would be ignored without a word.
        for (name, url) in [("notify_url", urls.notify), ("return_url", urls.back)] {
            if let Some(url) = url {
                put(&mut params, name, url);
            }
        }
        let signature = sign(&self.config.app_key, &canonical(&params, &["sign"], Empties::Dropped));
        put(&mut params, "sign", &signature);
        params
    }

    /// `biz_content` of every way to place a trade (gateways.md 4.6 to 4.8). The time is absolute: Alipay's
    /// relative one starts only at the scan.
    fn trade(&self, out_trade_no: &OutTradeNo, terms: &Terms, product_code: &str) -> String {
        let mut biz = serde_json::json!({
            "out_trade_no": out_trade_no.as_str(),
            "total_amount": terms.total.to_string(),
            "subject": terms.title,
            "body": first_chars(&terms.title, 128),
            "product_code": product_code,
            "seller_id": self.config.seller_id,
            "time_expire": time::spaced(terms.time_expire),
        });
        if let (Scene::Wap, Some(back), Some(biz)) =
            (terms.scene, &terms.visit.return_url, biz.as_object_mut())
        {
            biz.insert("quit_url".to_owned(), Value::from(back.as_str()));
        }
        biz.to_string()
    }

    /// Places a trade: QR codes are asked for; what an app or a browser hands over is signed here, and
    /// nothing is sent (gateways.md 4.7, 4.8).
    fn place(&self, out_trade_no: &OutTradeNo, terms: &Terms, stamp: &Stamp) -> Result<Placed, Fault> {
        let foreign = || Fault::Malformed(format!("{} is not a scene of Alipay", terms.scene));
        let (method, product_code) = placing(terms.scene).ok_or_else(foreign)?;
        let biz = self.trade(out_trade_no, terms, product_code);
        let urls = Urls { notify: Some(&terms.notify_url), back: terms.visit.return_url.as_deref() };
        let params = self.signed(method, &biz, urls, stamp);
        Ok(match terms.scene {
            Scene::App => Placed::Here(write_form(&params)),
            Scene::Wap | Scene::Page => {
                Placed::Here(format!("{}?{}", self.config.gateway_url, write_form(&params)))
            }
            Scene::QrCode | Scene::Native | Scene::Jsapi | Scene::Mweb => Placed::ByCall(params),
        })
    }

    /// The signed node of an answer as Alipay wrote it, and whether the signature was there and right.
    fn node<'a>(&self, envelope: &'a Envelope<'a>, method: &str) -> Result<(Node, bool), Fault> {
        let own = format!("{}_response", method.replace('.', "_"));
        let raw = envelope.get(&own).or_else(|| envelope.get("error_response"));
        let raw = raw.ok_or_else(|| Fault::Malformed(format!("there is no {own}")))?.get();
        let node: Node = serde_json::from_str(raw)
            .map_err(|_| Fault::Malformed("the response node is not an object".to_owned()))?;
        let signature = match envelope.get("sign") {
            None => None,
            Some(text) => Some(
                serde_json::from_str::<String>(text.get())
                    .map_err(|_| Fault::Malformed("sign is not a text".to_owned()))?,
            ),
        };
        match signature {
            // The very bytes of the node: re-serialising would lose `\/` and the order (gateways.md 4.3).
            Some(text) if self.config.alipay_key.verify_sha256_base64(raw.as_bytes(), &text) => {
                Ok((node, true))
            }
            Some(_) => Err(Fault::BadSignature("sign does not fit the response node".to_owned())),
            None if node.text("code") == Some("10000") => {
                Err(Fault::BadSignature("a success without sign".to_owned()))
            }
            None => Ok((node, false)),
        }
    }

    /// Whether a notice's signature is Alipay's, by the rule without `sign_type` (gateways.md 4.5).
    fn check_notice(&self, params: &Params) -> Result<(), Fault> {
        let bad = |why: &str| Err(Fault::BadSignature(why.to_owned()));
        let Some(signature) = get(params, "sign") else {
            return bad("there is no sign");
        };
        if get(params, "sign_type") != Some("RSA2") {
            return bad("sign_type is not RSA2");
        }
        let fits = |empties| {
            let text = canonical(params, &["sign", "sign_type"], empties);
            self.config.alipay_key.verify_sha256_base64(text.as_bytes(), signature)
        };
        if fits(Empties::Kept) || fits(Empties::Dropped) {
            Ok(())
        } else {
            bad("sign does not fit the parameters and Alipay's key")
        }
    }
}

impl Merchant for Alipay {
    fn account(&self) -> &str {
        &self.account
    }

    fn encode_call(&self, call: &Call, stamp: &Stamp) -> Result<Outgoing, Fault> {
        let plain = |method, biz: String| self.signed(method, &biz, Urls::default(), stamp);
        let mut params = match call {
            Call::Create { out_trade_no, terms } => match self.place(out_trade_no, terms, stamp)? {
                Placed::ByCall(params) => params,
                Placed::Here(content) => {
                    return Ok(Outgoing::Local(Reply::Created(Code {
                        content,
                        prepay_id: None,
                        until: None,
                    })));
                }
            },
            Call::Query { out_trade_no } => plain(QUERY, number(out_trade_no)),
            Call::Close { out_trade_no } => plain(CLOSE, number(out_trade_no)),
            Call::Refund { out_trade_no, refund: terms } => plain(REFUND, refund(out_trade_no, terms)),
            Call::RefundQuery { out_trade_no, out_refund_no } => {
                let biz = serde_json::json!({
                    "out_trade_no": out_trade_no.as_str(),
                    "out_request_no": out_refund_no.as_str(),
                    // The time is told only when asked for.
                    "query_options": ["gmt_refund_pay"],
                });
                plain(REFUND_QUERY, biz.to_string())
            }
        };
        // The charset must stand in the query, for it decides how the body is read (gateways.md 4.1).
        let body = params.remove_entry("biz_content");
        let url = format!("{}?{}", self.config.gateway_url, write_form(&params));
        let body = write_form(body.iter().map(|(name, value)| (name, value)));
        post(&url, "application/x-www-form-urlencoded;charset=utf-8", body).map(Outgoing::Send)
    }

    fn decode_reply(&self, call: &Call, reply: &Response<Bytes>, _now: UnixMillis) -> Result<Reply, Fault> {
        if !reply.status().is_success() {
            return Err(Fault::Unknown(format!("HTTP {}", reply.status().as_u16())));
        }
        let method = match call {
            Call::Create { terms, .. } => placing(terms.scene).map_or(QUERY, |(method, _)| method),
            Call::Query { .. } => QUERY,
            Call::Close { .. } => CLOSE,
            Call::Refund { .. } => REFUND,
            Call::RefundQuery { .. } => REFUND_QUERY,
        };
        let envelope: Envelope<'_> = serde_json::from_slice(reply.body())
            .map_err(|error| Fault::Malformed(format!("not the answer's JSON: {error}")))?;
        let (node, signed) = self.node(&envelope, method)?;
        if node.text("code") != Some("10000") {
            return refused(call, &node, signed);
        }
        let ours = call.out_trade_no().as_str();
        if node.text("out_trade_no").is_some_and(|theirs| theirs != ours) {
            return Err(Fault::Malformed("the answer is about another trade".to_owned()));
        }
        match call {
            Call::Create { .. } => Ok(Reply::Created(Code {
                content: node.need("qr_code")?.to_owned(),
                prepay_id: None,
                until: None,
            })),
            Call::Query { .. } => queried(&node).map(Reply::Trade),
            Call::Close { .. } => Ok(Reply::Closed),
            Call::Refund { refund, .. } => refunded(&node, refund).map(Reply::Refund),
            Call::RefundQuery { out_refund_no, .. } => {
                refund_standing(&node, out_refund_no).map(Reply::Refund)
            }
        }
    }

    fn decode_notice(&self, notice: &Request<Bytes>, _now: UnixMillis) -> Result<Verified<Notice>, Fault> {
        let params = read_form(notice.body())?;
        self.check_notice(&params)?;
        // The same Alipay key signs for every app and seller, so a right signature is not yet ours
        // (gateways.md 5, pitfall 6).
        for (name, ours) in [("app_id", &self.config.app_id), ("seller_id", &self.config.seller_id)] {
            let theirs = need(&params, name)?;
            if theirs != ours {
                return Err(Fault::ForeignAccount(format!("{name} {}", clip(theirs))));
            }
        }
        let out_trade_no =
            OutTradeNo::new(need(&params, "out_trade_no")?).map_err(|_| wrong("out_trade_no"))?;
        let delivery_id = get(&params, "notify_id").map(clip);
        Ok(Verified(Notice { out_trade_no, delivery_id, told: Told::Trade(told(&params)?) }))
    }
}

/// The answer to a notice: exactly these bytes (gateways.md 4.5); anything but `success` brings it again.
pub fn encode_ack(ack: Ack) -> Response<Bytes> {
    answer("text/plain", if ack == Ack::Accepted { "success" } else { "failure" })
}

/// Where Alipay tells the result: to us, and by way of the shopper's browser.
#[derive(Clone, Copy, Default)]
struct Urls<'a> {
    notify: Option<&'a str>,
    back: Option<&'a str>,
}

/// A signed placing.
enum Placed {
    /// To be sent.
    ByCall(Params),
    /// What the shopper opens; nothing is sent.
    Here(String),
}

/// The members of an answer, each value as the very text that was sent.
struct Envelope<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Envelope<'_> {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    // Which of two would be signed? And the real ones have two or three.
                    if members.len() == 16 || members.iter().any(|(member, _)| *member == name) {
                        return Err(serde::de::Error::custom("a member stands twice, or there are too many"));
                    }
                    members.push((name, value));
                }
                Ok(Envelope(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The node of an answer.
#[derive(Deserialize)]
struct Node(serde_json::Map<String, Value>);

impl Node {
    /// A member that is a text and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, Fault> {
        self.text(name).ok_or_else(|| Fault::Malformed(format!("{name} is missing")))
    }
}

/// A no (gateways.md 4.3, 4.12). Prefixes of sub codes vary, so they are searched, not compared.
fn refused(call: &Call, node: &Node, signed: bool) -> Result<Reply, Fault> {
    let code = node.need("code")?;
    let sub_code = node.text("sub_code").unwrap_or(code);
    let message = node.text("sub_msg").or_else(|| node.text("msg")).unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| sub_code.contains(word));
    if code == "20000" || says(&["SYSTEM_ERROR", "unknow-error"]) {
        return Err(Fault::Unknown(format!("{code} {}", clip(sub_code))));
    }
    let closing = matches!(call, Call::Close { .. });
    let refunding = matches!(call, Call::Refund { .. } | Call::RefundQuery { .. });
    let retry = if !signed {
        // The gateway signs business failures and not its own; an unsigned no is never final.
        Retry::Later
    } else if matches!(call, Call::Query { .. }) && says(&["TRADE_NOT_EXIST"]) {
        return Ok(Reply::Trade(Trade::Absent));
    } else if matches!(call, Call::RefundQuery { .. }) && says(&["TRADE_NOT_EXIST"]) {
        return Ok(Reply::Refund(RefundStanding::Absent));
    } else if code == "40005" || says(&["SELLER_BALANCE_NOT_ENOUGH"]) {
        Retry::Later
    } else if refunding {
        Retry::Never
    } else if closing && says(&["TRADE_HAS_CLOSE"]) {
        return Ok(Reply::Closed);
    } else if says(&["TRADE_HAS_SUCCESS", "TRADE_HAS_FINISHED"]) {
        Retry::AlreadyPaid
    } else if closing && says(&["TRADE_STATUS_ERROR", "TRADE_STATUS_INVALID", "ILLEGAL_STATUS"]) {
        // Not waiting any more: most likely paid, and the query will tell (pitfall 16).
        Retry::AlreadyPaid
    } else if says(&["TRADE_HAS_CLOSE", "CONTEXT_INCONSISTENT"]) {
        Retry::NewNumber
    } else {
        Retry::Never
    };
    Err(Fault::Refused { code: clip(sub_code), message: clip(message), retry })
}

/// The state of a queried trade (gateways.md 4.9, 7). A state we do not know is waiting.
fn queried(node: &Node) -> Result<Trade, Fault> {
    let paid = || {
        let at = node.need("send_pay_date")?;
        money(node.need("out_trade_no")?, node.need("trade_no")?, node.need("total_amount")?, at)
    };
    match node.need("trade_status")? {
        "TRADE_SUCCESS" | "TRADE_FINISHED" => paid().map(Trade::Paid),
        // Money went to the seller once: closed by a refund, not by time (pitfall 9).
        "TRADE_CLOSED" if node.text("send_pay_date").is_some() => paid().map(Trade::Paid),
        "TRADE_CLOSED" => Ok(Trade::Closed),
        _ => Ok(Trade::Waiting),
    }
}

/// The answer to a refund (gateways.md 4.10): the money moved now, or the call was a repetition, of which
/// only a query says more.
fn refunded(node: &Node, terms: &RefundTerms) -> Result<RefundStanding, Fault> {
    if node.text("fund_change") != Some("Y") {
        return Ok(RefundStanding::Processing);
    }
    // What went back of the trade in all, so at least ours.
    let total = Fen::from_yuan(node.need("refund_fee")?).map_err(|_| wrong("refund_fee"))?;
    if total < terms.amount {
        return Err(Fault::Malformed(format!("refund_fee {total} is less than what was asked")));
    }
    Ok(RefundStanding::Succeeded { at: node.text("gmt_refund_pay").and_then(time::parse_spaced) })
}

/// The state of a queried refund (gateways.md 4.10).
fn refund_standing(node: &Node, ours: &OutRefundNo) -> Result<RefundStanding, Fault> {
    if node.text("out_request_no").is_some_and(|theirs| theirs != ours.as_str()) {
        return Err(Fault::Malformed("the answer is about another refund".to_owned()));
    }
    match node.text("refund_status") {
        Some("REFUND_SUCCESS") => {
            node.need("out_request_no")?;
            Ok(RefundStanding::Succeeded { at: node.text("gmt_refund_pay").and_then(time::parse_spaced) })
        }
        Some(_) => Ok(RefundStanding::Processing),
        // An amount without a word on it: the refund is known, so it must not pass for none.
        None if node.text("refund_amount").is_some() => Ok(RefundStanding::Processing),
        None => Ok(RefundStanding::Absent),
    }
}

/// The state a notice tells (gateways.md 4.5). A second `TRADE_SUCCESS` after a partial refund is the
/// same payment again (pitfall 10).
fn told(params: &Params) -> Result<Trade, Fault> {
    let paid = |at: &str| {
        money(need(params, "out_trade_no")?, need(params, "trade_no")?, need(params, "total_amount")?, at)
    };
    let refunded = get(params, "refund_fee").is_some_and(|fee| Fen::from_yuan(fee) != Ok(Fen::ZERO));
    match need(params, "trade_status")? {
        "TRADE_SUCCESS" | "TRADE_FINISHED" => paid(need(params, "gmt_payment")?).map(Trade::Paid),
        "TRADE_CLOSED" => match get(params, "gmt_payment") {
            Some(at) => paid(at).map(Trade::Paid),
            None if refunded => paid(need(params, "gmt_create")?).map(Trade::Paid),
            None => Ok(Trade::Closed),
        },
        _ => Ok(Trade::Waiting),
    }
}

fn money(out_trade_no: &str, trade_no: &str, total: &str, at: &str) -> Result<Paid, Fault> {
    Ok(Paid {
        out_trade_no: OutTradeNo::new(out_trade_no).map_err(|_| wrong("out_trade_no"))?,
        transaction_id: TransactionId::new(trade_no).map_err(|_| wrong("trade_no"))?,
        // The order amount; what the buyer pays is less with vouchers.
        total: Fen::from_yuan(total).map_err(|_| wrong("total_amount"))?,
        paid_at: time::parse_spaced(at).ok_or_else(|| wrong("the time of payment"))?,
    })
}

fn number(out_trade_no: &OutTradeNo) -> String {
    serde_json::json!({ "out_trade_no": out_trade_no.as_str() }).to_string()
}

/// `biz_content` of a refund (gateways.md 4.10), all of it from the stored refund.
fn refund(out_trade_no: &OutTradeNo, terms: &RefundTerms) -> String {
    let mut biz = serde_json::json!({
        "out_trade_no": out_trade_no.as_str(),
        "out_request_no": terms.out_refund_no.as_str(),
        "refund_amount": terms.amount.to_string(),
    });
    let reason = clean_title(terms.reason.as_deref().unwrap_or_default(), "");
    if let Some(members) = biz.as_object_mut().filter(|_| !reason.is_empty()) {
        members.insert("refund_reason".to_owned(), Value::from(reason));
    }
    biz.to_string()
}

fn wrong(name: &str) -> Fault {
    Fault::Malformed(format!("{name} is not one"))
}

const QUERY: &str = "alipay.trade.query";
const CLOSE: &str = "alipay.trade.close";
const REFUND: &str = "alipay.trade.refund";
const REFUND_QUERY: &str = "alipay.trade.fastpay.refund.query";
