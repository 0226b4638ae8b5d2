//! Every refusal of the HTTP faces: number, name, status, sentence. The only file that knows HTTP statuses.
//! Never says anything secret or internal: causes go to the log. The table for people: `docs/errors.md`.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, CONTENT_LENGTH, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::checkout::CheckoutError;
use super::store::StoreError;

/// A refusal, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message(Language::En))]
pub struct ApiError {
    kind: Kind,
    /// Where in the request: `order_number`, `items[2].fee`.
    field: Option<Cow<'static, str>>,
    /// What the sentence has besides.
    detail: Option<Cow<'static, str>>,
    /// In seconds.
    retry_after: Option<u32>,
}

/// The languages we answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Simplified Chinese, the default.
    Zh,
    /// English, for who asks for it.
    En,
}

/// What is sent.
#[derive(serde::Serialize)]
struct Envelope {
    status_code: u16,
    error: &'static str,
    message: String,
}

/// One line of the catalogue.
struct Row {
    number: u16,
    name: &'static str,
    status: StatusCode,
    zh: &'static str,
    en: &'static str,
}

/// The catalogue: one line a kind. Numbers are for ever; a new kind takes the next of its group.
macro_rules! catalogue {
    ($(
        $(#[$doc:meta])*
        $kind:ident = $number:literal $name:literal $status:ident, $zh:literal, $en:literal;
    )+) => {
        /// What went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            const fn row(self) -> Row {
                match self {
                    $(Self::$kind => Row {
                        number: $number, name: $name, status: StatusCode::$status, zh: $zh, en: $en,
                    }),+
                }
            }
        }
    };
}

catalogue! {
    /// Not JSON; the detail is the place, line:column.
    MalformedJson = 1001 "malformed_json" BAD_REQUEST,
        "请求体不是有效的 JSON（位置 {detail}）", "The body is not valid JSON (at {detail})";
    /// A key stands twice in one object.
    DuplicateKey = 1002 "duplicate_key" BAD_REQUEST,
        "字段 {field} 重复出现", "{field} stands there twice";
    /// A key that the call does not know.
    UnknownField = 1003 "unknown_field" BAD_REQUEST,
        "没有名为 {field} 的字段", "There is no field {field}";
    /// A key that the call needs.
    MissingField = 1004 "missing_field" BAD_REQUEST,
        "缺少字段 {field}", "{field} is missing";
    /// Text for a number, a fraction for an integer.
    WrongType = 1005 "wrong_type" BAD_REQUEST,
        "字段 {field} 的类型不对，应为{detail}", "{field} must be {detail}";
    /// Not one of the values that are known or allowed here.
    NotAllowed = 1006 "not_allowed" BAD_REQUEST,
        "字段 {field} 的值不可用，可用的值：{detail}", "{field} must be one of: {detail}";
    /// A number beyond its limits.
    OutOfRange = 1007 "out_of_range" BAD_REQUEST,
        "字段 {field} 超出范围，应为 {detail}", "{field} is out of range, it must be {detail}";
    /// Breaks the rule of its field.
    InvalidValue = 1008 "invalid_value" BAD_REQUEST,
        "字段 {field} 的值不对，应为：{detail}", "{field} is not right, it must be: {detail}";
    /// More than 64 KiB.
    BodyTooLarge = 1009 "body_too_large" PAYLOAD_TOO_LARGE,
        "请求体过大，最多 64 KiB", "The body is too large, at most 64 KiB are taken";
    /// The body broke off or came too slowly.
    BodyIncomplete = 1010 "body_incomplete" BAD_REQUEST,
        "请求体没有完整到达", "The body did not arrive in full";
    /// No such path.
    UnknownRoute = 1011 "unknown_route" NOT_FOUND,
        "没有这个地址", "There is nothing at this address";
    /// The path does not take this method.
    MethodNotAllowed = 1012 "method_not_allowed" METHOD_NOT_ALLOWED,
        "这个地址不支持该请求方法", "This address does not take that method";

    /// No API key and no token.
    KeyMissing = 2001 "key_missing" UNAUTHORIZED,
        "缺少 Authorization 请求头", "The Authorization header is missing";
    /// Neither a key nor a token that is known.
    KeyWrong = 2002 "key_wrong" UNAUTHORIZED,
        "Authorization 请求头中的密钥或令牌无效", "The key or token in the Authorization header is not valid";
    /// A token of another order, or a token where a key is needed.
    ForeignCapability = 2003 "foreign_capability" FORBIDDEN,
        "这个令牌不能用于该订单或该操作", "This token is not for this order or this call";
    /// A page of another site sent it.
    CrossSite = 2004 "cross_site" FORBIDDEN,
        "不接受来自其他网站的请求", "Requests from other sites are not taken";
    /// Staff have to type the PIN first, or typed another one.
    PadLocked = 2005 "pad_locked" FORBIDDEN,
        "需要先输入店员 PIN 码", "The staff's PIN has to be typed first";

    /// No such order, or not the caller's.
    OrderNotFound = 3001 "order_not_found" NOT_FOUND,
        "没有这个订单", "There is no such order";
    /// Nothing more to pay.
    OrderPaid = 3002 "order_paid" CONFLICT,
        "订单已支付", "The order is paid";
    /// Closed, closing, or past its time.
    OrderClosed = 3003 "order_closed" CONFLICT,
        "订单已关闭", "The order is closed";
    /// The number is taken by an order with other content.
    OrderDifferent = 3004 "order_different" CONFLICT,
        "订单已存在，且字段 {field} 不同", "The order exists with another {field}";
    /// The merchant does not have this gateway.
    ChannelNotConfigured = 3005 "channel_not_configured" BAD_REQUEST,
        "商户没有开通 {detail}", "The merchant does not have {detail}";
    /// Nothing paid the order, so there is nothing to give back.
    OrderNotPaid = 3006 "order_not_paid" CONFLICT,
        "订单尚未支付", "The order is not paid";
    /// The order has no money with this transaction id.
    PaymentNotFound = 3007 "payment_not_found" NOT_FOUND,
        "订单没有这笔付款", "The order has no such payment";
    /// The refund number is taken by a refund with other content.
    RefundDifferent = 3008 "refund_different" CONFLICT,
        "退款单号已存在，且内容不同", "A refund of this number exists with other content";
    /// More than what is left of the payment.
    RefundTooMuch = 3009 "refund_too_much" CONFLICT,
        "退款金额超过可退金额", "The refund is more than what is left of the payment";
    /// The gateways make fifty refunds of one payment and no more.
    TooManyRefunds = 3010 "too_many_refunds" CONFLICT,
        "该笔付款的退款次数已达上限", "The payment has as many refunds as the gateways make";
    /// The order has no refund of this number.
    RefundNotFound = 3011 "refund_not_found" NOT_FOUND,
        "没有这笔退款", "There is no such refund";
    /// No such event, or not the caller's.
    EventNotFound = 3012 "event_not_found" NOT_FOUND,
        "没有这个事件", "There is no such event";
    /// No such pad, or not the caller's; or none that waits for this code.
    PadNotFound = 3013 "pad_not_found" NOT_FOUND,
        "没有这个收款平板", "There is no such pad";
    /// As many as a merchant may have.
    TooManyPads = 3014 "too_many_pads" CONFLICT,
        "收款平板数量已达上限", "There are as many pads as a merchant may have";

    /// Too many calls.
    RateLimited = 4001 "rate_limited" TOO_MANY_REQUESTS,
        "请求过于频繁，请稍后再试", "Too many requests, try again later";

    /// The gateway said no.
    GatewayRefused = 5001 "gateway_refused" BAD_GATEWAY,
        "支付渠道拒绝了请求：{detail}", "The gateway refused: {detail}";
    /// The gateway does not answer; asking again is safe.
    GatewayUnavailable = 5002 "gateway_unavailable" SERVICE_UNAVAILABLE,
        "支付渠道暂时无法访问，请稍后再试", "The gateway cannot be reached right now, try again later";
    /// The mall does not say whether its token is good.
    TokenCheckUnavailable = 5003 "token_check_unavailable" SERVICE_UNAVAILABLE,
        "商城暂时无法确认令牌，请稍后再试", "The mall cannot confirm the token right now, try again later";

    /// The database is locked, full or gone.
    StoreUnavailable = 6001 "store_unavailable" SERVICE_UNAVAILABLE,
        "存储暂时不可用，请稍后再试", "The store is unavailable right now, try again later";
    /// A fault of ours.
    Internal = 6002 "internal" INTERNAL_SERVER_ERROR,
        "服务内部错误", "Internal error";
}

impl Kind {
    /// The `status_code` of the envelope: never 0, never changed.
    pub const fn number(self) -> u16 {
        self.row().number
    }

    /// The `error` of the envelope.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }
}

impl From<CheckoutError> for ApiError {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::NotFound => Self::new(Kind::OrderNotFound),
            CheckoutError::AlreadyPaid => Self::new(Kind::OrderPaid),
            CheckoutError::AlreadyClosed => Self::new(Kind::OrderClosed),
            CheckoutError::Different(field) => Self::different(field),
            CheckoutError::NoSuchPad => Self::new(Kind::PadNotFound),
            CheckoutError::TooManyPads => Self::new(Kind::TooManyPads),
            CheckoutError::NotPaid => Self::new(Kind::OrderNotPaid),
            CheckoutError::NoSuchPayment => Self::new(Kind::PaymentNotFound),
            CheckoutError::OtherRefund => Self::new(Kind::RefundDifferent),
            CheckoutError::RefundTooMuch => Self::new(Kind::RefundTooMuch),
            CheckoutError::TooManyRefunds => Self::new(Kind::TooManyRefunds),
            CheckoutError::TooManyAttempts => Self::rate_limited(600),
            CheckoutError::NotConfigured(channel) => {
                Self::new(Kind::ChannelNotConfigured).with(channel.as_str())
            }
            CheckoutError::GatewayRefused { code, message, .. } => Self::gateway_refused(&code, &message),
            CheckoutError::GatewayUnavailable { channel, reason } => {
                tracing::warn!(%channel, %reason, "a gateway is unavailable");
                Self::new(Kind::GatewayUnavailable)
            }
            CheckoutError::Store(error) => error.into(),
            CheckoutError::Internal(what) => {
                tracing::error!(%what, "internal error");
                Self::new(Kind::Internal)
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store said no");
        match error {
            StoreError::Unavailable(_) | StoreError::Unusable { .. } => Self::new(Kind::StoreUnavailable),
            StoreError::Inconsistent { .. } => Self::new(Kind::Internal),
        }
    }
}

impl ApiError {
    /// An error whose sentence needs nothing more.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, field: None, detail: None, retry_after: None }
    }

    /// The field that must be there.
    pub fn missing(field: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::MissingField).at(field)
    }

    /// No field of that name.
    pub fn unknown_field(field: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::UnknownField).at(field)
    }

    /// A value that breaks the rule of its field: what would have been right, in English, or as the
    /// domain's `one of: ` with the words. Rules of the domain are put into Chinese here.
    pub fn invalid(field: impl Into<Cow<'static, str>>, rule: impl std::fmt::Display) -> Self {
        let rule = rule.to_string();
        match rule.strip_prefix("one of: ") {
            Some(words) => Self::not_allowed(field, words.replace(' ', ", ")),
            None => Self::new(Kind::InvalidValue).at(field).with(rule),
        }
    }

    /// A value that is not one of `allowed`, a list with commas.
    pub fn not_allowed(field: impl Into<Cow<'static, str>>, allowed: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotAllowed).at(field).with(allowed)
    }

    /// A number that is not in `min..=max`.
    pub fn out_of_range(field: impl Into<Cow<'static, str>>, min: i64, max: i64) -> Self {
        Self::new(Kind::OutOfRange).at(field).with(format!("{min}..{max}"))
    }

    /// No such path.
    pub const fn unknown_route() -> Self {
        Self::new(Kind::UnknownRoute)
    }

    /// The path does not take this method.
    pub const fn method_not_allowed() -> Self {
        Self::new(Kind::MethodNotAllowed)
    }

    /// No API key and no token.
    pub const fn missing_key() -> Self {
        Self::new(Kind::KeyMissing)
    }

    /// Neither a key nor a token that is known.
    pub const fn wrong_key() -> Self {
        Self::new(Kind::KeyWrong)
    }

    /// A token of another order, or a token where a key is needed.
    pub const fn foreign_capability() -> Self {
        Self::new(Kind::ForeignCapability)
    }

    /// No such order, or not the caller's.
    pub const fn unknown_order() -> Self {
        Self::new(Kind::OrderNotFound)
    }

    /// The order exists with another value of `field`.
    pub fn different(field: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::OrderDifferent).at(field)
    }

    /// The gateway said no, in its own code and words.
    pub fn gateway_refused(code: &str, message: &str) -> Self {
        Self::new(Kind::GatewayRefused).with(format!("{code} {message}").trim().to_owned())
    }

    /// Too many calls; come back after `seconds`.
    pub fn rate_limited(seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(Kind::RateLimited) }
    }

    /// Names the field.
    #[must_use]
    pub fn at(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Adds what the sentence has besides.
    #[must_use]
    pub fn with(self, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// What went wrong.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// One sentence.
    pub fn message(&self, language: Language) -> String {
        let row = self.kind.row();
        let detail = self.detail.as_deref().unwrap_or("?");
        let (sentence, detail) = match language {
            Language::En => (row.en, Cow::Borrowed(detail)),
            Language::Zh => (row.zh, in_chinese(detail)),
        };
        sentence.replace("{detail}", &detail).replace("{field}", self.field.as_deref().unwrap_or("?"))
    }

    /// The whole answer.
    pub fn response(&self, language: Language) -> Response {
        let body = Envelope {
            status_code: self.kind.number(),
            error: self.kind.name(),
            message: self.message(language),
        };
        let mut response = (self.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.insert(VARY, HeaderValue::from_static("accept-language"));
        let retry_after = match self.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Some(self.retry_after.unwrap_or(RETRY_AFTER_DEFAULT))
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                None
            }
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// In Chinese; [`localize`] puts it into the asker's language.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.response(Language::Zh);
        response.extensions_mut().insert(self);
        response
    }
}

impl Language {
    /// English if it is asked for more than Chinese, else Chinese.
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut zh, mut en) = (0.0_f32, 0.0_f32);
        let asked = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        for range in asked.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.parse::<f32>().ok().filter(|q| q.is_finite()).unwrap_or(0.0));
            match tag.split('-').next() {
                Some("zh") => zh = zh.max(weight),
                Some("en") => en = en.max(weight),
                _ => {}
            }
        }
        if en > zh { Self::En } else { Self::Zh }
    }

    /// The tag of `Content-Language` and `lang`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Zh => "zh-CN",
            Self::En => "en",
        }
    }
}

/// Middleware: answers errors in the language of `Accept-Language`.
pub async fn localize(request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let response = next.run(request).await;
    match (language, response.extensions().get::<ApiError>()) {
        (Language::En, Some(error)) => {
            let mut localized = error.response(language);
            // What other layers set (CORS, cache rules) stays.
            for (name, value) in response.headers() {
                let ours = localized.headers();
                let adds = name == VARY && !ours.get_all(VARY).iter().any(|known| known == value);
                if name != CONTENT_LENGTH && (adds || !ours.contains_key(name)) {
                    localized.headers_mut().append(name, value.clone());
                }
            }
            localized
        }
        _ => response,
    }
}

/// The catalogue as Markdown, for `docs/errors.md`.
pub fn catalogue_markdown() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Every refusal is `{\"status_code\":N,\"error\":\"name\",\"message\":\"…\"}` with the HTTP status \
         below. `N` and `error` never change their meaning; `message` is for people, in English if \
         `Accept-Language` prefers it to Chinese, else in Chinese. 503 and 429 carry `Retry-After`.\n\n\
         | `status_code` | `error` | HTTP | message | 中文 |\n|---|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let row = kind.row();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {} |",
            row.number,
            row.name,
            row.status.as_u16(),
            row.en,
            row.zh
        );
    }
    text
}

/// What the domain says in English, in Chinese. What is not in the list (a gateway's own words, values)
/// stays as it is.
fn in_chinese(detail: &str) -> Cow<'_, str> {
    let known = match detail {
        "a whole number" => "整数",
        "text" => "文本",
        "true or false" => "true 或 false",
        "an object" => "对象",
        "a list" => "数组",
        "1 to 32 of 0-9 A-Z a-z _ -" => "1 到 32 位的数字、字母、_ 或 -",
        "1 to 256 characters without control characters" => "1 到 256 个字符，不含控制字符",
        "up to 80 bytes without control characters" => "最多 80 字节，不含控制字符",
        "1 to 64 of 0-9 A-Z a-z _ -" => "1 到 64 位的数字、字母、_ 或 -",
        "1 to 64 visible ASCII characters" => "1 到 64 个可见的 ASCII 字符",
        "up to 127 bytes without control characters" => "最多 127 字节，不含控制字符",
        "as given with the page before" | "a number as given by the page before" => "上一页应答中给出的值",
        "an absolute http or https address of up to 2,048 bytes, without user name" => {
            "完整的 http 或 https 地址，最多 2048 字节，不含用户名"
        }
        "WeChat Pay" => "微信支付",
        "Alipay" => "支付宝",
        _ => return Cow::Borrowed(detail),
    };
    Cow::Borrowed(known)
}

/// Seconds until a call that found something unavailable is worth repeating.
const RETRY_AFTER_DEFAULT: u32 = 5;

#[cfg(test)]
mod tests;
