//! What a merchant's v3 request must hold, and what it asks for (gateways.md 2.3 to 2.5).
//! Never looks at a signature: `gateway` has checked it before.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use super::super::{
    Call, Received, RefundTerms, Refusal, Shop, Terms, Visit, check_notify_url, truncate_bytes, untitled,
};
use super::{APP, BY_NUMBER, BY_TRANSACTION, H5, JSAPI, NATIVE, REASON_MAX, REFUNDS, moment};
use crate::domain::id::{OutRefundNo, OutTradeNo, Payer, Scene, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::time;

/// Codes of ours for answers without a body (gateways.md 2.1).
pub(super) const NO_PATH: &str = "404";
pub(super) const NO_METHOD: &str = "405";

/// Which call it is, with the number that stands in its path.
pub(super) enum Asked {
    Create { path: &'static str },
    Query { number: String },
    QueryByTransaction { number: String },
    Close { number: String },
    Refund,
    RefundQuery { number: String },
}

impl Asked {
    /// By path and method alone.
    pub(super) fn of(request: &Request<Bytes>) -> Result<Self, Refusal> {
        let path = request.uri().path();
        let placing = [NATIVE, JSAPI, H5, APP].into_iter().find(|known| *known == path);
        let (asked, method) = if let Some(path) = placing {
            (Self::Create { path }, Method::POST)
        } else if path == REFUNDS {
            (Self::Refund, Method::POST)
        } else if let Some(number) = after(path, &format!("{REFUNDS}/")) {
            (Self::RefundQuery { number }, Method::GET)
        } else if let Some(number) = after(path, BY_TRANSACTION) {
            (Self::QueryByTransaction { number }, Method::GET)
        } else if let Some(number) = path.strip_suffix("/close").and_then(|path| after(path, BY_NUMBER)) {
            (Self::Close { number }, Method::POST)
        } else if let Some(number) = after(path, BY_NUMBER) {
            (Self::Query { number }, Method::GET)
        } else {
            return Err(no(NO_PATH, "", format!("{path} is not served here")));
        };
        if request.method() != method {
            let why = format!("the method is {}, only {method} is taken", request.method());
            return Err(no(NO_METHOD, "", why));
        }
        Ok(asked)
    }

    /// As faults and the log name it: one name for both protocols.
    const fn method(&self) -> &'static str {
        match self {
            Self::Create { .. } => "wx.unifiedorder",
            Self::Query { .. } | Self::QueryByTransaction { .. } => "wx.orderquery",
            Self::Close { .. } => "wx.closeorder",
            Self::Refund => "wx.refund",
            Self::RefundQuery { .. } => "wx.refundquery",
        }
    }

    const fn has_body(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Close { .. } | Self::Refund)
    }
}

/// The one segment after `prefix`, decoded.
fn after(path: &str, prefix: &str) -> Option<String> {
    let raw = path.strip_prefix(prefix).filter(|rest| !rest.is_empty() && !rest.contains('/'))?;
    percent_encoding::percent_decode_str(raw).decode_utf8().ok().map(Into::into)
}

/// The merchant's number that a body or a query names; `None` where none is wanted (refunds).
pub(super) fn body_or_query_mchid(
    asked: &Asked,
    request: &Request<Bytes>,
) -> Result<Option<String>, Refusal> {
    match asked {
        Asked::Create { .. } | Asked::Close { .. } => {
            let body = json_of(request)?;
            Ok(Some(text(&body, "mchid")?.to_owned()))
        }
        Asked::Query { .. } | Asked::QueryByTransaction { .. } => {
            let query = request.uri().query().unwrap_or_default();
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            let mchid = pairs.find(|(name, _)| name == "mchid").map(|(_, value)| value.into_owned());
            Ok(Some(mchid.ok_or_else(|| param("mchid", "stands in the query"))?))
        }
        Asked::Refund | Asked::RefundQuery { .. } => Ok(None),
    }
}

/// Reads a request whose signature fits.
pub(super) fn read(
    asked: &Asked,
    request: &Request<Bytes>,
    app_id: &str,
    now: UnixMillis,
) -> Result<Received, Refusal> {
    let body = if asked.has_body() { json_of(request)? } else { Value::Null };
    let mut echo = Vec::new();
    let by_transaction = |echo: &mut Vec<(String, String)>, number: &str| {
        // The books know which trade it is; until then the one number stands for the other.
        echo.push(("transaction_id".to_owned(), number.to_owned()));
        OutTradeNo::new(number).map_err(|_| param("transaction_id", "is none"))
    };
    let call = match asked {
        Asked::Create { path } => {
            if text(&body, "appid")? != app_id {
                let why = format!("appid is not {app_id:?}, to which the merchant is bound");
                return Err(no("APPID_MCHID_NOT_MATCH", "商户号mchid与appid不匹配", why));
            }
            let call = create(path, &body, now)?;
            if let Call::Create { terms, .. } = &call {
                echo.push(("trade_type".to_owned(), terms.scene.as_str().to_owned()));
            }
            if let Some(attach) = body.get("attach").and_then(Value::as_str) {
                echo.push(("attach".to_owned(), attach.to_owned()));
            }
            call
        }
        Asked::Query { number } => Call::Query { out_trade_no: trade_number(number)? },
        Asked::QueryByTransaction { number } => {
            Call::Query { out_trade_no: by_transaction(&mut echo, number)? }
        }
        Asked::Close { number } => Call::Close { out_trade_no: trade_number(number)? },
        Asked::Refund => {
            let out_trade_no = match (body.get("transaction_id"), body.get("out_trade_no")) {
                (None, Some(_)) => trade_number(text(&body, "out_trade_no")?)?,
                (Some(_), None) => by_transaction(&mut echo, text(&body, "transaction_id")?)?,
                _ => return Err(param("transaction_id", "or out_trade_no, one of them")),
            };
            Call::Refund { out_trade_no, refund: refund(&body)? }
        }
        Asked::RefundQuery { number } => {
            let out_refund_no = refund_number(number)?;
            let out_trade_no = OutTradeNo::new(out_refund_no.as_str())
                .map_err(|error| param("out_refund_no", &error.to_string()))?;
            Call::RefundQuery { out_trade_no, out_refund_no }
        }
    };
    let mut compared = body;
    if let Some(members) = compared.as_object_mut() {
        // It counts at the first creation only (gateways.md 2.3).
        members.remove("time_expire");
    }
    let fingerprint = format!("{} {compared}", request.uri().path());
    Ok(Received { call, method: asked.method().to_owned(), fingerprint, echo })
}

/// A creation (gateways.md 2.3), of which native, jsapi and h5 are served.
fn create(path: &str, body: &Value, now: UnixMillis) -> Result<Call, Refusal> {
    let out_trade_no = trade_number(text(body, "out_trade_no")?)?;
    let title = text(body, "description")?;
    if title.len() > 127 || title.chars().any(untitled) {
        return Err(param("description", "at most 127 bytes of UTF-8, no control or 4-byte characters"));
    }
    let notify_url = text(body, "notify_url")?;
    check_notify_url(notify_url).map_err(|why| param("notify_url", why))?;
    if body.get("attach").is_some_and(|attach| attach.as_str().is_none_or(|text| text.len() > 127)) {
        return Err(param("attach", "at most 127 bytes"));
    }
    let total = amount(body, "total", "总金额")?;
    in_yuan(body)?;
    let mut visit = Visit::default();
    let mut client_ip = "127.0.0.1";
    let scene = match path {
        NATIVE => Scene::Native,
        JSAPI => {
            let openid = text_at(body, "/payer/openid")?;
            visit.openid = Some(Payer::new(openid).map_err(|_| param("payer.openid", "an openid"))?);
            Scene::Jsapi
        }
        H5 => {
            client_ip = text_at(body, "/scene_info/payer_client_ip")?;
            if client_ip.parse::<IpAddr>().is_err() {
                return Err(param("scene_info.payer_client_ip", "an IPv4 or IPv6 address"));
            }
            visit.shop = Some(shop(body)?);
            Scene::Mweb
        }
        _ => {
            let why = "this merchant has native, jsapi and h5 only".to_owned();
            return Err(no("NO_AUTH", "商户无此接口权限", why));
        }
    };
    let terms = Terms {
        scene,
        visit,
        title: title.to_owned(),
        total,
        notify_url: notify_url.to_owned(),
        time_expire: expiry(body, now)?,
        client_ip: client_ip.to_owned(),
    };
    Ok(Call::Create { out_trade_no, terms })
}

/// Whose page h5 is opened from.
fn shop(body: &Value) -> Result<Shop, Refusal> {
    if !["Wap", "iOS", "Android"].contains(&text_at(body, "/scene_info/h5_info/type")?) {
        return Err(param("scene_info.h5_info.type", "Wap, iOS or Android"));
    }
    let optional = |name: &str| {
        let value = body.pointer(&format!("/scene_info/h5_info/{name}")).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Ok(Shop { url: optional("app_url"), name: optional("app_name") })
}

/// A refund (gateways.md 2.5).
fn refund(body: &Value) -> Result<RefundTerms, Refusal> {
    let out_refund_no = refund_number(text(body, "out_refund_no")?)?;
    let (total, amount) = (amount(body, "total", "原订单金额")?, amount(body, "refund", "退款金额")?);
    in_yuan(body)?;
    if body.pointer("/amount/currency").is_none() {
        return Err(param("amount.currency", "must be there: CNY"));
    }
    if amount > total {
        let why = format!("amount.refund {} is more than amount.total {}", amount.get(), total.get());
        return Err(no("PARAM_ERROR", "退款金额大于原订单金额", why));
    }
    let optional = |name: &str| match body.get(name) {
        None => Ok(None),
        Some(_) => text(body, name).map(Some),
    };
    let reason = optional("reason")?;
    if reason.is_some_and(|text| text.len() > REASON_MAX || text.chars().any(untitled)) {
        return Err(param("reason", "at most 80 bytes of UTF-8, no control or 4-byte characters"));
    }
    if optional("funds_account")?.is_some_and(|account| account != "AVAILABLE") {
        return Err(param("funds_account", "AVAILABLE"));
    }
    let notify_url = optional("notify_url")?.unwrap_or_default();
    if !notify_url.is_empty() {
        check_notify_url(notify_url).map_err(|why| param("notify_url", why))?;
    }
    let (reason, notify_url) = (reason.map(str::to_owned), notify_url.to_owned());
    Ok(RefundTerms { out_refund_no, total, amount, reason, notify_url })
}

/// `time_expire`: less than a minute is raised to one, without it a trade lives for 7 days (gateways.md 2.3).
fn expiry(body: &Value, now: UnixMillis) -> Result<UnixMillis, Refusal> {
    if body.get("time_expire").is_none() {
        return Ok(now.plus(7 * 86_400_000));
    }
    let rule = || param("time_expire", "RFC 3339 with an offset, such as 2026-11-27T10:34:56+08:00");
    let at = moment(text(body, "time_expire")?).ok_or_else(rule)?;
    if at < now {
        let why = format!("time_expire is over: it is {} here", time::rfc3339(now));
        return Err(no("PARAM_ERROR", "time_expire不能早于当前时间", why));
    }
    let least = now.plus(60_000);
    Ok(if at < least { least } else { at })
}

/// The merchant's number, by WeChat's rule.
fn trade_number(text: &str) -> Result<OutTradeNo, Refusal> {
    let rule = || param("out_trade_no", "6 to 32 of 0-9 A-Z a-z _ - | *");
    if !(6..=32).contains(&text.len()) || text.contains('@') {
        return Err(rule());
    }
    OutTradeNo::new(text).map_err(|_| rule())
}

/// The merchant's number of a refund. The real gateway also takes `| * @`.
fn refund_number(text: &str) -> Result<OutRefundNo, Refusal> {
    OutRefundNo::new(text).map_err(|_| param("out_refund_no", "1 to 64 of 0-9 A-Z a-z _ -"))
}

/// Money, at least one fen, as a number.
fn amount(body: &Value, name: &str, words: &str) -> Result<Fen, Refusal> {
    let field = format!("amount.{name}");
    let value = body.pointer(&format!("/amount/{name}")).ok_or_else(|| param(&field, "is missing"))?;
    let whole = value.as_i64().ok_or_else(|| param(&field, "a whole number of fen, not a text"))?;
    let amount = Fen::new(whole).ok().filter(|fen| *fen > Fen::ZERO);
    amount.ok_or_else(|| {
        let message =
            format!("输入源“/body/amount/{name}”映射到数值字段“{words}”规则校验失败，值低于最小值 1");
        no("PARAM_ERROR", &message, format!("{field} is {whole}; it must be at least 1"))
    })
}

fn in_yuan(body: &Value) -> Result<(), Refusal> {
    match body.pointer("/amount/currency").map(Value::as_str) {
        None | Some(Some("CNY")) => Ok(()),
        Some(_) => Err(param("amount.currency", "CNY")),
    }
}

fn json_of(request: &Request<Bytes>) -> Result<Value, Refusal> {
    let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    if !kind.unwrap_or_default().starts_with("application/json") {
        let why = format!("Content-Type is {kind:?}, not application/json");
        return Err(no("PARAM_ERROR", "请求体类型必须为application/json", why));
    }
    let parsed: Result<Value, _> = serde_json::from_slice(request.body());
    match parsed {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(no("PARAM_ERROR", "请求体不是有效的JSON", "the body is no JSON object".to_owned())),
        Err(error) => {
            let why = format!("the body cannot be read: {error}");
            Err(no("PARAM_ERROR", "请求体不是有效的JSON", truncate_bytes(&why, 512).to_owned()))
        }
    }
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    text_at(body, &format!("/{name}"))
}

fn text_at<'a>(body: &'a Value, pointer: &str) -> Result<&'a str, Refusal> {
    let found = body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = pointer.trim_start_matches('/').replace('/', ".");
    found.ok_or_else(|| param(&name, "is missing, empty or no text"))
}

fn param(name: &str, rule: &str) -> Refusal {
    no("PARAM_ERROR", &format!("参数错误:{name}"), format!("{name}: {rule}"))
}

pub(super) fn echoed<'a>(echo: &'a [(String, String)], name: &str) -> Option<&'a str> {
    echo.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Nothing of a no is signed, trusted or not (gateways.md 2.1).
pub(super) fn no(code: &str, message: &str, explanation: String) -> Refusal {
    Refusal {
        code: code.to_owned(),
        message: message.to_owned(),
        trusted: false,
        explanation,
        echo: Vec::new(),
    }
}
