//! WeChat v2: XML with MD5 or HMAC-SHA256, what a page hands to WeChat's browser, and sealed refund notices
//! (gateways.md 1.3, 1.4, 1.7). Never shows the key that stands in the signed text.

use aws_lc_rs::hmac;
use md5::{Digest, Md5};

use super::super::keys::Secret;
use super::super::wechat_v2::{SignType, open_refund, sign_text};
use super::super::xml;
use super::message::{self, Message};
use super::search::{Fields, Rule, Way, right, texts, wrong};
use super::{Cause, Context, Explanation, Key, Kind, NotUnderstood, Trial, Verdict};

const PROTOCOL: &str = "WeChat Pay v2";

/// How a MAC may have been made.
struct Maker {
    key: Secret,
    name: String,
    sign_type: SignType,
    tail: Tail,
}

/// What may stand behind the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// `&key=…`.
    Key,
    /// The same, and the line end of the file that the key came from.
    KeyLine,
    /// Nothing.
    None,
}

pub(super) fn read(message: &Message, context: &Context<'_>) -> Option<Result<Explanation, NotUnderstood>> {
    let (text, is_gbk) = message::text(&message.body)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Some(params) = pay_params(text) {
        return Some(Ok(of_page(&params, context)));
    }
    if !text.starts_with('<') {
        return None;
    }
    // A declaration of another charset would stop the reader, which takes UTF-8 only.
    let text = match text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) if is_gbk => rest,
        _ => text,
    };
    let fields = match xml::read(text.as_bytes(), "xml") {
        Ok(fields) => fields,
        Err(error) => return Some(Err(NotUnderstood(format!("XML, but not WeChat's: {error}")))),
    };
    let mut explanation = if fields.contains_key("req_info") {
        refund_notice(&fields, context)
    } else {
        signed(&fields, kind(message, &fields), context)
    };
    if is_gbk {
        explanation.hints.push("the message is in GBK; WeChat takes and sends UTF-8 only".to_owned());
    }
    let theirs = (get(&fields, "appid"), get(&fields, "mch_id"));
    explanation.check_account(context.keys, ("appid", "mch_id"), theirs);
    Some(Ok(explanation))
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// What kind of message it is: by its path, or by the fields that only that kind has.
fn kind(message: &Message, fields: &Fields) -> String {
    let has = |name: &str| get(fields, name).is_some();
    if let Some(path) =
        message.path().filter(|path| path.starts_with("/pay/") || path.starts_with("/secapi/"))
    {
        return format!("request to {path}");
    }
    if !has("return_code") {
        let guess = match () {
            () if has("refund_fee") => "refund",
            () if has("trade_type") => "unifiedorder",
            () if has("bill_date") => "downloadbill",
            () if has("out_refund_no") || has("refund_id") => "refundquery",
            () => "orderquery or closeorder",
        };
        return format!("request, by its fields {guess}");
    }
    let guess = match () {
        () if get(fields, "return_code") == Some("FAIL") => "answer: refused",
        () if get(fields, "result_code") == Some("FAIL") => "answer: business failure",
        () if has("prepay_id") => "answer to unifiedorder",
        () if has("trade_state") => "answer to orderquery",
        () if has("refund_count") => "answer to refundquery",
        () if has("refund_id") => "answer to refund",
        () if has("transaction_id") && has("time_end") => "payment notice",
        () => "answer",
    };
    guess.to_owned()
}

/// A message with a `sign` over all its fields.
fn signed(fields: &Fields, kind: String, context: &Context<'_>) -> Explanation {
    let mut explanation = Explanation::new(PROTOCOL, kind);
    let is_request = get(fields, "return_code").is_none();
    let named = get(fields, "sign_type").map(str::parse::<SignType>);
    if let Some(Err(_)) = named {
        explanation.hints.push("sign_type is not MD5 or HMAC-SHA256".to_owned());
    }
    let sign = get(fields, "sign");
    if sign.is_none() {
        let words = match get(fields, "return_code") {
            Some("FAIL") => {
                "there is no sign; WeChat signs no return_code FAIL, so nothing of it can be trusted"
            }
            _ => "there is no sign; a message without one must be taken as forged",
        };
        explanation.causes.push(Cause { id: "unsigned", words: words.to_owned() });
    }
    let account = (get(fields, "appid"), get(fields, "mch_id"));
    let sign_type = |key: Option<SignType>| match named {
        Some(Ok(named)) => named,
        // What is not named is MD5 in a request; in what comes back it is what the merchant uses.
        _ if is_request => SignType::Md5,
        _ => key.unwrap_or(if sign.is_some_and(|sign| sign.len() == 64) {
            SignType::HmacSha256
        } else {
            SignType::Md5
        }),
    };
    let rule = Rule { skip: &["sign"], gbk: false, empties_taken: false };
    check(&mut explanation, texts(fields, &rule), sign, account, context, sign_type);
    explanation
}

/// What SDKs log as the signed text of v2 ends with the key; ours is compared without it.
fn without_key(text: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"&key=";
    let at = text.windows(NAME.len()).rposition(|part| part == NAME);
    let rest = at.and_then(|at| text.get(at + NAME.len()..)).map(<[u8]>::trim_ascii_end);
    let is_key = rest.is_some_and(|rest| rest.len() == 32 && rest.iter().all(u8::is_ascii_alphanumeric));
    at.filter(|_| is_key).and_then(|at| text.get(..at)).unwrap_or(text)
}

/// Tries everything on a signature under an API key.
fn check(
    explanation: &mut Explanation,
    texts: Vec<Way<Vec<u8>>>,
    sign: Option<&str>,
    account: (Option<&str>, Option<&str>),
    context: &Context<'_>,
    sign_type: impl Fn(Option<SignType>) -> SignType,
) {
    let keys = makers(context.keys, account, sign_type);
    let own = keys.first().filter(|way| way.cause.is_none()).map(|way| &way.value);
    let shown = own.or(keys.first().map(|way| &way.value));
    explanation.algorithm = match shown {
        Some(maker) => maker.sign_type.as_str().to_owned(),
        None => "MD5 or HMAC-SHA256".to_owned(),
    };
    explanation.key = shown.map(|maker| maker.name.clone());
    explanation.given = sign.map(str::to_owned);
    if let (Some(maker), Some(text)) = (own, texts.first()) {
        explanation.expected = Some(mac(&text.value, maker));
    }
    let given = sign.unwrap_or_default();
    let mut signatures = vec![right(given.to_owned())];
    if given.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let words = "the signature is in lower case; it must be upper-case hex";
        signatures.push(wrong("lower-case", words, given.to_ascii_uppercase()));
    }
    if given.trim() != given {
        let words = "there is white space around the signature";
        signatures.push(wrong("white-space", words, given.trim().to_owned()));
    }
    if sign.is_none() {
        signatures.clear();
    }
    let trial = Trial { texts, signatures, keys };
    let context = Context { theirs: context.theirs.map(without_key), ..*context };
    trial.run(explanation, &context, |text, sign: &String, maker| mac(text, maker) == *sign);
    explanation.signed_text.push_str("&key=***");
    if explanation.verdict == Verdict::Wrong && sign.is_some() && explanation.causes.is_empty() {
        explanation.hints.push(
            "most likely another API v2 key (was it reset at the merchant platform?), or a value that was \
             changed after signing"
                .to_owned(),
        );
    }
}

/// Everybody who may have signed, the right one first.
fn makers(
    keys: &[Key],
    account: (Option<&str>, Option<&str>),
    sign_type: impl Fn(Option<SignType>) -> SignType,
) -> Vec<Way<Maker>> {
    // Without a merchant number the app must do: a page's parameters have none.
    let ours = |(app, merchant): &(String, String)| match account {
        (_, Some(theirs)) => merchant == theirs,
        (Some(theirs), None) => app == theirs,
        (None, None) => true,
    };
    let of_file = keys.iter().any(|key| key.account.is_none() && matches!(key.kind, Kind::ApiV2(..)));
    let mut ways = Vec::new();
    for key in keys {
        let (secret, wanted, id) = match &key.kind {
            Kind::ApiV2(secret, configured) => {
                // A key that is named on purpose is the right one to try.
                let own = if of_file { key.account.is_none() } else { key.account.as_ref().is_none_or(ours) };
                (secret, sign_type(*configured), if own { None } else { Some("other-key") })
            }
            Kind::ApiV3(secret) => (secret, sign_type(None), Some("api-v3-key")),
            Kind::App(_) | Kind::Alipay(_) | Kind::Private(_) | Kind::Public(_) => continue,
        };
        let words = match id {
            Some("other-key") => format!("it was signed with another merchant's key: {}", key.name),
            _ => format!("it was signed with the API v3 key ({}); v2 takes the API v2 key", key.name),
        };
        for made in SignType::ALL.iter().copied() {
            for tail in [Tail::Key, Tail::KeyLine, Tail::None] {
                let maker = Maker { key: secret.clone(), name: key.name.clone(), sign_type: made, tail };
                let mistake = mistake(made, wanted, tail);
                match (id, mistake) {
                    (None, None) => ways.insert(0, right(maker)),
                    (Some(id), None) => ways.push(wrong(id, words.clone(), maker)),
                    // One mistake of the key at a time.
                    (None, Some((id, words))) => ways.push(wrong(id, words, maker)),
                    (Some(_), Some(_)) => {}
                }
            }
        }
    }
    ways
}

/// What is wrong with signing so, if it is one thing.
fn mistake(made: SignType, wanted: SignType, tail: Tail) -> Option<(&'static str, String)> {
    match (made == wanted, tail) {
        (true, Tail::Key) => None,
        (true, Tail::KeyLine) => {
            let words = "the key was read with the line end of its file; trim it";
            Some(("key-with-newline", words.to_owned()))
        }
        (true, Tail::None) => Some(("no-key", "the text was signed without &key=… at its end".to_owned())),
        (false, Tail::Key) => {
            let words =
                format!("it was signed with {made}, but the message or the configuration says {wanted}");
            Some(("algorithm", words))
        }
        (false, _) => {
            Some(("algorithm-and-key", format!("it was signed with {made}, and not with the bare key")))
        }
    }
}

/// Upper-case hex.
fn mac(text: &[u8], maker: &Maker) -> String {
    let key = maker.key.expose();
    let mut whole = zeroize::Zeroizing::new(text.to_vec());
    match maker.tail {
        Tail::Key => whole.extend_from_slice(format!("&key={key}").as_bytes()),
        Tail::KeyLine => whole.extend_from_slice(format!("&key={key}\n").as_bytes()),
        Tail::None => {}
    }
    match (maker.tail, maker.sign_type) {
        (Tail::Key, sign_type) => sign_text(&whole, &maker.key, sign_type),
        (_, SignType::Md5) => hex::encode_upper(Md5::digest(&*whole)),
        (tail, SignType::HmacSha256) => {
            let line = if tail == Tail::KeyLine { "\n" } else { "" };
            let key = zeroize::Zeroizing::new(format!("{key}{line}"));
            hex::encode_upper(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &whole))
        }
    }
}

/// The five fields and the signature that a page hands over (gateways.md 1.4), alone or inside `data`.
fn pay_params(text: &str) -> Option<Fields> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let object = value.get("data").unwrap_or(&value).as_object()?;
    object.get("paySign")?;
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(object.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn of_page(params: &Fields, context: &Context<'_>) -> Explanation {
    let mut explanation = Explanation::new(PROTOCOL, "parameters for WeChat's browser (paySign)");
    let signed: Fields = ["appId", "timeStamp", "nonceStr", "package", "signType"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), params.get(*name)?.clone())))
        .collect();
    let named = get(params, "signType");
    if named == Some("RSA") {
        explanation
            .hints
            .push("signType RSA is WeChat v3's; here only MD5 and HMAC-SHA256 are tried".to_owned());
    }
    let named = named.and_then(|named| named.parse().ok());
    let mut texts = texts(&signed, &Rule { skip: &["paySign"], gbk: false, empties_taken: false });
    let lower: Fields = signed.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let rule = Rule { skip: &["signtype"], gbk: false, empties_taken: false };
    if let Some(way) = super::search::texts(&lower, &rule).into_iter().next() {
        let words =
            "it was signed as an app's is, with lower-case names; a page's names are appId, timeStamp, …";
        texts.push(wrong("lower-case-names", words, way.value));
    }
    let account = (get(params, "appId"), None);
    check(&mut explanation, texts, get(params, "paySign"), account, context, |key| {
        named.or(key).unwrap_or(SignType::Md5)
    });
    explanation.check_account(context.keys, ("appId", ""), account);
    explanation
}

/// A refund notice: not signed, sealed. That it opens is all there is to check (gateways.md 1.7).
fn refund_notice(fields: &Fields, context: &Context<'_>) -> Explanation {
    let mut explanation = Explanation::new(PROTOCOL, "refund notice (sealed, without a signature)");
    explanation.algorithm = String::from("AES-256-ECB, key: the API v2 key's MD5 in lower-case hex");
    let sealed = get(fields, "req_info").unwrap_or_default();
    explanation.given = Some(format!("req_info, {} characters", sealed.len()));
    let keys = makers(context.keys, (get(fields, "appid"), get(fields, "mch_id")), |_| SignType::Md5);
    explanation.key = keys.first().map(|way| way.value.name.clone());
    let signatures = vec![
        right(sealed.to_owned()),
        wrong("plus-as-space", "a + of req_info became a space on the way", sealed.trim().replace(' ', "+")),
    ];
    let trial = Trial { texts: vec![right(Vec::new())], signatures, keys };
    // Nothing is signed, so nobody says what was.
    let context = Context { theirs: None, ..*context };
    trial.run(&mut explanation, &context, |_, sealed: &String, maker| {
        maker.tail == Tail::Key
            && maker.sign_type == SignType::Md5
            && open_refund(sealed, &maker.key).is_some()
    });
    if explanation.verdict == Verdict::Wrong && explanation.causes.is_empty() {
        explanation.hints.push("it opens with none of the keys: another API v2 key, or damaged".to_owned());
    }
    explanation
        .hints
        .push("a refund notice has no signature: ask for the refund before it is booked".to_owned());
    explanation
}
