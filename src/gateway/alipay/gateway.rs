//! Their half of Alipay, for the emulator: tolerant where the real gateway is (order, spaces, escapes),
//! strict where it is (signature, codes), and it says why. Never shows a key. The other half: `merchant`;
//! what is asked of a call: `rules`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value};

use super::super::keys::{PrivateKey, PublicKey};
use super::super::{
    Answer, Call, Counterpart, GatewayRefund, GatewayRefundState, Objection, Received, Refusal, Stamp,
    Standing, TradeState, answer, notice,
};
use super::page;
use super::rules::{self, no};
use super::{Empties, Params, canonical, get, put, read_form, sign};
use crate::domain::id::UnixMillis;
use crate::domain::time;

/// The one merchant the other side knows.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Its app.
    pub app_id: String,
    /// Its account, `2088…`.
    pub seller_id: String,
    /// What its requests must be signed with.
    pub app_key: PublicKey,
    /// Signs answers and notices.
    pub alipay_key: PrivateKey,
}

/// Their half.
#[derive(Clone, Debug)]
pub struct AlipayGateway {
    pub(super) config: GatewayConfig,
}

impl AlipayGateway {
    /// For one merchant.
    pub const fn new(config: GatewayConfig) -> Self {
        Self { config }
    }

    /// Reads the string an app hands to Alipay's SDK as the call it is (gateways.md 4.7).
    ///
    /// # Errors
    /// [`Refusal`], as for a request.
    pub fn decode_order_string(&self, order_string: &str, now: UnixMillis) -> Result<Received, Refusal> {
        let params = read_form(order_string.as_bytes())
            .map_err(|fault| no("isv.invalid-parameter", format!("the order string: {fault}")))?;
        let method = self.trusted(&params)?;
        if method != "alipay.trade.app.pay" {
            let why = format!("{method} is a request to the gateway, not a string for the app");
            return Err(no("isv.invalid-method", why));
        }
        self.business(method, &params, now)
    }

    /// Everything checked before any business: who asks, how, and the signature (gateways.md 4.2: the app
    /// is looked up before the signature).
    fn trusted<'a>(&self, params: &'a Params) -> Result<&'a str, Refusal> {
        let ask = |name: &str, code: &str| {
            get(params, name).ok_or_else(|| no(code, format!("{name} is missing or empty")))
        };
        let app_id = ask("app_id", "isv.missing-app-id")?;
        if app_id != self.config.app_id {
            let why = format!("app_id is {app_id}, the one known here is {}", self.config.app_id);
            return Err(no("isv.invalid-app-id", why));
        }
        let method = ask("method", "isv.missing-method")?;
        if !rules::METHODS.contains(&method) {
            return Err(no("isv.invalid-method", format!("{method} is not served here")));
        }
        let is = |name: &str, wanted: &str, missing: &str, invalid: &str| match ask(name, missing)? {
            value if value.eq_ignore_ascii_case(wanted) => Ok(()),
            value => Err(no(invalid, format!("{name} is {value}, expected {wanted}"))),
        };
        is("version", "1.0", "isv.missing-version", "isv.invalid-version")?;
        is("charset", "utf-8", "isv.invalid-charset", "isv.invalid-charset")?;
        is("sign_type", "RSA2", "isv.missing-signature-type", "isv.invalid-signature-type")?;
        if get(params, "format").is_some_and(|format| !format.eq_ignore_ascii_case("json")) {
            return Err(no("isv.invalid-format", "format is not JSON".to_owned()));
        }
        let timestamp = ask("timestamp", "isv.missing-timestamp")?;
        if timestamp.len() != 19 || time::parse_spaced(timestamp).is_none() {
            return Err(no("isv.invalid-timestamp", format!("{timestamp} is not yyyy-MM-dd HH:mm:ss")));
        }
        let signature = ask("sign", "isv.missing-signature")?;
        let fits = |empties| self.app_signed(&canonical(params, &["sign"], empties), signature);
        // SDKs disagree on empty values: dropped is the rule, kept is what two of them do.
        if fits(Empties::Dropped) || fits(Empties::Kept) {
            Ok(method)
        } else {
            Err(no("isv.invalid-signature", self.explain(params, signature)))
        }
    }

    fn app_signed(&self, text: &str, signature: &str) -> bool {
        self.config.app_key.verify_sha256_base64(text.as_bytes(), signature)
    }

    /// What a developer with a wrong signature wants to see.
    fn explain(&self, params: &Params, signature: &str) -> String {
        let text = canonical(params, &["sign"], Empties::Dropped);
        let escaped = params.iter().map(|(name, value)| {
            let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            (name.clone(), value)
        });
        let escaped: Params = escaped.collect();
        let cause = if STANDARD.decode(signature).is_err() {
            "sign is not base64: a `+` that was sent unescaped arrives as a space"
        } else if self.app_signed(&canonical(params, &["sign", "sign_type"], Empties::Dropped), signature) {
            "sign_type was left out of the signed text; only notices leave it out"
        } else if self.app_signed(&canonical(&escaped, &["sign"], Empties::Dropped), signature) {
            "the values were percent-encoded before signing; sign the raw values"
        } else if self.config.alipay_key.public().verify_sha256_base64(text.as_bytes(), signature) {
            "it was signed with Alipay's key instead of the app's"
        } else {
            "another private key than the one whose public half is registered, or a changed value"
        };
        format!("the signed text must be: {text}\nreceived sign: {signature}\nlikely cause: {cause}")
    }

    /// The business of a trusted call.
    fn business(&self, method: &str, params: &Params, now: UnixMillis) -> Result<Received, Refusal> {
        let mut echo = vec![("method".to_owned(), method.to_owned())];
        let named = |refusal: Refusal| Refusal { echo: echo.clone(), ..refusal };
        let content = get(params, "biz_content").unwrap_or("{}");
        let content: Map<String, Value> = serde_json::from_str(content).map_err(|error| {
            named(no("isv.invalid-parameter", format!("biz_content is not a JSON object: {error}")))
        })?;
        let biz = rules::Biz { content, params, now };
        let call = biz.call(method, &self.config.seller_id).map_err(named)?;
        echo.push(("out_trade_no".to_owned(), call.out_trade_no().as_str().to_owned()));
        for name in ["body", "passback_params"] {
            if let Some(value) = biz.text(name) {
                echo.push((name.to_owned(), value));
            }
        }
        if let (true, Some(url)) = (page::is_for_browsers(method), biz.text("quit_url")) {
            echo.push(("quit_url".to_owned(), url));
        }
        if biz.wants_option("gmt_refund_pay") {
            echo.push(("query_options".to_owned(), "gmt_refund_pay".to_owned()));
        }
        Ok(Received { call, method: method.to_owned(), fingerprint: biz.fingerprint(), echo })
    }

    /// The node first, its signature right behind, on one line, slashes escaped: what every SDK's way of
    /// cutting the node out can take (gateways.md 4.3, 6).
    fn envelope(
        &self,
        node: &Map<String, Value>,
        echo: &[(String, String)],
        signed: bool,
    ) -> Response<Bytes> {
        let name = method_of(echo).map_or_else(
            || "error_response".to_owned(),
            |method| format!("{}_response", method.replace('.', "_")),
        );
        // A `/` stands only inside texts.
        let node = Value::Object(node.clone()).to_string().replace('/', "\\/");
        let body = if signed {
            format!("{{\"{name}\":{node},\"sign\":\"{}\"}}", sign(&self.config.alipay_key, &node))
        } else {
            format!("{{\"{name}\":{node}}}")
        };
        answer("text/html;charset=utf-8", body)
    }
}

impl Counterpart for AlipayGateway {
    fn decode_call(&self, request: &Request<Bytes>, now: UnixMillis) -> Result<Received, Refusal> {
        let params = merged(request)?;
        let named = |refusal: Refusal| match get(&params, "method") {
            Some(method) if rules::METHODS.contains(&method) && refusal.echo.is_empty() => {
                Refusal { echo: vec![("method".to_owned(), method.to_owned())], ..refusal }
            }
            _ => refusal,
        };
        let method = self.trusted(&params).map_err(named)?;
        if method == "alipay.trade.app.pay" {
            let why = "alipay.trade.app.pay is a string for the app's SDK, not a request".to_owned();
            return Err(named(no("isv.invalid-method", why)));
        }
        self.business(method, &params, now)
    }

    fn refuse(&self, received: &Received, objection: Objection) -> Refusal {
        let creating = matches!(received.call, Call::Create { .. });
        let code = match objection {
            Objection::Absent | Objection::RefundAbsent => "ACQ.TRADE_NOT_EXIST",
            Objection::Paid if creating => "ACQ.TRADE_HAS_SUCCESS",
            Objection::Closed if creating => "ACQ.TRADE_HAS_CLOSE",
            // Only a waiting trade can be closed (gateways.md 4.9).
            Objection::Paid | Objection::Closed | Objection::NotPaid => "ACQ.TRADE_STATUS_ERROR",
            Objection::OtherTerms => "ACQ.CONTEXT_INCONSISTENT",
            Objection::RefundTooMuch => "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
            Objection::RefundDiffers => "ACQ.DISCORDANT_REPEAT_REQUEST",
            Objection::UnknownPayer => "ACQ.INVALID_PARAMETER",
            Objection::Busy => "ACQ.SYSTEM_ERROR",
        };
        let why = format!("{} on {}: {objection:?}", received.method, received.call.out_trade_no());
        Refusal { echo: received.echo.clone(), ..no(code, why) }
    }

    fn encode_answer(&self, answered: &Answer, echo: &[(String, String)], _stamp: &Stamp) -> Response<Bytes> {
        let mut node = Map::new();
        let mut add = |name: &str, value: &str| {
            node.insert(name.to_owned(), Value::from(value));
        };
        add("code", "10000");
        add("msg", "Success");
        match answered {
            Answer::Created(code) => add("qr_code", &code.content),
            Answer::Closed => {}
            // The real gateway knows at once that a refund cannot be: it never takes one on to fail later.
            Answer::Refund(refund) if refund.state == GatewayRefundState::Closed => {
                refusal_node(&mut node, &no("ACQ.TRADE_NOT_ALLOW_REFUND", String::new()), echo);
                return self.envelope(&node, echo, true);
            }
            Answer::Refund(refund) => taken_on(&mut node, refund),
            // A yes that says nothing: no such refund (gateways.md 4.10).
            Answer::RefundQuery(refund) => {
                let known = refund.as_ref().filter(|refund| refund.state != GatewayRefundState::Closed);
                if let Some(refund) = known {
                    refund_standing(&mut node, refund, echo);
                }
                return self.envelope(&node, echo, true);
            }
            Answer::Trade(trade) => {
                let Some(trade_no) = &trade.transaction_id else {
                    // Nobody scanned it: to Alipay there is no trade yet (gateways.md 4.4, 4.9).
                    add("out_trade_no", trade.out_trade_no.as_str());
                    refusal_node(&mut node, &no("ACQ.TRADE_NOT_EXIST", String::new()), echo);
                    return self.envelope(&node, echo, true);
                };
                add("trade_no", trade_no.as_str());
                standing(&mut node, trade);
            }
            // What a browser opened is answered with a page (gateways.md 4.3).
            Answer::Refused(refusal) if method_of(echo).is_some_and(page::is_for_browsers) => {
                return page::refused(refusal);
            }
            Answer::Refused(refusal) => {
                refusal_node(&mut node, refusal, echo);
                return self.envelope(&node, echo, refusal.trusted);
            }
        }
        for (name, value) in echo.iter().filter(|(name, _)| name == "out_trade_no") {
            node.insert(name.clone(), Value::from(value.as_str()));
        }
        self.envelope(&node, echo, true)
    }

    fn encode_notice(
        &self,
        trade: &Standing,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Request<Bytes> {
        let mut params = Params::new();
        for (name, value) in [
            ("notify_time", time::spaced(stamp.now).as_str()),
            ("notify_type", "trade_status_sync"),
            ("notify_id", delivery_id),
            ("charset", "utf-8"),
            ("version", "1.0"),
            ("app_id", &self.config.app_id),
            ("auth_app_id", &self.config.app_id),
            ("seller_id", &self.config.seller_id),
            ("out_trade_no", trade.out_trade_no.as_str()),
            ("subject", &trade.title),
            ("trade_status", status(trade)),
            ("total_amount", &trade.total.to_string()),
            ("gmt_create", &time::spaced(trade.created_at)),
        ] {
            put(&mut params, name, value);
        }
        if let Some(trade_no) = &trade.transaction_id {
            put(&mut params, "trade_no", trade_no.as_str());
        }
        if let Some(payer) = &trade.payer {
            put(&mut params, "buyer_id", payer);
            put(&mut params, "buyer_logon_id", "138****0000");
        }
        for (name, value) in trade.echo.iter().filter(|(name, _)| name == "body" || name == "passback_params")
        {
            put(&mut params, name, value);
        }
        if let Some(at) = trade.paid_at {
            paid_amounts(&mut params, trade, at);
        } else if trade.state == TradeState::Closed {
            put(&mut params, "gmt_close", &time::spaced(stamp.now));
        }
        if let Some(refunded) = &trade.refunded {
            put(&mut params, "refund_fee", &refunded.total.to_string());
            put(&mut params, "out_biz_no", refunded.out_refund_no.as_str());
            let fraction = refunded.at.0.rem_euclid(1000);
            put(&mut params, "gmt_refund", &format!("{}.{fraction:03}", time::spaced(refunded.at)));
            if refunded.total >= trade.total {
                put(&mut params, "gmt_close", &time::spaced(refunded.at));
            }
        }
        // How the real one signs empties is not known: there are none (gateways.md 4.5, 8).
        params.retain(|_, value| !value.is_empty());
        let signature = sign(&self.config.alipay_key, &canonical(&params, &[], Empties::Kept));
        put(&mut params, "sign_type", "RSA2");
        put(&mut params, "sign", &signature);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&params).finish();
        notice(notify_url, "application/x-www-form-urlencoded; charset=utf-8", body)
    }

    fn encode_refund_notice(
        &self,
        _refund: &GatewayRefund,
        _notify_url: &str,
        _delivery_id: &str,
        _stamp: &Stamp,
    ) -> Option<Request<Bytes>> {
        None
    }

    fn decode_ack(&self, ack: &Response<Bytes>) -> bool {
        ack.status() == StatusCode::OK && ack.body().as_ref() == b"success"
    }
}

/// Query and body together, as the gateway sees them (gateways.md 4.1).
pub(super) fn merged(request: &Request<Bytes>) -> Result<Params, Refusal> {
    let broken = |why: String| no("isv.invalid-parameter", why);
    if request.method() != Method::POST && request.method() != Method::GET {
        return Err(broken(format!("the method is {}, not GET or POST", request.method())));
    }
    let read =
        |part: &[u8], place: &str| read_form(part).map_err(|fault| broken(format!("the {place}: {fault}")));
    let mut params = read(request.uri().query().unwrap_or_default().as_bytes(), "query")?;
    for (name, value) in read(request.body(), "body")? {
        if params.get(&name).is_some_and(|other| *other != value) {
            return Err(broken(format!("{name} differs between query and body")));
        }
        params.insert(name, value);
    }
    Ok(params)
}

fn method_of(echo: &[(String, String)]) -> Option<&str> {
    echo.iter().find(|(name, _)| name == "method").map(|(_, method)| method.as_str())
}

/// A refusal's node (gateways.md 4.3).
fn refusal_node(node: &mut Map<String, Value>, refusal: &Refusal, echo: &[(String, String)]) {
    let (code, msg) = rules::family(&refusal.code);
    let mut fields = vec![("code", code), ("msg", msg)];
    fields.extend([("sub_code", refusal.code.as_str()), ("sub_msg", refusal.message.as_str())]);
    // A query of nothing still brings the amounts (gateways.md 4.9).
    if refusal.code == "ACQ.TRADE_NOT_EXIST" && method_of(echo) == Some("alipay.trade.query") {
        for name in ["buyer_pay_amount", "invoice_amount", "point_amount", "receipt_amount"] {
            fields.push((name, "0.00"));
        }
    }
    node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
}

/// The answer to a query (gateways.md 4.9).
fn standing(node: &mut Map<String, Value>, trade: &Standing) {
    let total = trade.total.to_string();
    let paid = if trade.paid_at.is_some() { total.as_str() } else { "0.00" };
    let mut fields = vec![
        ("out_trade_no", trade.out_trade_no.as_str()),
        ("trade_status", status(trade)),
        ("total_amount", total.as_str()),
        ("buyer_pay_amount", paid),
        ("invoice_amount", paid),
        ("receipt_amount", paid),
        ("point_amount", "0.00"),
        ("buyer_logon_id", "138****0000"),
        ("buyer_user_type", "PRIVATE"),
    ];
    fields.extend(trade.payer.as_deref().map(|payer| ("buyer_user_id", payer)));
    node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
    if let Some(at) = trade.paid_at {
        node.insert("send_pay_date".to_owned(), Value::from(time::spaced(at)));
        let bill = serde_json::json!([{ "amount": total, "fund_channel": "ALIPAYACCOUNT" }]);
        node.insert("fund_bill_list".to_owned(), bill);
    }
}

fn paid_amounts(params: &mut Params, trade: &Standing, at: UnixMillis) {
    let total = trade.total.to_string();
    put(params, "gmt_payment", &time::spaced(at));
    for name in ["receipt_amount", "invoice_amount", "buyer_pay_amount"] {
        put(params, name, &total);
    }
    put(params, "point_amount", "0.00");
    let bill = serde_json::json!([{ "amount": total, "fundChannel": "ALIPAYACCOUNT" }]);
    put(params, "fund_bill_list", &bill.to_string());
}

/// The answer to a refund. The money is gone once that is accepted, so a repetition moves none, whatever a
/// query says meanwhile (gateways.md 4.10).
fn taken_on(node: &mut Map<String, Value>, refund: &GatewayRefund) {
    let moved = !refund.repeated;
    let total = refund.refunded_total.to_string();
    let sent = if moved { refund.amount.to_string() } else { "0.00".to_owned() };
    let mut fields = vec![
        ("trade_no", refund.transaction_id.as_str()),
        ("out_trade_no", refund.out_trade_no.as_str()),
        ("buyer_logon_id", "138****0000"),
        ("fund_change", if moved { "Y" } else { "N" }),
        ("refund_fee", &total),
        ("send_back_fee", &sent),
    ];
    fields.extend(refund.payer.as_deref().map(|payer| ("buyer_user_id", payer)));
    let at = time::spaced(refund.done_at.unwrap_or(refund.asked_at));
    fields.push(("gmt_refund_pay", &at));
    node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
}

/// The answer to a query for a refund: without a status it is not done (gateways.md 4.10).
fn refund_standing(node: &mut Map<String, Value>, refund: &GatewayRefund, echo: &[(String, String)]) {
    let (total, amount) = (refund.total.to_string(), refund.amount.to_string());
    let mut fields = vec![
        ("trade_no", refund.transaction_id.as_str()),
        ("out_trade_no", refund.out_trade_no.as_str()),
        ("out_request_no", refund.out_refund_no.as_str()),
        ("total_amount", &total),
        ("refund_amount", &amount),
    ];
    fields.extend(refund.reason.as_deref().map(|reason| ("refund_reason", reason)));
    let asked = echo.iter().any(|(name, value)| name == "query_options" && value == "gmt_refund_pay");
    let at = refund.done_at.filter(|_| asked).map(time::spaced);
    if refund.state == GatewayRefundState::Success {
        fields.extend([("refund_status", "REFUND_SUCCESS"), ("send_back_fee", &amount)]);
        fields.extend(at.as_deref().map(|at| ("gmt_refund_pay", at)));
    }
    node.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
}

/// A trade whose money all went back is closed (gateways.md 4.5).
fn status(trade: &Standing) -> &'static str {
    if trade.refunded.as_ref().is_some_and(|refunded| refunded.total >= trade.total) {
        return "TRADE_CLOSED";
    }
    match trade.state {
        TradeState::NotPay => "WAIT_BUYER_PAY",
        TradeState::Success => "TRADE_SUCCESS",
        TradeState::Closed => "TRADE_CLOSED",
    }
}
