//! Our half of WeChat v2: what a merchant sends, and what it believes of what comes back.
//! Never takes an unsigned yes. The other half: `gateway`.

use bytes::Bytes;
use http::{Request, Response};

use super::super::keys::Secret;
use super::super::{
    Ack, Call, Fault, Merchant, Notice, Outgoing, Paid, RefundTerms, Reply, Retry, Stamp, Terms, Told, Trade,
    Verified, answer, fen, post,
};
use super::{
    Fields, PayParams, REFUND_DESC_MAX, SignType, clean, clip, get, need, put, read, seal, sealed, sign,
    verify,
};
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
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
    /// The API v2 key, 32 characters.
    pub key: Secret,
    /// How requests are signed, and what answers and notices must be signed with.
    pub sign_type: SignType,
    /// `https://api.mch.weixin.qq.com` or where the emulator listens.
    pub base_url: String,
}

/// Our half.
#[derive(Clone, Debug)]
pub struct WechatV2 {
    config: Config,
    account: String,
}

impl WechatV2 {
    /// For one merchant.
    pub fn new(config: Config) -> Self {
        let account = format!("{}:{}", config.app_id, config.mch_id);
        Self { config, account }
    }

    /// What `getBrandWCPayRequest` takes, and the seed's `push_order` answers (gateways.md 1.4).
    pub fn pay_sign(&self, prepay_id: &str, stamp: &Stamp) -> PayParams {
        let package = format!("prepay_id={prepay_id}");
        let time_stamp = stamp.now.0.div_euclid(1000).to_string();
        let sign_type = self.config.sign_type;
        let mut fields = Fields::new();
        put(&mut fields, "appId", &self.config.app_id);
        put(&mut fields, "timeStamp", &time_stamp);
        put(&mut fields, "nonceStr", &stamp.nonce);
        put(&mut fields, "package", &package);
        put(&mut fields, "signType", sign_type.as_str());
        PayParams {
            app_id: self.config.app_id.clone(),
            time_stamp,
            nonce_str: stamp.nonce.clone(),
            package,
            sign_type: sign_type.as_str().to_owned(),
            pay_sign: sign(&fields, &self.config.key, sign_type),
        }
    }

    /// The fields of `unifiedorder` (gateways.md 1.2). All of them follow from the stored terms, so that a
    /// repetition is identical and gives a fresh code of the same trade.
    fn unified_order(fields: &mut Fields, out_trade_no: &OutTradeNo, terms: &Terms) -> Result<(), Fault> {
        let lacks = |what: &str| Fault::Malformed(format!("{} needs {what}", terms.scene));
        match terms.scene {
            // Required for NATIVE by the documents; any value of ours will do.
            Scene::Native => put(fields, "product_id", out_trade_no.as_str()),
            Scene::Jsapi => {
                let openid = terms.visit.openid.as_ref().ok_or_else(|| lacks("an openid"))?;
                put(fields, "openid", openid.as_str());
            }
            Scene::Mweb => {
                let shop = terms.visit.shop.as_ref().ok_or_else(|| lacks("the shop's address"))?;
                let info = serde_json::json!({
                    "h5_info": { "type": "Wap", "wap_url": shop.url, "wap_name": clean(&shop.name, 64) },
                });
                put(fields, "scene_info", &info.to_string());
            }
            Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
                return Err(Fault::Malformed(format!("{} is not a scene of WeChat v2", terms.scene)));
            }
        }
        put(fields, "body", &terms.title);
        put(fields, "total_fee", &terms.total.get().to_string());
        put(fields, "spbill_create_ip", &terms.client_ip);
        put(fields, "time_expire", &time::compact(terms.time_expire));
        put(fields, "notify_url", &terms.notify_url);
        put(fields, "trade_type", terms.scene.as_str());
        Ok(())
    }

    /// Checks everything that must hold before a field of an answer or notice may be read: the transport
    /// level's yes, the signature, and that it is about us.
    fn trusted(&self, fields: &Fields) -> Result<(), Fault> {
        spoken(fields)?;
        verify(fields, &self.config.key, self.config.sign_type)?;
        self.ours(fields)
    }

    fn ours(&self, fields: &Fields) -> Result<(), Fault> {
        for (name, ours) in [("appid", &self.config.app_id), ("mch_id", &self.config.mch_id)] {
            let theirs = need(fields, name)?;
            if theirs != ours {
                return Err(Fault::ForeignAccount(format!("{name} {}", clip(theirs))));
            }
        }
        Ok(())
    }

    /// A refund notice has no signature; that its content opens with our key is all it has (gateways.md
    /// 1.7). So nothing of it is believed but that the refund is worth a query (5, pitfall 3).
    fn refund_notice(&self, fields: &Fields) -> Result<Verified<Notice>, Fault> {
        let wrong = |name: &str| Fault::Malformed(format!("{name} is not one"));
        spoken(fields)?;
        let told = sealed::open(need(fields, "req_info")?, &self.config.key)?;
        self.ours(fields)?;
        let out_trade_no =
            OutTradeNo::new(need(&told, "out_trade_no")?).map_err(|_| wrong("out_trade_no"))?;
        let out_refund_no =
            OutRefundNo::new(need(&told, "out_refund_no")?).map_err(|_| wrong("out_refund_no"))?;
        Ok(Verified(Notice { out_trade_no, delivery_id: None, told: Told::Refund { out_refund_no } }))
    }
}

impl Merchant for WechatV2 {
    fn account(&self) -> &str {
        &self.account
    }

    fn encode_call(&self, call: &Call, stamp: &Stamp) -> Result<Outgoing, Fault> {
        let mut fields = Fields::new();
        put(&mut fields, "appid", &self.config.app_id);
        put(&mut fields, "mch_id", &self.config.mch_id);
        put(&mut fields, "sign_type", self.config.sign_type.as_str());
        put(&mut fields, "out_trade_no", call.out_trade_no().as_str());
        let path = match call {
            Call::Create { out_trade_no, terms } => {
                Self::unified_order(&mut fields, out_trade_no, terms)?;
                "/pay/unifiedorder"
            }
            Call::Query { .. } => "/pay/orderquery",
            Call::Close { .. } => "/pay/closeorder",
            Call::Refund { refund: terms, .. } => {
                refund(&mut fields, terms);
                "/secapi/pay/refund"
            }
            Call::RefundQuery { out_refund_no, .. } => {
                // One number only: which of two counts is not written anywhere that can be relied on.
                fields.remove("out_trade_no");
                put(&mut fields, "out_refund_no", out_refund_no.as_str());
                "/pay/refundquery"
            }
        };
        let body = seal(fields, &self.config.key, self.config.sign_type, stamp);
        let url = format!("{}{path}", self.config.base_url.trim_end_matches('/'));
        post(&url, "text/xml; charset=utf-8", body).map(Outgoing::Send)
    }

    fn decode_reply(&self, call: &Call, reply: &Response<Bytes>, _now: UnixMillis) -> Result<Reply, Fault> {
        if let Call::Refund { .. } = call
            && wants_certificate(reply.body())
        {
            return Err(Fault::Refused {
                code: format!("HTTP {}", reply.status().as_u16()),
                message: "WeChat Pay takes refunds only over the merchant's API certificate \
                          (apiclient_cert.pem and apiclient_key.pem), and did not get it"
                    .to_owned(),
                retry: Retry::Later,
            });
        }
        if !reply.status().is_success() {
            return Err(Fault::Unknown(format!("HTTP {}", reply.status().as_u16())));
        }
        let fields = read(reply.body())?;
        self.trusted(&fields)?;
        match need(&fields, "result_code")? {
            "SUCCESS" => {}
            "FAIL" => return refused(call, &fields),
            other => return Err(Fault::Malformed(format!("result_code {}", clip(other)))),
        }
        match call {
            Call::Create { terms, .. } => created(&fields, terms).map(Reply::Created),
            Call::Query { out_trade_no } => {
                about(&fields, "out_trade_no", out_trade_no.as_str())?;
                trade(&fields).map(Reply::Trade)
            }
            Call::Close { .. } => Ok(Reply::Closed),
            Call::Refund { out_trade_no, refund } => {
                about(&fields, "out_trade_no", out_trade_no.as_str())?;
                about(&fields, "out_refund_no", refund.out_refund_no.as_str())?;
                about(&fields, "total_fee", &refund.total.get().to_string())?;
                about(&fields, "refund_fee", &refund.amount.get().to_string())?;
                // Accepted, not finished (gateways.md 1.5).
                Ok(Reply::Refund(RefundStanding::Processing))
            }
            Call::RefundQuery { out_trade_no, out_refund_no } => {
                about(&fields, "out_trade_no", out_trade_no.as_str())?;
                refund_standing(&fields, out_refund_no).map(Reply::Refund)
            }
        }
    }

    fn decode_notice(&self, notice: &Request<Bytes>, _now: UnixMillis) -> Result<Verified<Notice>, Fault> {
        let fields = read(notice.body())?;
        if fields.contains_key("req_info") {
            return self.refund_notice(&fields);
        }
        self.trusted(&fields)?;
        // Only successful payments are told (gateways.md 1.6); there is no trade_state.
        let result = need(&fields, "result_code")?;
        if result != "SUCCESS" {
            return Err(Fault::Malformed(format!("result_code {}", clip(result))));
        }
        let paid = paid(&fields)?;
        let out_trade_no = paid.out_trade_no.clone();
        Ok(Verified(Notice { out_trade_no, delivery_id: None, told: Told::Trade(Trade::Paid(paid)) }))
    }
}

/// What the shopper is given: what to scan, what to call WeChat's wallet with, or where to go. WeChat sends
/// the browser back only where the link to its page says so (gateways.md 1.2).
fn created(fields: &Fields, terms: &Terms) -> Result<Code, Fault> {
    let prepay_id = need(fields, "prepay_id")?.to_owned();
    let content = match terms.scene {
        Scene::Jsapi => prepay_id.clone(),
        Scene::Mweb => {
            let mut url = url::Url::parse(need(fields, "mweb_url")?)
                .map_err(|_| Fault::Malformed("mweb_url is not one".to_owned()))?;
            if let Some(back) = &terms.visit.return_url {
                url.query_pairs_mut().append_pair("redirect_url", back);
            }
            url.into()
        }
        Scene::Native | Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
            need(fields, "code_url")?.to_owned()
        }
    };
    Ok(Code { content, prepay_id: Some(prepay_id), until: None })
}

/// The transport level's word (gateways.md 1.1).
fn spoken(fields: &Fields) -> Result<(), Fault> {
    match need(fields, "return_code")? {
        "SUCCESS" => Ok(()),
        // Unsigned by design (gateways.md 1.1), so it is a no for now and never a final one.
        "FAIL" => {
            let message = clip(get(fields, "return_msg").unwrap_or_default());
            Err(Fault::Refused { code: "FAIL".to_owned(), message, retry: Retry::Later })
        }
        other => Err(Fault::Malformed(format!("return_code {}", clip(other)))),
    }
}

/// Refuses an answer in which `name` is not what was asked about.
fn about(fields: &Fields, name: &str, ours: &str) -> Result<(), Fault> {
    let theirs = need(fields, name)?;
    if theirs == ours {
        Ok(())
    } else {
        Err(Fault::Malformed(format!("the answer's {name} is {}, not {ours}", clip(theirs))))
    }
}

/// The fields of `refund` (gateways.md 1.5), all of them from the stored refund.
fn refund(fields: &mut Fields, terms: &RefundTerms) {
    put(fields, "out_refund_no", terms.out_refund_no.as_str());
    put(fields, "total_fee", &terms.total.get().to_string());
    put(fields, "refund_fee", &terms.amount.get().to_string());
    put(fields, "refund_fee_type", "CNY");
    put(fields, "refund_desc", &clean(terms.reason.as_deref().unwrap_or_default(), REFUND_DESC_MAX));
    put(fields, "notify_url", &terms.notify_url);
}

/// Whether this is the web server's page for a connection without a client certificate, which comes before
/// anything of the protocol (gateways.md 1.1). Its exact words are not known.
fn wants_certificate(body: &[u8]) -> bool {
    let head = body.get(..body.len().min(4096)).unwrap_or_default();
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.contains("<html") && text.contains("ssl certificate")
}

/// A signed business failure (gateways.md 1.2, 1.5). Codes are written with and without `_` in the wild.
fn refused(call: &Call, fields: &Fields) -> Result<Reply, Fault> {
    let code = need(fields, "err_code")?;
    let message = get(fields, "err_code_des").unwrap_or_default();
    let retry = match (call, code.replace('_', "").as_str()) {
        (Call::Query { .. }, "ORDERNOTEXIST") => return Ok(Reply::Trade(Trade::Absent)),
        (Call::Close { .. }, "ORDERCLOSED") => return Ok(Reply::Closed),
        (Call::RefundQuery { .. }, "REFUNDNOTEXIST") => return Ok(Reply::Refund(RefundStanding::Absent)),
        (_, "SYSTEMERROR" | "BIZERRNEEDRETRY") => {
            return Err(Fault::Unknown(format!("{} {}", clip(code), clip(message))));
        }
        // Of a refund: there is nothing left to give back, and that stays so.
        (Call::Refund { .. } | Call::RefundQuery { .. }, "TRADESTATEERROR" | "INVALIDREQUEST") => {
            Retry::Never
        }
        (_, "ORDERPAID") => Retry::AlreadyPaid,
        (_, "ORDERCLOSED" | "OUTTRADENOUSED") => Retry::NewNumber,
        // One code for two things: the number is taken, or the request is wrong.
        (_, "INVALIDREQUEST") if message.contains("201") || message.contains("订单号重复") => {
            Retry::NewNumber
        }
        (
            _,
            "FREQUENCYLIMITED" | "FREQUENCYLIMIT" | "INVALIDREQTOOMUCH" | "NOTENOUGH" | "ORDERNOTREADY"
            | "TRADESTATEERROR",
        ) => Retry::Later,
        _ => Retry::Never,
    };
    Err(Fault::Refused { code: clip(code), message: clip(message), retry })
}

/// The state of a queried trade (gateways.md 7). A state we do not know is waiting.
fn trade(fields: &Fields) -> Result<Trade, Fault> {
    match need(fields, "trade_state")? {
        // REFUND: any refund happened, so it was paid.
        "SUCCESS" | "REFUND" => paid(fields).map(Trade::Paid),
        "CLOSED" | "REVOKED" => Ok(Trade::Closed),
        _ => Ok(Trade::Waiting),
    }
}

/// The state of a queried refund. The answer is a list; ours is where its number stands (gateways.md 1.5).
fn refund_standing(fields: &Fields, ours: &OutRefundNo) -> Result<RefundStanding, Fault> {
    let nth = fields.iter().find_map(|(name, value)| {
        let nth = name.strip_prefix("out_refund_no_")?;
        let digits = !nth.is_empty() && nth.bytes().all(|b| b.is_ascii_digit());
        (digits && value == ours.as_str()).then_some(nth)
    });
    let nth = nth.ok_or_else(|| Fault::Malformed(format!("the answer does not hold {ours}")))?;
    match need(fields, &format!("refund_status_{nth}"))? {
        "SUCCESS" => {
            let at = get(fields, &format!("refund_success_time_{nth}"));
            Ok(RefundStanding::Succeeded { at: at.and_then(time::parse_spaced) })
        }
        // CHANGE: it came back from the shopper's bank, and a person must send it another way.
        failed @ ("REFUNDCLOSE" | "CHANGE") => Ok(RefundStanding::Failed { code: failed.to_owned() }),
        _ => Ok(RefundStanding::Processing),
    }
}

/// The money of a paid trade. Half a payment is none: every field must be there.
fn paid(fields: &Fields) -> Result<Paid, Fault> {
    let wrong = |name: &str| Fault::Malformed(format!("{name} is not one"));
    if let Some(currency) = get(fields, "fee_type")
        && currency != "CNY"
    {
        return Err(Fault::Malformed(format!("fee_type {}", clip(currency))));
    }
    Ok(Paid {
        out_trade_no: OutTradeNo::new(need(fields, "out_trade_no")?).map_err(|_| wrong("out_trade_no"))?,
        transaction_id: TransactionId::new(need(fields, "transaction_id")?)
            .map_err(|_| wrong("transaction_id"))?,
        // The order amount, not cash_fee or settlement_total_fee, which coupons lower (pitfall 5).
        total: fen(need(fields, "total_fee")?).ok_or_else(|| wrong("total_fee"))?,
        paid_at: time::parse_compact(need(fields, "time_end")?).ok_or_else(|| wrong("time_end"))?,
    })
}

/// The answer to a notice, word for word (gateways.md 1.6), with HTTP 200 also for a failure.
pub fn encode_ack(ack: Ack) -> Response<Bytes> {
    let body = match ack {
        Ack::Accepted => {
            "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>"
        }
        Ack::Failed | Ack::Untrusted => {
            "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[ERROR]]></return_msg></xml>"
        }
    };
    answer("text/xml; charset=utf-8", body)
}
