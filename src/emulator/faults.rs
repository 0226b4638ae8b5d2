//! Trouble on demand: what `PUT /faults` asks for, when each fault strikes, and how it bends bytes.
//! Never touches the ledger: a fault may lose or spoil a message, what the gateway knows stays true
//! (`refund_closed` is a gateway's own decision, and in the ledger).
//! The schema is contract.md 7's; `protocol` and `notices` ask `strike` once for each message.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};

use crate::domain::id::Channel;
use crate::runtime::random;

/// One fault as given and shown. `rate` or `count` limits it; with neither it always strikes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which messages: one of [`POINTS`].
    pub on: String,
    /// What happens to them: one of [`NOTICE_KINDS`] or [`CALL_KINDS`].
    pub kind: String,
    /// How often, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// How many times still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Real milliseconds, for `delay`, `delay_after` and `reorder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How many copies, for `duplicate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u32>,
    /// Whether those copies leave at the same moment (they do unless told otherwise).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<bool>,
    /// The HTTP status, for `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The amount in fen, for `wrong_amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
    /// Makes `rate` strike the same messages again; drawn if not given, and shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How many messages were looked at, for `rate`.
    #[serde(skip)]
    seen: u64,
}

/// What happens to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A notice is not sent; to the gateway it went unanswered.
    Drop,
    /// Several copies of a notice.
    Duplicate {
        /// How many.
        copies: u32,
        /// At the same moment, or one after the other.
        parallel: bool,
    },
    /// Real milliseconds of waiting: before a notice leaves, or before a call has its effect, which it then
    /// has even if the caller has gone.
    Delay(u64),
    /// A refund that the gateway cannot do: WeChat accepts it and closes it, Alipay refuses it.
    RefundClosed,
    /// A notice waits for a later one to overtake it, at most so many real milliseconds.
    Reorder(u64),
    /// A rightly signed notice of another amount in fen; `None`: one fen more.
    WrongAmount(Option<i64>),
    /// A rightly signed notice of another merchant.
    OtherMerchant,
    /// Signed with a key that is not the gateway's.
    Forged,
    /// Without a signature.
    Unsigned,
    /// Cut in the middle.
    Truncated,
    /// An HTTP status and a page in place of the answer; nothing else happens.
    Status(u16),
    /// `SYSTEMERROR` / `20000`; nothing else happens, which the caller cannot know.
    SystemError,
    /// The connection ends before the call has an effect.
    CutBefore,
    /// The connection ends after the call had its effect.
    CutAfter,
    /// An HTTP status and a page in place of the answer, after the call had its effect.
    StatusAfter(u16),
    /// The answer comes so many real milliseconds after the call had its effect.
    DelayAfter(u64),
}

/// All faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    list: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Puts these in place of all others.
    ///
    /// # Errors
    /// A sentence that names what is wrong and what is known; then nothing changes.
    pub fn replace(&self, mut list: Vec<Fault>) -> Result<(), String> {
        for fault in &mut list {
            fault.check()?;
        }
        *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }

    /// The faults in force, with what is left of their counts.
    pub fn list(&self) -> Vec<Fault> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happens to the next message at any of these points: the first fault that strikes. One message
    /// is struck once at most, and rates add up: three of 0.1 strike three messages in ten.
    pub fn strike(&self, points: &[&str]) -> Option<Strike> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spent = 0.0;
        let mut here = list.iter_mut().filter(|fault| points.contains(&fault.on.as_str()));
        let hit = here.find_map(|fault| fault.roll(&mut spent));
        list.retain(|fault| fault.count != Some(0));
        hit
    }
}

impl Fault {
    fn check(&mut self) -> Result<(), String> {
        self.kind = canonical(&self.kind);
        if self.on == "*" {
            ANY_CALL.clone_into(&mut self.on);
        }
        if !POINTS.contains(&self.on.as_str()) {
            return Err(format!("unknown \"on\": {:?}; known: {}", self.on, POINTS.join(", ")));
        }
        let kinds = if self.on.ends_with("notify") { NOTICE_KINDS } else { CALL_KINDS };
        if !kinds.contains(&self.kind.as_str()) {
            let known = kinds.join(", ");
            return Err(format!("unknown \"kind\" on {}: {:?}; known: {known}", self.on, self.kind));
        }
        if FOR_BROWSERS.contains(&self.on.as_str()) && ["forged", "unsigned"].contains(&self.kind.as_str()) {
            return Err(format!("nothing on {} is signed", self.on));
        }
        if self.kind == REFUND_CLOSED && !self.on.ends_with(".refund") {
            return Err(format!("{REFUND_CLOSED} strikes wx.refund and alipay.trade.refund only"));
        }
        if self.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("\"rate\" must be between 0 and 1".to_owned());
        }
        if self.rate.is_some() && self.count.is_some() {
            return Err("give \"rate\" or \"count\", not both".to_owned());
        }
        if self.copies.is_some_and(|copies| !(1..=MAX_COPIES).contains(&copies)) {
            return Err(format!("\"copies\" must be between 1 and {MAX_COPIES}"));
        }
        if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("\"status\" must be between 200 and 599".to_owned());
        }
        if self.value.is_some_and(|fen| crate::domain::money::Fen::new(fen).is_err()) {
            return Err("\"value\" must be an amount in fen".to_owned());
        }
        if self.seed.is_none() && self.rate.is_some() {
            let drawn = random::bytes::<4>().map_err(|error| error.to_string())?;
            self.seed = Some(u64::from(u32::from_le_bytes(drawn)));
        }
        Ok(())
    }

    /// `spent`: the rates of the faults that have let this message pass.
    fn roll(&mut self, spent: &mut f64) -> Option<Strike> {
        if let Some(left) = &mut self.count {
            *left = left.checked_sub(1)?;
        }
        if let (Some(rate), Some(seed)) = (self.rate, self.seed) {
            self.seen = self.seen.wrapping_add(1);
            let left = 1.0 - *spent;
            *spent += rate;
            if chance(seed, self.seen) * left >= rate {
                return None;
            }
        }
        Some(match self.kind.as_str() {
            "drop" => Strike::Drop,
            "duplicate" => Strike::Duplicate {
                copies: self.copies.unwrap_or(2),
                parallel: self.parallel.unwrap_or(true),
            },
            "delay" => Strike::Delay(self.delay_ms.unwrap_or(1000)),
            REFUND_CLOSED => Strike::RefundClosed,
            "reorder" => Strike::Reorder(self.delay_ms.unwrap_or(5000)),
            "wrong_amount" => Strike::WrongAmount(self.value),
            "other_merchant" => Strike::OtherMerchant,
            "forged" => Strike::Forged,
            "unsigned" => Strike::Unsigned,
            "truncated" => Strike::Truncated,
            "429" => Strike::Status(429),
            "systemerror" => Strike::SystemError,
            "cut_before" => Strike::CutBefore,
            "cut_after" => Strike::CutAfter,
            "status_after" => Strike::StatusAfter(self.status.unwrap_or(502)),
            "delay_after" => Strike::DelayAfter(self.delay_ms.unwrap_or(1000)),
            _ => Strike::Status(self.status.unwrap_or(500)),
        })
    }
}

/// The names under which faults reach a notice of this gateway.
pub const fn notice_points(channel: Channel) -> [&'static str; 2] {
    match channel {
        Channel::Wx => ["wx.notify", "notify"],
        Channel::Ali => ["alipay.notify", "notify"],
    }
}

/// The notice without what makes it trusted: XML's `<sign>` element (of a refund: `<req_info>`), the form's
/// `sign` field.
pub fn unsign_notice(notice: Request<Bytes>) -> Request<Bytes> {
    notice.map(|body| unsigned(&body))
}

/// The answer without its signature: XML's `<sign>` element, JSON's last `"sign"` field.
pub fn unsign_answer(answer: Response<Bytes>) -> Response<Bytes> {
    resized(answer.map(|body| unsigned(&body)))
}

/// The first half of the bytes.
pub fn halve(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

/// After its body was changed an answer must not claim the old length.
pub fn resized(mut answer: Response<Bytes>) -> Response<Bytes> {
    answer.headers_mut().remove(http::header::CONTENT_LENGTH);
    answer
}

fn unsigned(body: &Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(body) else { return body.clone() };
    let cut = |from: usize, to: usize| {
        let (head, tail) = (text.get(..from).unwrap_or_default(), text.get(to..).unwrap_or_default());
        Bytes::from(format!("{head}{tail}"))
    };
    let element =
        |opening: &str, closing: &str| Some((text.find(opening)?, text.find(closing)? + closing.len()));
    let xml = element("<sign>", "</sign>").or_else(|| element("<req_info>", "</req_info>"));
    match (xml, text.find(",\"sign\":")) {
        (Some((from, to)), _) => cut(from, to),
        (None, Some(from)) => cut(from, text.len().saturating_sub(1)),
        _ => {
            let kept = text.split('&').filter(|pair| !pair.starts_with("sign="));
            Bytes::from(kept.collect::<Vec<_>>().join("&"))
        }
    }
}

/// `wrong amount`, `wrong-amount` and `WRONG_AMOUNT` are one word; some have a second name.
fn canonical(kind: &str) -> String {
    let word = kind.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    match word.as_str() {
        "20000" | "system_error" => "systemerror".to_owned(),
        "connection_cut_before" => "cut_before".to_owned(),
        "connection_cut_after" => "cut_after".to_owned(),
        _ => word,
    }
}

/// The `n`-th number of the sequence `seed`, in 0..1 (splitmix64).
fn chance(seed: u64, n: u64) -> f64 {
    let mut x = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    f64::from(u32::try_from(x >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
}

/// Strikes every call; `*` is another name for it.
pub const ANY_CALL: &str = "call";

/// Where faults can strike.
pub const POINTS: &[&str] = &[
    "notify",
    "wx.notify",
    "alipay.notify",
    ANY_CALL,
    "wx.unifiedorder",
    "wx.orderquery",
    "wx.closeorder",
    "wx.refund",
    "wx.refundquery",
    "alipay.trade.precreate",
    "alipay.trade.query",
    "alipay.trade.close",
    "alipay.trade.refund",
    "alipay.trade.fastpay.refund.query",
    "wx.oauth2.authorize",
    "wx.oauth2.access_token",
    "wx.checkmweb",
    "alipay.trade.wap.pay",
    "alipay.trade.page.pay",
];

/// Answers to browsers, and what is about them: nothing there is signed.
const FOR_BROWSERS: &[&str] = &[
    "wx.oauth2.authorize",
    "wx.oauth2.access_token",
    "wx.checkmweb",
    "alipay.trade.wap.pay",
    "alipay.trade.page.pay",
];

/// What can happen to a notice.
pub const NOTICE_KINDS: &[&str] = &[
    "drop",
    "duplicate",
    "delay",
    "reorder",
    "wrong_amount",
    "other_merchant",
    "forged",
    "unsigned",
    "truncated",
];

/// What can happen to a call.
pub const CALL_KINDS: &[&str] = &[
    "status",
    "5xx",
    "429",
    "systemerror",
    "cut_before",
    "cut_after",
    "status_after",
    "delay_after",
    "delay",
    "forged",
    "unsigned",
    "truncated",
    REFUND_CLOSED,
];

const REFUND_CLOSED: &str = "refund_closed";

/// The most copies of one notice.
pub const MAX_COPIES: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(json: &str) -> Result<Faults, String> {
        let faults = Faults::default();
        faults.replace(serde_json::from_str(json).map_err(|error| error.to_string())?)?;
        Ok(faults)
    }

    #[test]
    fn unknown_words_are_named_with_the_known_ones() {
        for (json, word) in [
            (r#"[{"on":"refund","kind":"drop"}]"#, "wx.unifiedorder"),
            (r#"[{"on":"notify","kind":"explode"}]"#, "wrong_amount"),
            (r#"[{"on":"wx.orderquery","kind":"drop"}]"#, "cut_after"),
            (r#"[{"on":"notify","kind":"drop","colour":1}]"#, "colour"),
            (r#"[{"on":"wx.orderquery","kind":"refund_closed"}]"#, "wx.refund"),
            (r#"[{"on":"notify","kind":"drop","rate":2}]"#, "rate"),
            (r#"[{"on":"notify","kind":"duplicate","copies":0}]"#, "copies"),
        ] {
            let refused = put(json).unwrap_err();
            assert!(refused.contains(word), "{json}: {refused}");
        }
    }

    #[test]
    fn a_count_runs_out() {
        let faults = put(r#"[{"on":"notify","kind":"wrong amount","count":2,"value":5}]"#).unwrap();
        assert_eq!(faults.strike(&["wx.unifiedorder", "call"]), None);
        let points = notice_points(Channel::Ali);
        assert_eq!(faults.strike(&points), Some(Strike::WrongAmount(Some(5))));
        assert_eq!(faults.list().first().and_then(|fault| fault.count), Some(1));
        assert_eq!(faults.strike(&points), Some(Strike::WrongAmount(Some(5))));
        assert_eq!(faults.strike(&points), None);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_rate_repeats_with_its_seed() {
        let run = || {
            let faults = put(r#"[{"on":"call","kind":"503","rate":0.25,"seed":7}]"#);
            assert!(faults.is_err(), "503 is a status, not a kind");
            let faults = put(r#"[{"on":"call","kind":"status","status":503,"rate":0.25,"seed":7}]"#).unwrap();
            (0..400).map(|_| faults.strike(&["call"]).is_some()).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((70..130).contains(&hits), "{hits} of 400");
    }

    #[test]
    fn rates_of_any_call_add_up() {
        let faults = put(
            r#"[{"on":"*","kind":"cut_after","rate":0.1,"seed":1},{"on":"*","kind":"5xx","rate":0.1,"seed":2},
                {"on":"*","kind":"delay","delay_ms":5,"rate":0.1,"seed":3}]"#,
        );
        let faults = faults.unwrap();
        let points = ["wx.refund", ANY_CALL];
        let struck: Vec<Strike> = (0..10_000).filter_map(|_| faults.strike(&points)).collect();
        assert!((2_850..3_150).contains(&struck.len()), "{} of 10000", struck.len());
        for strike in [Strike::CutAfter, Strike::Status(500), Strike::Delay(5)] {
            let share = struck.iter().filter(|one| **one == strike).count();
            assert!((900..1_100).contains(&share), "{share} of 10000: {strike:?}");
        }
        assert!(faults.list().iter().all(|fault| fault.on == ANY_CALL), "one name");
        assert_eq!(faults.strike(&["notify"]), None);
    }

    #[test]
    fn signatures_are_taken_out() {
        for (signed, bare) in [
            ("<xml><a>1</a><sign>AB</sign><b>2</b></xml>", "<xml><a>1</a><b>2</b></xml>"),
            ("<xml><a>1</a><req_info>AB=</req_info></xml>", "<xml><a>1</a></xml>"),
            ("a=1&sign=x%3D&sign_type=RSA2", "a=1&sign_type=RSA2"),
            (r#"{"x_response":{"a":1},"sign":"AB="}"#, r#"{"x_response":{"a":1}}"#),
        ] {
            assert_eq!(unsigned(&Bytes::from_static(signed.as_bytes())), bare);
        }
    }
}
