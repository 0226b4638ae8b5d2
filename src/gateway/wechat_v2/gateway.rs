//! Their half of WeChat v2, for the emulator: as strict as the real gateway, and it says why.
//! Never shows a key. The other half: `merchant`; the rules: gateways.md 1 and 6.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;

use super::super::keys::Secret;
use super::super::xml::XmlError;
use super::super::{
    Answer, Call, Counterpart, GatewayRefund, GatewayRefundState, Objection, Received, RefundTerms, Refusal,
    Shop, Stamp, Standing, Terms, TradeState, Visit, answer, check_notify_url, fen, notice, untitled, xml,
};
use super::{Fields, REFUND_DESC_MAX, SignType, canonical, get, put, seal, sealed, sign, verify, write};
use crate::domain::id::{OutRefundNo, OutTradeNo, Payer, Scene, UnixMillis};
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
    pub(super) config: GatewayConfig,
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
            "/secapi/pay/refund" => "wx.refund",
            "/pay/refundquery" => "wx.refundquery",
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
        for name in ["device_info", "attach", "trade_type"] {
            if let Some(value) = get(&fields, name) {
                echo.push((name.to_owned(), value.to_owned()));
            }
        }
        let call = match method {
            "wx.unifiedorder" => create(&fields, now),
            "wx.orderquery" => number(&fields).map(|out_trade_no| Call::Query { out_trade_no }),
            "wx.refund" => refund(&fields),
            "wx.refundquery" => refund_query(&fields),
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
            (Objection::RefundTooMuch, _) => ("INVALID_REQUEST", "refund_fee大于可退金额"),
            (Objection::RefundDiffers, _) => {
                ("REFUND_FEE_MISMATCH", "订单金额或退款金额与之前请求不一致，请核实后再试")
            }
            (Objection::RefundAbsent, _) => ("REFUNDNOTEXIST", "退款订单查询失败"),
            (Objection::UnknownPayer, _) => ("PARAM_ERROR", "无效的openid"),
            (Objection::Busy, _) => ("SYSTEMERROR", "系统错误"),
        };
        let explanation = format!("{} on {}: {objection:?}", received.method, received.call.out_trade_no());
        Refusal { explanation, echo: received.echo.clone(), ..signed_no(code, message, String::new()) }
    }

    fn encode_answer(&self, answered: &Answer, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes> {
        if let Answer::RefundQuery(None) = answered {
            let why = "the query is answered with no refund".to_owned();
            let absent = signed_no("REFUNDNOTEXIST", "退款订单查询失败", why);
            return self.encode_answer(&Answer::Refused(absent), echo, stamp);
        }
        let mut fields = Fields::new();
        put(&mut fields, "result_code", "SUCCESS");
        match answered {
            Answer::Created(code) => {
                copy_echo(&mut fields, echo, &["device_info"]);
                let trade_type = echoed(echo, "trade_type").unwrap_or("NATIVE");
                put(&mut fields, "trade_type", trade_type);
                put(&mut fields, "prepay_id", code.prepay_id.as_deref().unwrap_or_default());
                match trade_type {
                    "NATIVE" => put(&mut fields, "code_url", &code.content),
                    "MWEB" => put(&mut fields, "mweb_url", &code.content),
                    _ => {}
                }
            }
            Answer::Trade(trade) => standing(&mut fields, trade),
            Answer::Refund(refund) => taken_on(&mut fields, refund),
            Answer::RefundQuery(refund) => {
                if let Some(refund) = refund {
                    refund_standing(&mut fields, refund);
                }
            }
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
        notice(notify_url, "text/xml; charset=utf-8", body)
    }

    fn encode_refund_notice(
        &self,
        refund: &GatewayRefund,
        notify_url: &str,
        _delivery_id: &str,
        stamp: &Stamp,
    ) -> Option<Request<Bytes>> {
        if refund.state == GatewayRefundState::Processing {
            return None;
        }
        let mut fields = Fields::new();
        put(&mut fields, "return_code", "SUCCESS");
        put(&mut fields, "appid", &self.config.app_id);
        put(&mut fields, "mch_id", &self.config.mch_id);
        put(&mut fields, "nonce_str", &stamp.nonce);
        put(&mut fields, "req_info", &sealed::seal(&refund_end(refund), &self.config.key)?);
        Some(notice(notify_url, "text/xml; charset=utf-8", write(&fields)))
    }

    fn decode_ack(&self, ack: &Response<Bytes>) -> bool {
        let said = |fields: Fields| get(&fields, "return_code") == Some("SUCCESS");
        ack.status() == StatusCode::OK && xml::read(ack.body(), "xml").is_ok_and(said)
    }
}

/// `unifiedorder` (gateways.md 1.2), of which NATIVE, JSAPI and MWEB are served.
fn create(fields: &Fields, now: UnixMillis) -> Result<Call, Refusal> {
    let out_trade_no = number(fields)?;
    let title = want(fields, "body")?;
    if title.len() > 127 || title.chars().any(untitled) {
        return Err(param("body", "at most 127 bytes of UTF-8, no control or 4-byte characters"));
    }
    let total = amount(fields, "total_fee")?;
    let client_ip = want(fields, "spbill_create_ip")?;
    if client_ip.parse::<IpAddr>().is_err() {
        return Err(param("spbill_create_ip", "an IPv4 or IPv6 address"));
    }
    let notify_url = want(fields, "notify_url")?;
    check_notify_url(notify_url).map_err(|why| param("notify_url", why))?;
    in_yuan(fields, "fee_type")?;
    if get(fields, "attach").is_some_and(|attach| attach.len() > 127) {
        return Err(param("attach", "at most 127 bytes"));
    }
    let mut visit = Visit::default();
    let scene = match want(fields, "trade_type")? {
        "NATIVE" => want(fields, "product_id").map(|_| Scene::Native)?,
        "JSAPI" => {
            let openid = Payer::new(want(fields, "openid")?);
            visit.openid = Some(openid.map_err(|_| param("openid", "an openid of this app"))?);
            Scene::Jsapi
        }
        "MWEB" => {
            visit.shop = Some(shop(want(fields, "scene_info")?)?);
            Scene::Mweb
        }
        "APP" => {
            let why = "this merchant has NATIVE, JSAPI and MWEB only".to_owned();
            return Err(signed_no("NOAUTH", "商户无此接口权限", why));
        }
        _ => return Err(param("trade_type", "JSAPI, NATIVE, APP or MWEB")),
    };
    let terms = Terms {
        scene,
        visit,
        title: title.to_owned(),
        total,
        notify_url: notify_url.to_owned(),
        time_expire: expiry(fields, now)?,
        client_ip: client_ip.to_owned(),
    };
    Ok(Call::Create { out_trade_no, terms })
}

/// Whose page MWEB is opened from (gateways.md 1.2, `scene_info`).
fn shop(scene_info: &str) -> Result<Shop, Refusal> {
    let rule = || {
        param(
            "scene_info",
            r#"{"h5_info":{"type":"Wap","wap_url":"https://…","wap_name":"…"}}, at most 256 bytes"#,
        )
    };
    let info: Value = serde_json::from_str(scene_info).map_err(|_| rule())?;
    let h5 = |name: &str| info.pointer(&format!("/h5_info/{name}")).and_then(Value::as_str);
    match (h5("type"), h5("wap_url"), h5("wap_name")) {
        (Some("Wap"), Some(url), Some(name))
            if scene_info.len() <= 256 && url.contains("://") && !name.is_empty() =>
        {
            Ok(Shop { url: url.to_owned(), name: name.to_owned() })
        }
        _ => Err(rule()),
    }
}

/// `refund` (gateways.md 1.5), by the merchant's number of the trade.
fn refund(fields: &Fields) -> Result<Call, Refusal> {
    let out_trade_no = number(fields)?;
    let out_refund_no = refund_number(fields)?;
    let (total, amount) = (amount(fields, "total_fee")?, amount(fields, "refund_fee")?);
    if amount > total {
        let why = format!("refund_fee {} is more than total_fee {}", amount.get(), total.get());
        // Unsigned although the request was signed, as merchants have seen it.
        return Err(unsigned("PARAM_ERROR", "invalid refund_fee", why));
    }
    in_yuan(fields, "refund_fee_type")?;
    let reason = get(fields, "refund_desc");
    if reason.is_some_and(|text| text.len() > REFUND_DESC_MAX || text.chars().any(untitled)) {
        return Err(param("refund_desc", "at most 80 bytes of UTF-8, no control or 4-byte characters"));
    }
    let accounts = ["REFUND_SOURCE_UNSETTLED_FUNDS", "REFUND_SOURCE_RECHARGE_FUNDS"];
    if get(fields, "refund_account").is_some_and(|account| !accounts.contains(&account)) {
        return Err(param("refund_account", &accounts.join(" or ")));
    }
    let notify_url = get(fields, "notify_url").unwrap_or_default();
    if !notify_url.is_empty() {
        check_notify_url(notify_url).map_err(|why| param("notify_url", why))?;
    }
    let (reason, notify_url) = (reason.map(str::to_owned), notify_url.to_owned());
    let refund = RefundTerms { out_refund_no, total, amount, reason, notify_url };
    Ok(Call::Refund { out_trade_no, refund })
}

/// `refundquery` (gateways.md 1.5), by the merchant's number of the refund; that of the trade is not needed.
fn refund_query(fields: &Fields) -> Result<Call, Refusal> {
    let out_refund_no = refund_number(fields)?;
    let out_trade_no = match get(fields, "out_trade_no") {
        Some(_) => number(fields)?,
        None => OutTradeNo::new(out_refund_no.as_str())
            .map_err(|error| param("out_refund_no", &error.to_string()))?,
    };
    Ok(Call::RefundQuery { out_trade_no, out_refund_no })
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

/// The merchant's number of a refund. The real gateway also takes `| * @`.
fn refund_number(fields: &Fields) -> Result<OutRefundNo, Refusal> {
    let text = want(fields, "out_refund_no")?;
    OutRefundNo::new(text).map_err(|_| param("out_refund_no", "1 to 64 of 0-9 A-Z a-z _ -"))
}

/// Money, at least one fen.
fn amount(fields: &Fields, name: &str) -> Result<Fen, Refusal> {
    let amount = fen(want(fields, name)?).filter(|fen| *fen > Fen::ZERO);
    amount.ok_or_else(|| param(name, "a whole number of fen, at least 1"))
}

fn in_yuan(fields: &Fields, name: &str) -> Result<(), Refusal> {
    match get(fields, name) {
        None | Some("CNY") => Ok(()),
        Some(_) => Err(param(name, "CNY")),
    }
}

/// The answer to a query (gateways.md 1.5).
fn standing(fields: &mut Fields, trade: &Standing) {
    let (state, description) = match trade.state {
        // After any refund, of a part too (gateways.md 5, pitfall 11).
        TradeState::Success if trade.refunded.is_some() => ("REFUND", "订单发生过退款，退款详情请查询退款单"),
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
    put(fields, "trade_type", trade.scene.as_str());
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

/// The answer to an accepted refund (gateways.md 1.5). It says nothing of how the refund stands.
fn taken_on(fields: &mut Fields, refund: &GatewayRefund) {
    let (total, amount) = (refund.total.get().to_string(), refund.amount.get().to_string());
    for (name, value) in [
        ("transaction_id", refund.transaction_id.as_str()),
        ("out_trade_no", refund.out_trade_no.as_str()),
        ("out_refund_no", refund.out_refund_no.as_str()),
        ("refund_id", &refund.refund_id),
        ("refund_fee", &amount),
        ("cash_refund_fee", &amount),
        ("coupon_refund_fee", "0"),
        ("coupon_refund_count", "0"),
        ("total_fee", &total),
        ("cash_fee", &total),
    ] {
        put(fields, name, value);
    }
}

/// The answer to a query for one refund: a list of one (gateways.md 1.5).
fn refund_standing(fields: &mut Fields, refund: &GatewayRefund) {
    let (total, amount) = (refund.total.get().to_string(), refund.amount.get().to_string());
    for (name, value) in [
        ("transaction_id", refund.transaction_id.as_str()),
        ("out_trade_no", refund.out_trade_no.as_str()),
        ("total_fee", &total),
        ("cash_fee", &total),
        ("refund_fee", &amount),
        ("refund_count", "1"),
        ("out_refund_no_0", refund.out_refund_no.as_str()),
        ("refund_id_0", &refund.refund_id),
        ("refund_channel_0", "ORIGINAL"),
        ("refund_fee_0", &amount),
        ("refund_status_0", refund_word(refund.state)),
        ("refund_account_0", "REFUND_SOURCE_UNSETTLED_FUNDS"),
        ("refund_recv_accout_0", PURSE),
    ] {
        put(fields, name, value);
    }
    if let Some(at) = refund.done_at {
        put(fields, "refund_success_time_0", &time::spaced(at));
    }
}

/// What a refund notice holds under its seal (gateways.md 1.7).
fn refund_end(refund: &GatewayRefund) -> Fields {
    let (total, amount) = (refund.total.get().to_string(), refund.amount.get().to_string());
    let mut fields = Fields::new();
    for (name, value) in [
        ("transaction_id", refund.transaction_id.as_str()),
        ("out_trade_no", refund.out_trade_no.as_str()),
        ("refund_id", &refund.refund_id),
        ("out_refund_no", refund.out_refund_no.as_str()),
        ("total_fee", &total),
        ("settlement_total_fee", &total),
        ("refund_fee", &amount),
        ("settlement_refund_fee", &amount),
        ("refund_status", refund_word(refund.state)),
        ("refund_recv_accout", PURSE),
        ("refund_account", "REFUND_SOURCE_UNSETTLED_FUNDS"),
        ("refund_request_source", "API"),
    ] {
        put(&mut fields, name, value);
    }
    if let Some(at) = refund.done_at {
        put(&mut fields, "success_time", &time::spaced(at));
    }
    fields
}

const fn refund_word(state: GatewayRefundState) -> &'static str {
    match state {
        GatewayRefundState::Processing => "PROCESSING",
        GatewayRefundState::Success => "SUCCESS",
        GatewayRefundState::Closed => "REFUNDCLOSE",
    }
}

fn copy_echo(fields: &mut Fields, echo: &[(String, String)], names: &[&str]) {
    for (name, value) in echo {
        if names.contains(&name.as_str()) {
            put(fields, name, value);
        }
    }
}

pub(super) fn sign_type_of(echo: &[(String, String)]) -> SignType {
    echoed(echo, "sign_type").and_then(|word| word.parse().ok()).unwrap_or(SignType::Md5)
}

fn echoed<'a>(echo: &'a [(String, String)], name: &str) -> Option<&'a str> {
    echo.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
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

/// Where the money goes.
const PURSE: &str = "支付用户零钱";
