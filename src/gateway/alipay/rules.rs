//! What Alipay asks of `biz_content`, and its words for a no. Used by their half only.
//! Never lets a call pass that the real gateway refuses by gateways.md 4.4 to 4.10.

use serde_json::{Map, Value};

use super::super::{Call, RefundTerms, Refusal, Terms, Visit, check_notify_url, untitled};
use super::{Params, get};
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::time;

/// A trusted call's content, with what surrounds it.
pub(super) struct Biz<'a> {
    /// `biz_content`, parsed.
    pub(super) content: Map<String, Value>,
    /// All parameters.
    pub(super) params: &'a Params,
    /// The gateway's clock.
    pub(super) now: UnixMillis,
}

impl Biz<'_> {
    /// The call, if it keeps the rules.
    pub(super) fn call(&self, method: &str, seller_id: &str) -> Result<Call, Refusal> {
        let out_trade_no = self.number()?;
        let scene = match method {
            "alipay.trade.query" => return Ok(Call::Query { out_trade_no }),
            "alipay.trade.close" => return Ok(Call::Close { out_trade_no }),
            "alipay.trade.refund" => return self.refund(out_trade_no),
            "alipay.trade.fastpay.refund.query" => {
                let out_refund_no = refund_number(&self.want("out_request_no")?)?;
                return Ok(Call::RefundQuery { out_trade_no, out_refund_no });
            }
            "alipay.trade.precreate" => Scene::QrCode,
            "alipay.trade.wap.pay" => Scene::Wap,
            "alipay.trade.page.pay" => Scene::Page,
            _ => Scene::App,
        };
        let title = self.want("subject")?;
        if title.chars().count() > 256 || title.chars().any(|c| untitled(c) || "/=&".contains(c)) {
            return Err(invalid("subject: at most 256 characters, no / = & and none of 4 bytes"));
        }
        if self.text("body").is_some_and(|body| body.chars().count() > 128) {
            return Err(invalid("body: at most 128 characters"));
        }
        if self.text("seller_id").is_some_and(|seller| seller != seller_id) {
            return Err(no("ACQ.PARTNER_ERROR", format!("seller_id is not {seller_id}")));
        }
        self.check_product(scene)?;
        let notify_url = get(self.params, "notify_url").unwrap_or_default();
        if !notify_url.is_empty() {
            check_notify_url(notify_url).map_err(invalid)?;
        }
        let total = self.amount("total_amount")?;
        let time_expire = self.expiry(scene)?;
        let (notify_url, client_ip) = (notify_url.to_owned(), String::new());
        let visit = Visit { return_url: self.back(scene)?, ..Visit::default() };
        let terms = Terms { scene, title, total, notify_url, time_expire, client_ip, visit };
        Ok(Call::Create { out_trade_no, terms })
    }

    /// Where the browser goes afterwards (gateways.md 4.1, 4.8).
    fn back(&self, scene: Scene) -> Result<Option<String>, Refusal> {
        if !matches!(scene, Scene::Wap | Scene::Page) {
            return Ok(None);
        }
        let url = get(self.params, "return_url");
        if url.is_some_and(|url| url.len() > 256 || !is_web(url)) {
            return Err(invalid("return_url: an absolute http(s) URL of at most 256 bytes"));
        }
        if self.text("quit_url").is_some_and(|url| url.len() > 400 || !is_web(&url)) {
            return Err(invalid("quit_url: an absolute http(s) URL of at most 400 bytes"));
        }
        Ok(url.map(str::to_owned))
    }

    /// A refund (gateways.md 4.10). Without a number of its own it is the whole trade's and has that one's.
    fn refund(&self, out_trade_no: OutTradeNo) -> Result<Call, Refusal> {
        let amount = self.amount("refund_amount")?;
        let named = self.text("out_request_no").unwrap_or_else(|| out_trade_no.as_str().to_owned());
        let out_refund_no = refund_number(&named)?;
        let reason = self.text("refund_reason");
        if reason.as_ref().is_some_and(|reason| reason.chars().count() > 256) {
            return Err(invalid("refund_reason: at most 256 characters"));
        }
        if self.text("refund_currency").is_some_and(|currency| currency != "CNY") {
            return Err(no("ACQ.CURRENCY_NOT_SUPPORT", "refund_currency: CNY".to_owned()));
        }
        // Neither is on this wire: what was paid the gateway knows, and the trade's notices tell the rest.
        let (total, notify_url) = (Fen::ZERO, String::new());
        let refund = RefundTerms { out_refund_no, total, amount, reason, notify_url };
        Ok(Call::Refund { out_trade_no, refund })
    }

    /// Whether `query_options` asks for a field that is not told unasked.
    pub(super) fn wants_option(&self, name: &str) -> bool {
        let options = self.content.get("query_options").and_then(Value::as_array);
        options.is_some_and(|options| options.iter().any(|option| option == name))
    }

    /// A member as text; SDK users write amounts as numbers, too.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.content.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What two creations of one number must agree in: every parameter but stamp and signature, and the
    /// content as values, for its spacing and order mean nothing.
    pub(super) fn fingerprint(&self) -> String {
        let mut params = self.params.clone();
        params.retain(|name, _| !["sign", "timestamp", "biz_content"].contains(&name.as_str()));
        let mut content: Vec<_> =
            self.content.iter().map(|(name, value)| format!("{name}={value}")).collect();
        content.sort_unstable();
        format!("{}|{}", super::canonical(&params, &[], super::Empties::Dropped), content.join("&"))
    }

    fn want(&self, name: &str) -> Result<String, Refusal> {
        self.text(name).ok_or_else(|| invalid(&format!("{name} is missing or empty")))
    }

    fn number(&self) -> Result<OutTradeNo, Refusal> {
        let text = self.want("out_trade_no")?;
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let number = OutTradeNo::new(text).ok().filter(|_| plain);
        number.ok_or_else(|| invalid("out_trade_no: 1 to 64 of 0-9 A-Z a-z _"))
    }

    /// 0.01 to 100000000 yuan (gateways.md 4.4).
    fn amount(&self, name: &str) -> Result<Fen, Refusal> {
        let text = self.want(name)?;
        let amount = Fen::from_yuan(&text).map_err(|error| invalid(&format!("{name}: {error}")))?;
        if amount == Fen::ZERO {
            Err(invalid(&format!("{name}: at least 0.01")))
        } else if amount.get() > 10_000_000_000 {
            Err(no("ACQ.TOTAL_FEE_EXCEED", format!("{name}: at most 100000000")))
        } else {
            Ok(amount)
        }
    }

    fn check_product(&self, scene: Scene) -> Result<(), Refusal> {
        let allowed: &[&str] = match scene {
            Scene::App => &["QUICK_MSECURITY_PAY"],
            Scene::Wap => &["QUICK_WAP_WAY"],
            Scene::Page => &["FAST_INSTANT_TRADE_PAY"],
            Scene::Native | Scene::Jsapi | Scene::Mweb | Scene::QrCode => {
                &["FACE_TO_FACE_PAYMENT", "QR_CODE_OFFLINE"]
            }
        };
        match self.text("product_code") {
            Some(code) if !allowed.contains(&code.as_str()) => {
                Err(invalid(&format!("product_code: one of {}", allowed.join(" "))))
            }
            _ => Ok(()),
        }
    }

    /// `time_expire` wins over `timeout_express`; without both the defaults of gateways.md 4.4.
    fn expiry(&self, scene: Scene) -> Result<UnixMillis, Refusal> {
        if let Some(text) = self.text("time_expire") {
            let at = time::parse_spaced(&text).ok_or_else(|| invalid("time_expire: yyyy-MM-dd HH:mm:ss"))?;
            let signed_at = get(self.params, "timestamp").and_then(time::parse_spaced);
            let least = signed_at.unwrap_or(self.now).plus(300_000);
            if at <= self.now {
                let why = format!("time_expire {text} is past {}", time::spaced(self.now));
                return Err(no("ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR", why));
            }
            if scene == Scene::App && at < least {
                return Err(invalid("time_expire: an app's trade lives at least 5 minutes"));
            }
            return Ok(at);
        }
        match self.text("timeout_express") {
            Some(text) => relative(&text, self.now)
                .ok_or_else(|| invalid("timeout_express: 1m to 15d, whole numbers of m, h, d, or 1c")),
            None if scene != Scene::QrCode => Ok(self.now.plus(15 * DAY)),
            None => Ok(self.now.plus(3 * HOUR)),
        }
    }
}

/// `90m`, `2h`, `15d`, or `1c`: the end of the Chinese day.
fn relative(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    if text == "1c" {
        let today = now.0.saturating_add(8 * HOUR).div_euclid(DAY);
        return Some(UnixMillis(today.saturating_add(1).saturating_mul(DAY).saturating_sub(8 * HOUR)));
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let ms = number.parse::<i64>().ok().filter(|_| digits)?.checked_mul(unit)?;
    (MINUTE..=15 * DAY).contains(&ms).then(|| now.plus(ms))
}

/// A refusal by sub code. Whether it is signed follows from the code: business failures are, the
/// gateway's own are not (gateways.md 4.3).
pub(super) fn no(sub_code: &str, explanation: String) -> Refusal {
    let message = match sub_code {
        "isv.invalid-signature" => "验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配",
        "isv.invalid-app-id" => "无效的AppID参数",
        "isv.missing-app-id" => "缺少AppID参数",
        "isv.missing-method" => "缺少方法名参数",
        "isv.invalid-method" => "不存在的方法名",
        "isv.missing-signature" => "缺少签名参数",
        "isv.missing-signature-type" => "缺少签名类型参数",
        "isv.invalid-signature-type" => "无效签名类型",
        "isv.missing-timestamp" => "缺少时间戳参数",
        "isv.invalid-timestamp" => "非法的时间戳参数",
        "isv.missing-version" => "缺少版本参数",
        "isv.invalid-charset" => "字符集错误",
        "isv.invalid-format" => "无效的数据格式",
        "ACQ.TRADE_NOT_EXIST" => "交易不存在",
        "ACQ.TRADE_HAS_SUCCESS" => "交易已被支付",
        "ACQ.TRADE_HAS_CLOSE" => "交易已经关闭",
        "ACQ.TRADE_STATUS_ERROR" => "交易状态不合法",
        "ACQ.CONTEXT_INCONSISTENT" => "交易信息被篡改",
        "ACQ.SYSTEM_ERROR" => "系统错误",
        "ACQ.TOTAL_FEE_EXCEED" => "订单总金额超过限额",
        "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL" => "退款金额超限",
        "ACQ.DISCORDANT_REPEAT_REQUEST" => "不一致的请求",
        "ACQ.TRADE_NOT_ALLOW_REFUND" => "当前交易不允许退款",
        "ACQ.CURRENCY_NOT_SUPPORT" => "退款币种不支持",
        "ACQ.PARTNER_ERROR" => "应用APP_ID填写错误",
        "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR" => "当前时间晚于交易超时时间",
        _ => "参数无效",
    };
    Refusal {
        code: sub_code.to_owned(),
        message: message.to_owned(),
        trusted: sub_code.starts_with("ACQ."),
        explanation,
        echo: Vec::new(),
    }
}

fn is_web(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

fn refund_number(text: &str) -> Result<OutRefundNo, Refusal> {
    OutRefundNo::new(text).map_err(|_| invalid("out_request_no: 1 to 64 of 0-9 A-Z a-z _ -"))
}

fn invalid(explanation: &str) -> Refusal {
    no("ACQ.INVALID_PARAMETER", explanation.to_owned())
}

/// The code and message a sub code belongs to (gateways.md 4.3).
pub(super) fn family(sub_code: &str) -> (&'static str, &'static str) {
    if sub_code.contains("unknow-error") {
        ("20000", "Service Currently Unavailable")
    } else if sub_code.starts_with("aop.") {
        ("20001", "Insufficient Authorization Permissions")
    } else if sub_code.contains("call-limited") {
        ("40005", "Call Limited")
    } else if sub_code.starts_with("isv.insufficient") {
        ("40006", "Insufficient Permissions")
    } else if sub_code.starts_with("isv.missing-signature-config") {
        ("40003", "Insufficient Conditions")
    } else if sub_code.starts_with("isv.missing") {
        ("40001", "Missing Required Arguments")
    } else if sub_code.starts_with("isv.") {
        ("40002", "Invalid Arguments")
    } else {
        ("40004", "Business Failed")
    }
}

/// What is served here.
pub(super) const METHODS: [&str; 8] = [
    "alipay.trade.precreate",
    "alipay.trade.app.pay",
    "alipay.trade.wap.pay",
    "alipay.trade.page.pay",
    "alipay.trade.query",
    "alipay.trade.close",
    "alipay.trade.refund",
    "alipay.trade.fastpay.refund.query",
];
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
