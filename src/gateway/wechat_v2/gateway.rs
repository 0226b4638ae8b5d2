//! Their half of WeChat v2, for the emulator: as strict as the real gateway, and it says why.
//! Never shows a key. The other half: `merchant`; the rules: gateways.md 1 and 6.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::super::keys::Secret;
use super::super::xml::XmlError;
use super::super::{
    Answer, Call, Counterpart, Objection, Received, Refusal, Stamp, Standing, Terms, TradeState, answer,
    check_notify_url, untitled, xml,
};
use super::{Fields, SignType, canonical, get, put, seal, sign, verify, write};
use crate::domain::id::{OutTradeNo, Scene, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::time;

/// The one merchant the other side knows.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Its app.
    pub app_id: String,
    /// Its number.
    pub mch_id: String,
    /// Its API v2 key.
    pub key: Secret,
}

/// Their half.
#[derive(Clone, Debug)]
pub struct WechatV2Gateway {
    config: GatewayConfig,
}

impl WechatV2Gateway {
    /// For one merchant.
    pub const fn new(config: GatewayConfig) -> Self {
        Self { config }
    }

    /// Transport, identity and signature: what comes before any business, refused unsigned.
    fn trusted(&self, body: &[u8]) -> Result<(Fields, SignType), Refusal> {
        let fields = xml::read(body, "xml").map_err(|error| {
            let (code, message) = match error {
                XmlError::Empty => ("POST_DATA_EMPTY", "post数据为空"),
                XmlError::NotUtf8 => ("NOT_UTF8", "编码格式错误"),
                _ => ("XML_FORMAT_ERROR", "XML格式错误"),
            };
            unsigned(code, message, format!("the body cannot be read: {error}"))
        })?;
        for name in ["appid", "mch_id", "nonce_str", "sign"] {
            if get(&fields, name).is_none() {
                let why = format!("every request needs {name}; it is missing or empty");
                return Err(unsigned("LACK_PARAMS", &format!("缺少参数{name}"), why));
            }
        }
        let (app_id, mch_id) = (get(&fields, "appid"), get(&fields, "mch_id"));
        if mch_id != Some(&self.config.mch_id) {
            let why = format!("mch_id is {mch_id:?}, the one known here is {:?}", self.config.mch_id);
            return Err(unsigned("MCHID_NOT_EXIST", "商户号不存在", why));
        }
        if app_id != Some(&self.config.app_id) {
            let why = format!("appid is {app_id:?}, mch_id is bound to {:?}", self.config.app_id);
            return Err(unsigned("APPID_MCHID_NOT_MATCH", "商户号mch_id与appid不匹配", why));
        }
        let named = get(&fields, "sign_type").unwrap_or(SignType::Md5.as_str());
        let Ok(sign_type) = named.parse::<SignType>() else {
            let why = format!("sign_type is {named:?}, not MD5 or HMAC-SHA256");
            return Err(unsigned("SIGNERROR", "签名类型错误", why));
        };
        // Without sign_type the default is MD5, and `verify` refuses a longer signature.
        if let Err(fault) = verify(&fields, &self.config.key, sign_type) {
            let why = format!("{fault}\n{}", self.explain(&fields, sign_type));
            return Err(unsigned("SIGNERROR", "签名错误", why));
        }
        Ok((fields, sign_type))
    }

    /// What a developer with a wrong signature wants to see (never the right signature, nor the key).
    fn explain(&self, fields: &Fields, sign_type: SignType) -> String {
        let received = get(fields, "sign").unwrap_or_default();
        let signs = |fields: &Fields, sign_type| sign(fields, &self.config.key, sign_type);
        let other = match sign_type {
            SignType::Md5 => SignType::HmacSha256,
            SignType::HmacSha256 => SignType::Md5,
        };
        let mut untyped = fields.clone();
        untyped.remove("sign_type");
        let cause = if received == signs(fields, sign_type).to_ascii_lowercase() {
            "the signature is right but in lower case; it must be upper-case hex".to_owned()
        } else if received == signs(fields, other) {
            format!("it was signed with {other}, but the request says {sign_type} (absent means MD5)")
        } else if received == signs(&untyped, sign_type) {
            "sign_type was sent but not signed; every field except sign is signed".to_owned()
        } else {
            "another API v2 key, or a value that was changed, escaped or trimmed after signing".to_owned()
        };
        format!(
            "the signed text must be: {}&key=***\nreceived sign: {received}\nlikely cause: {cause}",
            canonical(fields)
        )
    }

    /// Answers are signed with the type of the request (gateways.md 6) and do not name it.
    fn signed(&self, mut fields: Fields, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes> {
        put(&mut fields, "return_code", "SUCCESS");
        put(&mut fields, "return_msg", "OK");
        put(&mut fields, "appid", &self.config.app_id);
        put(&mut fields, "mch_id", &self.config.mch_id);
        answer("text/plain", seal(fields, &self.config.key, sign_type_of(echo), stamp))
    }
}

impl Counterpart for WechatV2Gateway {
    fn decode_call(&self, request: &Request<Bytes>, now: UnixMillis) -> Result<Received, Refusal> {
        let method = match request.uri().path() {
            "/pay/unifiedorder" => "wx.unifiedorder",
            "/pay/orderquery" => "wx.orderquery",
            "/pay/closeorder" => "wx.closeorder",
            other => {
                let why = format!("{other} is not served here");
                return Err(unsigned("INVALID_REQUEST", "请求路径错误", why));
            }
        };
        if request.method() != Method::POST {
            let why = format!("the method is {}, only POST is taken", request.method());
            return Err(unsigned("REQUIRE_POST_METHOD", "请使用post方法", why));
        }
        let (fields, sign_type) = self.trusted(request.body())?;
        let mut echo = vec![("sign_type".to_owned(), sign_type.as_str().to_owned())];
        for name in ["device_info", "attach"] {
            if let Some(value) = get(&fields, name) {
                echo.push((name.to_owned(), value.to_owned()));
            }
        }
        let call = match method {
            "wx.unifiedorder" => create(&fields, now),
            "wx.orderquery" => number(&fields).map(|out_trade_no| Call::Query { out_trade_no }),
            _ => number(&fields).map(|out_trade_no| Call::Close { out_trade_no }),
        };
        let call = call.map_err(|refusal| Refusal { echo: echo.clone(), ..refusal })?;
        let mut compared = fields;
        compared.remove("nonce_str");
        compared.remove("sign_type");
        Ok(Received { call, method: method.to_owned(), fingerprint: canonical(&compared), echo })
    }

    fn refuse(&self, received: &Received, objection: Objection) -> Refusal {
        let (code, message) = match (objection, &received.call) {
            (Objection::Absent, _) => ("ORDERNOTEXIST", "此交易订单号不存在"),
            (Objection::Paid, _) => ("ORDERPAID", "该订单已支付"),
            (Objection::Closed, _) => ("ORDERCLOSED", "该订单已关闭"),
            (Objection::OtherTerms, _) => ("INVALID_REQUEST", "201 商户订单号重复"),
            (Objection::NotPaid, _) => ("TRADE_STATE_ERROR", "订单状态错误"),
            (Objection::RefundTooMuch | Objection::RefundDiffers, _) => ("PARAM_ERROR", "退款金额错误"),
            (Objection::RefundAbsent, _) => ("REFUNDNOTEXIST", "退款单查询失败"),
            (Objection::Busy, _) => ("SYSTEMERROR", "系统错误"),
        };
        let explanation = format!("{} on {}: {objection:?}", received.method, received.call.out_trade_no());
        Refusal { explanation, echo: received.echo.clone(), ..signed_no(code, message, String::new()) }
    }

    fn encode_answer(&self, answered: &Answer, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes> {
        let mut fields = Fields::new();
        put(&mut fields, "result_code", "SUCCESS");
        match answered {
            Answer::Created(code) => {
                copy_echo(&mut fields, echo, &["device_info"]);
                put(&mut fields, "trade_type", "NATIVE");
                put(&mut fields, "prepay_id", code.prepay_id.as_deref().unwrap_or_default());
                put(&mut fields, "code_url", &code.content);
            }
            Answer::Trade(trade) => standing(&mut fields, trade),
            Answer::Refund(_) | Answer::RefundQuery(_) => {}
            Answer::Closed => put(&mut fields, "result_msg", "OK"),
            Answer::Refused(refusal) if refusal.trusted => {
                put(&mut fields, "result_code", "FAIL");
                put(&mut fields, "err_code", &refusal.code);
                put(&mut fields, "err_code_des", &refusal.message);
            }
            // No signature where no request was trusted (gateways.md 1.1).
            Answer::Refused(refusal) => {
                let mut fields = Fields::new();
                put(&mut fields, "return_code", "FAIL");
                put(&mut fields, "return_msg", &refusal.message);
                return answer("text/plain", write(&fields));
            }
        }
        self.signed(fields, echo, stamp)
    }

    fn encode_notice(
        &self,
        trade: &Standing,
        notify_url: &str,
        _delivery_id: &str,
        stamp: &Stamp,
    ) -> Request<Bytes> {
        let mut fields = Fields::new();
        put(&mut fields, "return_code", "SUCCESS");
        put(&mut fields, "appid", &self.config.app_id);
        put(&mut fields, "mch_id", &self.config.mch_id);
        put(&mut fields, "result_code", "SUCCESS");
        copy_echo(&mut fields, &trade.echo, &["device_info", "attach"]);
        payment(&mut fields, trade);
        let body = seal(fields, &self.config.key, sign_type_of(&trade.echo), stamp);
        super::super::notice(notify_url, "text/xml; charset=utf-8", body)
    }

    fn decode_ack(&self, ack: &Response<Bytes>) -> bool {
        let said = |fields: Fields| get(&fields, "return_code") == Some("SUCCESS");
        ack.status() == StatusCode::OK && xml::read(ack.body(), "xml").is_ok_and(said)
    }
}

/// `unifiedorder` (gateways.md 1.2), of which NATIVE is served.
fn create(fields: &Fields, now: UnixMillis) -> Result<Call, Refusal> {
    let out_trade_no = number(fields)?;
    let title = want(fields, "body")?;
    if title.len() > 127 || title.chars().any(untitled) {
        return Err(param("body", "at most 127 bytes of UTF-8, no control or 4-byte characters"));
    }
    let total = want(fields, "total_fee")?;
    let digits = total.bytes().all(|b| b.is_ascii_digit());
    let total = total.parse().ok().filter(|fen| digits && *fen > 0).and_then(|fen| Fen::new(fen).ok());
    let total = total.ok_or_else(|| param("total_fee", "a whole number of fen, at least 1"))?;
    let client_ip = want(fields, "spbill_create_ip")?;
    if client_ip.parse::<IpAddr>().is_err() {
        return Err(param("spbill_create_ip", "an IPv4 or IPv6 address"));
    }
    let notify_url = want(fields, "notify_url")?;
    check_notify_url(notify_url).map_err(|why| param("notify_url", why))?;
    if get(fields, "fee_type").is_some_and(|currency| currency != "CNY") {
        return Err(param("fee_type", "CNY"));
    }
    if get(fields, "attach").is_some_and(|attach| attach.len() > 127) {
        return Err(param("attach", "at most 127 bytes"));
    }
    match want(fields, "trade_type")? {
        "NATIVE" => want(fields, "product_id").map(|_| ())?,
        "JSAPI" | "APP" | "MWEB" => {
            let why = "this merchant has NATIVE only".to_owned();
            return Err(signed_no("NOAUTH", "商户无此接口权限", why));
        }
        _ => return Err(param("trade_type", "JSAPI, NATIVE, APP or MWEB")),
    }
    let terms = Terms {
        scene: Scene::Native,
        title: title.to_owned(),
        total,
        notify_url: notify_url.to_owned(),
        time_expire: expiry(fields, now)?,
        client_ip: client_ip.to_owned(),
    };
    Ok(Call::Create { out_trade_no, terms })
}

/// `time_expire`; without one the two hours a code lives.
fn expiry(fields: &Fields, now: UnixMillis) -> Result<UnixMillis, Refusal> {
    let Some(text) = get(fields, "time_expire") else {
        return Ok(now.plus(7_200_000));
    };
    let at = time::parse_compact(text).ok_or_else(|| param("time_expire", "yyyyMMddHHmmss, Beijing time"))?;
    if at.since(now) < 60_000 {
        let why = format!("time_expire {text} is less than a minute after {}", time::compact(now));
        // Seen live, unsigned although the request was signed.
        return Err(unsigned("PARAM_ERROR", "time_expire时间过短，刷卡至少1分钟，其他5分钟", why));
    }
    Ok(at)
}

/// The merchant's number, by WeChat's rule.
fn number(fields: &Fields) -> Result<OutTradeNo, Refusal> {
    let text = want(fields, "out_trade_no")?;
    let rule = || param("out_trade_no", "6 to 32 of 0-9 A-Z a-z _ - | *");
    if !(6..=32).contains(&text.len()) || text.contains('@') {
        return Err(rule());
    }
    OutTradeNo::new(text).map_err(|_| rule())
}

/// The answer to a query (gateways.md 1.5).
fn standing(fields: &mut Fields, trade: &Standing) {
    let (state, description) = match trade.state {
        TradeState::Success => ("SUCCESS", "支付成功"),
        TradeState::NotPay => ("NOTPAY", "订单未支付"),
        TradeState::Closed => ("CLOSED", "订单已关闭"),
    };
    put(fields, "trade_state", state);
    put(fields, "trade_state_desc", description);
    copy_echo(fields, &trade.echo, &["device_info", "attach"]);
    if trade.state == TradeState::Success {
        payment(fields, trade);
    } else {
        put(fields, "out_trade_no", trade.out_trade_no.as_str());
        put(fields, "total_fee", &trade.total.get().to_string());
    }
}

/// The fields of a payment, the same in a query and a notice (gateways.md 1.5, 1.6).
fn payment(fields: &mut Fields, trade: &Standing) {
    let total = trade.total.get().to_string();
    put(fields, "openid", trade.payer.as_deref().unwrap_or_default());
    put(fields, "is_subscribe", "N");
    put(fields, "trade_type", "NATIVE");
    put(fields, "bank_type", "OTHERS");
    put(fields, "total_fee", &total);
    put(fields, "fee_type", "CNY");
    put(fields, "cash_fee", &total);
    put(fields, "cash_fee_type", "CNY");
    put(fields, "out_trade_no", trade.out_trade_no.as_str());
    if let Some(transaction_id) = &trade.transaction_id {
        put(fields, "transaction_id", transaction_id.as_str());
    }
    if let Some(at) = trade.paid_at {
        put(fields, "time_end", &time::compact(at));
    }
}

fn copy_echo(fields: &mut Fields, echo: &[(String, String)], names: &[&str]) {
    for (name, value) in echo {
        if names.contains(&name.as_str()) {
            put(fields, name, value);
        }
    }
}

fn sign_type_of(echo: &[(String, String)]) -> SignType {
    let named = echo.iter().find(|(name, _)| name == "sign_type");
    named.and_then(|(_, word)| word.parse().ok()).unwrap_or(SignType::Md5)
}

fn want<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Refusal> {
    let why = || format!("{name} is missing or empty");
    get(fields, name).ok_or_else(|| signed_no("LACK_PARAMS", &format!("缺少参数{name}"), why()))
}

fn param(name: &str, rule: &str) -> Refusal {
    signed_no("PARAM_ERROR", &format!("参数错误:{name}"), format!("{name}: {rule}"))
}

fn signed_no(code: &str, message: &str, explanation: String) -> Refusal {
    Refusal { trusted: true, ..unsigned(code, message, explanation) }
}

fn unsigned(code: &str, message: &str, explanation: String) -> Refusal {
    Refusal {
        code: code.to_owned(),
        message: message.to_owned(),
        trusted: false,
        explanation,
        echo: Vec::new(),
    }
}
