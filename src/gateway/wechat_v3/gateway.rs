//! Their half of WeChat v3, for the emulator: as strict as the real gateway, and it says why.
//! Never shows a key. The other half: `merchant`; the rules: gateways.md 2 and 6; what a request must hold:
//! `asked`; what answers and notices hold: `told`.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::super::keys::{PrivateKey, PublicKey, Secret};
use super::super::{
    Answer, Call, Counterpart, GatewayRefund, GatewayRefundState, Objection, Received, Refusal, Stamp,
    Standing, TradeState, notice,
};
use super::asked::{self, Asked, no};
use super::told::{self, trade_told};
use super::{
    NONCE, PUBLIC_KEY_ID, SCHEME, SERIAL, SIGNATURE, SIGNATURE_TYPE, TIMESTAMP, asked_text, header, is_stale,
    sealed, seconds, sign, told_text,
};
use crate::domain::id::UnixMillis;
use crate::domain::time;

/// The one merchant the other side knows, and the keys it signs with.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Its app.
    pub app_id: String,
    /// Its number.
    pub mch_id: String,
    /// The serial number of its certificate.
    pub merchant_serial: String,
    /// The key of its certificate.
    pub merchant_key: PublicKey,
    /// Its `APIv3` key.
    pub api_key: Secret,
    /// The key with an id.
    pub public: PlatformSigner,
    /// The platform's certificates, the one in use first, the one that follows it second.
    pub certificates: [PlatformSigner; 2],
}

/// One key of the platform.
#[derive(Clone, Debug)]
pub struct PlatformSigner {
    /// Its id or serial.
    pub serial: String,
    /// The key.
    pub key: PrivateKey,
    /// Its certificate, PEM; empty for the key with an id.
    pub certificate: String,
}

/// Which of the platform's keys signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The one with an id.
    Public,
    /// The certificate in use.
    Certificate,
    /// The certificate that follows it.
    NextCertificate,
}

/// Their half.
#[derive(Clone, Debug)]
pub struct WechatV3Gateway {
    pub(super) config: GatewayConfig,
    notices: KeyKind,
}

impl WechatV3Gateway {
    /// For one merchant, with notices under the key with an id.
    pub const fn new(config: GatewayConfig) -> Self {
        Self { config, notices: KeyKind::Public }
    }

    /// The same, whose notices and answers another key signs.
    #[must_use]
    pub fn with_key(&self, kind: KeyKind) -> Self {
        Self { config: self.config.clone(), notices: kind }
    }

    /// Whether a request's stamp is of about now: looked at before the signature (gateways.md 2.7). `now` is
    /// the real time, whatever the emulator's business clock says.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_clock(&self, request: &Request<Bytes>, now: UnixMillis) -> Result<(), Refusal> {
        let Some(named) = header(request.headers(), &AUTHORIZATION).and_then(Authorization::read) else {
            // Said in its place, by `decode_call`.
            return Ok(());
        };
        if is_stale(&named.timestamp, now) == Some(false) {
            return Ok(());
        }
        let why = format!("timestamp is {:?}, the gateway's clock says {}", named.timestamp, seconds(now));
        let message = "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟";
        Err(no("SIGN_ERROR", message, why))
    }

    /// What comes before any business: headers, identity, signature (gateways.md 2.1, 2.2).
    ///
    /// # Errors
    /// [`Refusal`]. The rest is what must be echoed.
    pub fn authorize(&self, request: &Request<Bytes>) -> Result<Vec<(String, String)>, Refusal> {
        let headers = request.headers();
        if !headers.contains_key("accept") || !headers.contains_key("user-agent") {
            let why = "every request needs Accept and a User-Agent that is not empty".to_owned();
            return Err(no("INVALID_REQUEST", "Http头缺少Accept或User-Agent", why));
        }
        let odd = |why: String| {
            let message = "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》";
            Err(no("SIGN_ERROR", message, why))
        };
        let Some(text) = header(headers, &AUTHORIZATION) else {
            return odd("the Authorization header is missing".to_owned());
        };
        let Some(named) = Authorization::read(text) else {
            return odd(format!(
                "Authorization must be: {SCHEME} mchid=\"…\",nonce_str=\"…\",signature=\"…\",timestamp=\"…\",\
                 serial_no=\"…\", each once, in any order"
            ));
        };
        let known = (&self.config.mch_id, &self.config.merchant_serial);
        if named.mchid != *known.0 {
            return odd(format!("mchid is {:?}, the one known here is {:?}", named.mchid, known.0));
        }
        if named.serial_no != *known.1 {
            return odd(format!(
                "serial_no is {:?}; the merchant's certificate is {:?} (upper-case hex)",
                named.serial_no, known.1
            ));
        }
        if let Err(why) = self.check_signature(request, &named) {
            let detail = json!({
                "field": "signature",
                "issue": "sign not match",
                "location": "authorization",
                "sign_information": {
                    "method": request.method().as_str(),
                    "sign_message_length": signed_of(request, &named).len(),
                    "url": target(request),
                },
            });
            let echo = vec![("detail".to_owned(), detail.to_string())];
            return Err(Refusal { echo, ..no("SIGN_ERROR", "签名错误，请检查后再试", why) });
        }
        let mut echo = vec![("api".to_owned(), "v3".to_owned())];
        if let Some(serial) = header(headers, &SERIAL) {
            self.check_serial(serial)?;
            echo.push(("wechatpay_serial".to_owned(), serial.to_owned()));
        }
        Ok(echo)
    }

    /// The public key or certificate that the merchant holds must be one of ours.
    fn check_serial(&self, serial: &str) -> Result<(), Refusal> {
        let public = self.config.public.serial.as_str();
        let known = self.config.certificates.iter().map(|one| one.serial.as_str()).chain([public]);
        if known.into_iter().any(|one| one == serial) {
            return Ok(());
        }
        let why = format!("Wechatpay-Serial is {serial:?}; the public key's id is {public:?}");
        Err(no("PARAM_ERROR", "Http头Wechatpay-Serial错误", why))
    }

    /// What a developer with a wrong signature wants to see (never a right one).
    fn check_signature(&self, request: &Request<Bytes>, named: &Authorization) -> Result<(), String> {
        let fits = |text: &[u8]| self.config.merchant_key.verify_sha256_base64(text, &named.signature);
        let text = signed_of(request, named);
        if fits(&text) {
            return Ok(());
        }
        let (method, at, nonce) = (request.method().as_str(), &named.timestamp, &named.nonce_str);
        let bare = text.strip_suffix(b"\n").unwrap_or_default();
        let cause = if fits(bare) {
            "the last line has no line end; every line has one, the body's too"
        } else if fits(&asked_text(method, request.uri().path(), at, nonce, request.body())) {
            "the query was not signed; the second line is path and query as they are sent"
        } else if fits(&asked_text(method, target(request), at, nonce, b"")) {
            "the body was not signed; it is the fifth line"
        } else if fits(&asked_text(method, &request.uri().to_string(), at, nonce, request.body())) {
            "the whole URL was signed; the second line is path and query only"
        } else {
            "another private key than that of the certificate, or a body or path changed after signing (a \
             number with | or * is percent-encoded before it is signed)"
        };
        let shown = String::from_utf8_lossy(&text).replace('\n', "\\n");
        Err(format!("the signed text must be: {shown}\nlikely cause: {cause}"))
    }

    /// The platform's certificates, sealed (gateways.md 2.6).
    pub fn encode_certificates(&self, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes> {
        let mut data = Vec::new();
        for (at, one) in self.config.certificates.iter().enumerate() {
            let Ok(known) = super::PlatformKey::certificate(&one.certificate) else { continue };
            let (from, to) = known.valid.unwrap_or_default();
            // Each seal its own nonce.
            let nonce = nonce12(stamp, at);
            let sealed =
                sealed::seal(&self.config.api_key, &nonce, "certificate", one.certificate.as_bytes());
            data.push(json!({
                "serial_no": one.serial,
                "effective_time": time::rfc3339(from),
                "expire_time": time::rfc3339(to),
                "encrypt_certificate": {
                    "algorithm": sealed::ALGORITHM,
                    "nonce": nonce,
                    "associated_data": "certificate",
                    "ciphertext": sealed.unwrap_or_default(),
                },
            }));
        }
        self.signed(StatusCode::OK, Some(json!({ "data": data })), echo, stamp)
    }

    fn signer(&self, kind: KeyKind) -> &PlatformSigner {
        let [current, next] = &self.config.certificates;
        match kind {
            KeyKind::Public => &self.config.public,
            KeyKind::Certificate => current,
            KeyKind::NextCertificate => next,
        }
    }

    /// An answer is signed with the public key if the merchant asks for that, else with the certificate
    /// (gateways.md 2.1), unless a rotation is rehearsed.
    fn signed(
        &self,
        status: StatusCode,
        body: Option<Value>,
        echo: &[(String, String)],
        stamp: &Stamp,
    ) -> Response<Bytes> {
        let asked = asked::echoed(echo, "wechatpay_serial");
        let kind = match self.notices {
            KeyKind::Public if asked.is_none_or(|serial| !serial.starts_with(PUBLIC_KEY_ID)) => {
                KeyKind::Certificate
            }
            kind => kind,
        };
        let body = Bytes::from(body.map(|body| body.to_string()).unwrap_or_default());
        let mut response = Response::new(body.clone());
        *response.status_mut() = status;
        if !body.is_empty() {
            response.headers_mut().insert(CONTENT_TYPE, JSON);
        }
        self.put_signature(response.headers_mut(), kind, &body, stamp);
        response
    }

    fn put_signature(&self, headers: &mut HeaderMap, kind: KeyKind, body: &[u8], stamp: &Stamp) {
        let signer = self.signer(kind);
        let at = seconds(stamp.now);
        let signature = sign(&signer.key, &told_text(&at, &stamp.nonce, body));
        for (name, value) in [
            (&TIMESTAMP, at.as_str()),
            (&NONCE, &stamp.nonce),
            (&SIGNATURE, &signature),
            (&SERIAL, &signer.serial),
            (&SIGNATURE_TYPE, SCHEME),
            (&REQUEST_ID, &stamp.nonce),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name.clone(), value);
            }
        }
    }

    fn notice_of(
        &self,
        told: &told::Event,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Request<Bytes> {
        let nonce = nonce12(stamp, 0);
        let plain = told.content.to_string();
        let sealed = sealed::seal(&self.config.api_key, &nonce, told.original_type, plain.as_bytes());
        let body = json!({
            "id": delivery_id,
            "create_time": time::rfc3339(stamp.now),
            "resource_type": "encrypt-resource",
            "event_type": told.kind,
            "summary": told.summary,
            "resource": {
                "original_type": told.original_type,
                "algorithm": sealed::ALGORITHM,
                "ciphertext": sealed.unwrap_or_default(),
                "associated_data": told.original_type,
                "nonce": nonce,
            },
        });
        let body = Bytes::from(body.to_string());
        let mut request = notice(notify_url, "application/json", body.clone());
        self.put_signature(request.headers_mut(), self.notices, &body, stamp);
        request
    }
}

impl Counterpart for WechatV3Gateway {
    fn decode_call(&self, request: &Request<Bytes>, now: UnixMillis) -> Result<Received, Refusal> {
        let asked = Asked::of(request)?;
        let echo = self.authorize(request)?;
        let mchid = asked::body_or_query_mchid(&asked, request)?;
        if mchid.as_deref().is_some_and(|named| named != self.config.mch_id) {
            let why = format!("mchid is {mchid:?}, the Authorization header says {:?}", self.config.mch_id);
            return Err(no("PARAM_ERROR", "http header中的mchid与post payload中的mchid不匹配", why));
        }
        let read = asked::read(&asked, request, &self.config.app_id, now);
        let mut read = read.map_err(|refusal| Refusal { echo: echo.clone(), ..refusal })?;
        read.echo.splice(..0, echo);
        Ok(read)
    }

    fn refuse(&self, received: &Received, objection: Objection) -> Refusal {
        let refunding = matches!(received.call, Call::Refund { .. } | Call::RefundQuery { .. });
        let (code, message) = match objection {
            Objection::Absent if refunding => ("RESOURCE_NOT_EXISTS", "订单不存在"),
            Objection::Absent => ("ORDER_NOT_EXIST", "订单不存在"),
            Objection::Paid => ("ORDERPAID", "该订单已支付"),
            Objection::Closed => ("ORDER_CLOSED", "该订单已关闭"),
            Objection::OtherTerms => ("OUT_TRADE_NO_USED", "商户订单号重复"),
            Objection::NotPaid => ("INVALID_REQUEST", "订单未支付，不能退款"),
            Objection::RefundTooMuch => ("INVALID_REQUEST", "申请退款金额大于订单可退金额"),
            Objection::RefundDiffers => {
                ("INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
            }
            Objection::RefundAbsent => ("RESOURCE_NOT_EXISTS", "退款单不存在"),
            Objection::UnknownPayer => ("PARAM_ERROR", "无效的openid"),
            Objection::Busy => ("SYSTEM_ERROR", "系统错误"),
        };
        let why = format!("{} on {}: {objection:?}", received.method, received.call.out_trade_no());
        Refusal { trusted: true, echo: received.echo.clone(), ..no(code, message, why) }
    }

    fn encode_answer(&self, answered: &Answer, echo: &[(String, String)], stamp: &Stamp) -> Response<Bytes> {
        let body = match answered {
            Answer::Refused(refusal) => return refused(refusal),
            Answer::RefundQuery(None) => {
                return refused(&no("RESOURCE_NOT_EXISTS", "退款单不存在", String::new()));
            }
            // Asked for again it is closed all the same (gateways.md 2.4).
            Answer::Closed => return self.signed(StatusCode::NO_CONTENT, None, echo, stamp),
            Answer::Created(code) => told::created(code, asked::echoed(echo, "trade_type")),
            Answer::Trade(trade) => trade_told(&self.config.app_id, &self.config.mch_id, trade),
            Answer::Refund(refund) | Answer::RefundQuery(Some(refund)) => told::refund_told(refund),
        };
        self.signed(StatusCode::OK, Some(body), echo, stamp)
    }

    fn encode_notice(
        &self,
        trade: &Standing,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Request<Bytes> {
        // What was true when it was paid, whatever went back since.
        let paid = Standing { state: TradeState::Success, refunded: None, ..trade.clone() };
        let told = told::Event {
            kind: "TRANSACTION.SUCCESS",
            original_type: "transaction",
            summary: "支付成功",
            content: trade_told(&self.config.app_id, &self.config.mch_id, &paid),
        };
        self.notice_of(&told, notify_url, delivery_id, stamp)
    }

    fn encode_refund_notice(
        &self,
        refund: &GatewayRefund,
        notify_url: &str,
        delivery_id: &str,
        stamp: &Stamp,
    ) -> Option<Request<Bytes>> {
        if refund.state == GatewayRefundState::Processing {
            return None;
        }
        let told = told::refund_ended(&self.config.mch_id, refund);
        Some(self.notice_of(&told, notify_url, delivery_id, stamp))
    }

    fn decode_ack(&self, ack: &Response<Bytes>) -> bool {
        matches!(ack.status(), StatusCode::OK | StatusCode::NO_CONTENT)
    }
}

/// The five pairs (gateways.md 2.2).
struct Authorization {
    mchid: String,
    nonce_str: String,
    signature: String,
    timestamp: String,
    serial_no: String,
}

impl Authorization {
    fn read(text: &str) -> Option<Self> {
        let pairs = text.strip_prefix(SCHEME)?.strip_prefix(' ')?;
        let mut found: [Option<String>; 5] = Default::default();
        for pair in pairs.split(',') {
            let (name, value) = pair.trim().split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            let at = PAIRS.iter().position(|known| *known == name)?;
            let slot = found.get_mut(at)?;
            if value.is_empty() || slot.is_some() {
                return None;
            }
            *slot = Some(value.to_owned());
        }
        let [mchid, nonce_str, signature, timestamp, serial_no] = found;
        Some(Self {
            mchid: mchid?,
            nonce_str: nonce_str?,
            signature: signature?,
            timestamp: timestamp?,
            serial_no: serial_no?,
        })
    }
}

const PAIRS: [&str; 5] = ["mchid", "nonce_str", "signature", "timestamp", "serial_no"];
static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn target(request: &Request<Bytes>) -> &str {
    request.uri().path_and_query().map_or("/", |target| target.as_str())
}

fn signed_of(request: &Request<Bytes>, named: &Authorization) -> Vec<u8> {
    let (method, at, nonce) = (request.method().as_str(), &named.timestamp, &named.nonce_str);
    asked_text(method, target(request), at, nonce, request.body())
}

/// Twelve characters for a seal, another for each place of one message.
fn nonce12(stamp: &Stamp, place: usize) -> String {
    stamp.nonce.chars().rev().skip(place).take(12).collect()
}

/// A no: its status follows from its code (gateways.md 2.7), and nothing of it is signed (2.1).
fn refused(refusal: &Refusal) -> Response<Bytes> {
    let status = match refusal.code.as_str() {
        asked::NO_PATH => StatusCode::NOT_FOUND,
        asked::NO_METHOD => StatusCode::METHOD_NOT_ALLOWED,
        "SIGN_ERROR" => StatusCode::UNAUTHORIZED,
        "NO_AUTH" | "OUT_TRADE_NO_USED" | "NOT_ENOUGH" | "RULE_LIMIT" | "TRADE_ERROR" => {
            StatusCode::FORBIDDEN
        }
        "ORDER_NOT_EXIST" | "RESOURCE_NOT_EXISTS" => StatusCode::NOT_FOUND,
        "FREQUENCY_LIMITED" | "RATELIMIT_EXCEEDED" => StatusCode::TOO_MANY_REQUESTS,
        "SYSTEM_ERROR" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut body = Bytes::new();
    if ![asked::NO_PATH, asked::NO_METHOD].contains(&refusal.code.as_str()) {
        let detail = asked::echoed(&refusal.echo, "detail");
        let mut said = json!({ "code": refusal.code, "message": refusal.message });
        let detail = detail.and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let (Some(members), Some(detail)) = (said.as_object_mut(), detail) {
            members.insert("detail".to_owned(), detail);
        }
        body = said.to_string().into();
    }
    let mut response = Response::new(body.clone());
    *response.status_mut() = status;
    if !body.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, JSON);
    }
    response
}
