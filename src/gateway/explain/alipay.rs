//! Alipay: requests, order strings, notices and return pages as forms, answers as JSON with a signed node
//! (gateways.md 4.2, 4.3, 4.5, 4.7, 4.8). Never shows a private key.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{percent_decode, percent_decode_str};
use serde_json::value::RawValue;

use super::super::keys::{PrivateKey, PublicKey};
use super::message::{self, Message};
use super::search::{Fields, Rule, Way, compact, encoded, right, texts, wrong};
use super::{Cause, Context, Explanation, Key, Kind, NotUnderstood, Trial, Verdict};
use crate::domain::time;

const PROTOCOL: &str = "Alipay";

/// Who signs a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    App,
    Alipay,
}

/// A key that may have signed.
struct Candidate<'a> {
    name: &'a str,
    public: &'a PublicKey,
    private: Option<&'a PrivateKey>,
}

pub(super) fn read(message: &Message, context: &Context<'_>) -> Option<Result<Explanation, NotUnderstood>> {
    let (body, body_is_gbk) = message::text(&message.body)?;
    let trimmed = body.trim_start_matches('\u{feff}').trim();
    if trimmed.starts_with('{') {
        return answer(trimmed, body_is_gbk, context);
    }
    let joined = match message.query() {
        Some(query) if trimmed.is_empty() => query.to_owned(),
        Some(query) => format!("{query}&{trimmed}"),
        None => trimmed.split_once('?').map_or(trimmed, |(_, query)| query).to_owned(),
    };
    if !joined.contains("app_id=") && !joined.contains("sign=") {
        return None;
    }
    let mut hints = Vec::new();
    let (params, is_gbk) = form(joined.trim(), &mut hints);
    if params.len() < 2 {
        return None;
    }
    Some(Ok(of_form(&params, is_gbk, hints, context)))
}

/// Decodes a form once. Values that are GBK show by themselves.
fn form(text: &str, hints: &mut Vec<String>) -> (Fields, bool) {
    let (mut params, mut is_gbk) = (Fields::new(), false);
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut decoded = |part: &str| {
            let spaced = part.replace('+', " ");
            let bytes: Vec<u8> = percent_decode(spaced.as_bytes()).collect();
            let (text, gbk) = message::text(&bytes)
                .unwrap_or_else(|| (String::from_utf8_lossy(&bytes).into_owned(), false));
            is_gbk |= gbk;
            text
        };
        let (name, value) = (decoded(name), decoded(value));
        if let Some(first) = params.get(&name)
            && *first != value
        {
            hints.push(format!("{name} stands twice with two values; only the last is looked at"));
        }
        params.insert(name, value);
    }
    (params, is_gbk)
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn of_form(params: &Fields, is_gbk: bool, hints: Vec<String>, context: &Context<'_>) -> Explanation {
    let method = get(params, "method").unwrap_or_default();
    let (kind, signer) = if get(params, "notify_type").is_some() || get(params, "notify_id").is_some() {
        (format!("notice, {}", get(params, "trade_status").unwrap_or("without trade_status")), Signer::Alipay)
    } else if method.ends_with(".return") {
        ("return page (of no meaning for money)".to_owned(), Signer::Alipay)
    } else if method.is_empty() && get(params, "trade_no").is_some() {
        ("notice, in part".to_owned(), Signer::Alipay)
    } else if method == "alipay.trade.app.pay" {
        ("order string for the app".to_owned(), Signer::App)
    } else {
        (format!("request {method}"), Signer::App)
    };
    let mut explanation = Explanation::new(PROTOCOL, kind);
    explanation.hints = hints;
    let says_gbk =
        get(params, "charset").is_some_and(|charset| charset.to_ascii_lowercase().starts_with("gb"));
    if is_gbk && !says_gbk {
        explanation.hints.push("values are GBK, but charset does not say so".to_owned());
    }
    let sign_type = get(params, "sign_type");
    if sign_type != Some("RSA2") {
        let given = sign_type.unwrap_or("missing");
        explanation.hints.push(format!("sign_type is {given}; it must be RSA2"));
    }
    let skip: &[&str] = if signer == Signer::App { &["sign"] } else { &["sign", "sign_type"] };
    let texts = texts(params, &Rule { skip, gbk: says_gbk, empties_taken: true });
    check(&mut explanation, texts, get(params, "sign"), signer, get(params, "app_id"), context);
    let seller = if signer == Signer::Alipay { get(params, "seller_id") } else { None };
    explanation.check_account(context.keys, ("app_id", "seller_id"), (get(params, "app_id"), seller));
    if signer == Signer::App {
        clock(&mut explanation, params, context);
    }
    explanation
}

/// `timestamp` is Chinese time, whatever the server's is.
fn clock(explanation: &mut Explanation, params: &Fields, context: &Context<'_>) {
    let Some(text) = get(params, "timestamp") else {
        explanation.hints.push("there is no timestamp; every request needs one".to_owned());
        return;
    };
    let Some(at) = time::parse_spaced(text).filter(|_| text.len() == 19) else {
        explanation.hints.push(format!("timestamp {text} is not yyyy-MM-dd HH:mm:ss"));
        return;
    };
    let minutes = context.now.0.saturating_sub(at.0).div_euclid(60_000);
    if (470..=490).contains(&minutes) {
        let words = "timestamp is 8 hours old: written in UTC; Alipay wants +08:00";
        explanation.hints.push(words.to_owned());
    } else if minutes.abs() > 10 {
        let side = if minutes < 0 { "ahead of" } else { "behind" };
        explanation.hints.push(format!(
            "timestamp is {} minutes {side} this machine's clock: an old message, or a stale clock",
            minutes.abs()
        ));
    }
}

/// Tries everything on an RSA2 signature.
fn check(
    explanation: &mut Explanation,
    texts: Vec<Way<Vec<u8>>>,
    sign: Option<&str>,
    signer: Signer,
    app_id: Option<&str>,
    context: &Context<'_>,
) {
    explanation.algorithm = String::from("RSA2 (RSA with SHA-256, PKCS#1 v1.5, base64)");
    let candidates = candidates(context.keys, signer, app_id);
    let own = candidates.first().filter(|way| way.cause.is_none()).map(|way| &way.value);
    explanation.key = own.or(candidates.first().map(|way| &way.value)).map(|key| key.name.to_owned());
    explanation.given = sign.map(str::to_owned);
    if let (Some(private), Some(text)) = (own.and_then(|key| key.private), texts.first()) {
        explanation.expected = Some(STANDARD.encode(private.sign_sha256(&text.value)));
    }
    let Some(sign) = sign else {
        let words = "there is no sign; only failures of the gateway itself may have none";
        explanation.causes.push(Cause { id: "unsigned", words: words.to_owned() });
        let trial = Trial { texts, signatures: Vec::<Way<()>>::new(), keys: candidates };
        trial.run(explanation, context, |_, (), _| false);
        return;
    };
    let opened = who_signed(sign, &candidates);
    let trial = Trial { texts, signatures: signatures(sign), keys: candidates };
    trial.run(explanation, context, |text, signature: &Vec<u8>, key| {
        !signature.is_empty() && key.public.verify_sha256(text, signature)
    });
    if explanation.verdict == Verdict::Wrong && explanation.causes.is_empty() {
        explanation.hints.push(opened);
    }
}

/// What base64 may have become on the way.
fn signatures(sign: &str) -> Vec<Way<Vec<u8>>> {
    let mut ways = vec![right(STANDARD.decode(sign).unwrap_or_default())];
    let white: String = sign.chars().filter(|letter| !letter.is_whitespace()).collect();
    let plus = sign.trim().replace(' ', "+");
    for (id, words, bytes) in [
        (
            "plus-as-space",
            "a + of sign was sent as it is and read as a space; percent-encode it as %2B",
            STANDARD.decode(plus),
        ),
        ("white-space", "there is white space or a line end in sign", STANDARD.decode(white)),
        (
            "encoded-twice",
            "sign was percent-encoded twice; decode it once more",
            STANDARD.decode(percent_decode_str(sign).decode_utf8_lossy().as_bytes()),
        ),
        ("base64url", "sign is base64 for URLs (- and _); it must be plain base64", URL_SAFE.decode(sign)),
        (
            "hex",
            "sign is hex; it must be base64",
            hex::decode(sign).map_err(|_| base64::DecodeError::InvalidLength(0)),
        ),
    ] {
        if let Ok(bytes) = bytes
            && ways.iter().all(|way| way.value != bytes)
        {
            ways.push(wrong(id, words, bytes));
        }
    }
    ways
}

/// A signature opens with one key only, whatever was signed: so a wrong key and a wrong text are told apart.
fn who_signed(sign: &str, candidates: &[Way<Candidate<'_>>]) -> String {
    let ways = signatures(sign);
    let opens = |key: &PublicKey| ways.iter().find_map(|way| key.opened(&way.value));
    match candidates.iter().find_map(|way| Some((&way.value, opens(way.value.public)?))) {
        Some((key, digest)) if digest.len() == 35 => {
            format!("made with the private half of {}, but by the old RSA (SHA-1); use RSA2", key.name)
        }
        Some((key, _)) => format!(
            "made with the private half of {}, over another text: the key is right, a value was changed, \
             added or encoded otherwise",
            key.name
        ),
        None => "a wrong key: none of these made it, whatever was signed".to_owned(),
    }
}

/// Everybody who may have signed, the right ones first.
fn candidates<'a>(keys: &'a [Key], signer: Signer, app_id: Option<&str>) -> Vec<Way<Candidate<'a>>> {
    let ours = |key: &Key| match (&key.account, app_id) {
        (Some((app, _)), Some(theirs)) => app == theirs,
        _ => true,
    };
    let from_files = keys.iter().any(|key| matches!(key.kind, Kind::Private(_) | Kind::Public(_)));
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for key in keys {
        let (by, public, private) = match &key.kind {
            Kind::App(private) => (Some(Signer::App), private.public(), Some(private)),
            Kind::Alipay(public) => (Some(Signer::Alipay), public, None),
            Kind::Private(private) => (None, private.public(), Some(private)),
            Kind::Public(public) => (None, public, None),
            Kind::ApiV2(..) | Kind::ApiV3(_) => continue,
        };
        let candidate = Candidate { name: &key.name, public, private };
        match by {
            None => own.push(right(candidate)),
            // A key that is named on purpose is the right one to try.
            Some(by) if by == signer && ours(key) && !from_files => own.push(right(candidate)),
            Some(by) if by == signer => {
                let words = format!("it was signed with another key: that of {}", key.name);
                others.push(wrong("other-key", words, candidate));
            }
            Some(Signer::App) => {
                let words = format!("it was signed with the app's own key ({}), not with Alipay's", key.name);
                others.push(wrong("key-of-the-other-kind", words, candidate));
            }
            Some(Signer::Alipay) => {
                let words = format!("it was signed with Alipay's key ({}), not with the app's", key.name);
                others.push(wrong("key-of-the-other-kind", words, candidate));
            }
        }
    }
    own.append(&mut others);
    own
}

/// An answer: the node as it stands there is signed, not what it means (gateways.md 4.3).
fn answer(body: &str, is_gbk: bool, context: &Context<'_>) -> Option<Result<Explanation, NotUnderstood>> {
    let members: std::collections::BTreeMap<String, &RawValue> = match serde_json::from_str(body) {
        Ok(members) => members,
        // JSON that is cut off is Alipay's if a node of Alipay's begins in it.
        Err(error) if body.contains("_response\"") => {
            return Some(Err(NotUnderstood(format!("an answer of Alipay, but not whole JSON: {error}"))));
        }
        Err(_) => return None,
    };
    let (name, node) = members.iter().find(|(name, _)| name.ends_with("_response"))?;
    let mut explanation = Explanation::new(PROTOCOL, format!("answer {name}"));
    let raw = node.get();
    let as_sent = message::gbk(raw).filter(|_| is_gbk);
    let mut texts = vec![right(as_sent.unwrap_or_else(|| raw.as_bytes().to_vec()))];
    let again =
        serde_json::from_str::<serde_json::Value>(raw).map(|value| value.to_string()).unwrap_or_default();
    for (id, words, text) in [
        ("re-encoded", "the node was written again with other white space; keep its bytes", compact(raw)),
        ("re-encoded", "the node was parsed and written again; keep its bytes", again),
        ("slashes", "\\/ was rewritten as / in the node, or the other way round", raw.replace("\\/", "/")),
        ("slashes", "\\/ was rewritten as / in the node, or the other way round", raw.replace('/', "\\/")),
        ("trailing-newline", "a line end stood behind the signed text", format!("{raw}\n")),
        (
            "unescaped",
            "the node was escaped (&quot;) after it was signed; undo it",
            raw.replace("&quot;", "\\\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"),
        ),
        ("whole-body", "the whole body was signed; only the node is", body.to_owned()),
    ] {
        if text != raw {
            texts.push(wrong(id, words, text.into_bytes()));
        }
    }
    texts.extend(encoded(raw, is_gbk));
    let sign = members.get("sign").and_then(|sign| serde_json::from_str::<String>(sign.get()).ok());
    let read = serde_json::from_str::<serde_json::Value>(raw).unwrap_or_default();
    let text = |name: &str| read.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    check(&mut explanation, texts, sign.as_deref(), Signer::Alipay, None, context);
    if text("code") != "10000" {
        explanation.hints.push(format!(
            "it says no: {} {} {}",
            text("code"),
            text("sub_code"),
            text("sub_msg")
        ));
    }
    if members.contains_key("alipay_cert_sn") {
        let words = "alipay_cert_sn names the certificate whose key must be tried";
        explanation.hints.push(words.to_owned());
    }
    Some(Ok(explanation))
}
