//! Every cause, made on messages of other people's code, and found again by name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::Value;

use super::super::testing::{NODE, NOW, OFFICIAL, PYTHON, alipay_key, app_key, vectors};
use super::*;

const API_KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const OTHER_API_KEY: &str = "00000000000000000000000000000000";

fn key(name: &str, account: (&str, &str), kind: Kind) -> Key {
    let account = Some((account.0.to_owned(), account.1.to_owned()));
    Key { name: name.to_owned(), account, kind }
}

/// A configuration with the merchant of the vectors and another one.
fn keys() -> Keys {
    let (wechat, alipay) = (("wxd930ea5d5a258f4f", "10000100"), ("2014072300007148", "2088102146225135"));
    Keys(vec![
        key("mall v2", wechat, Kind::ApiV2(Secret::new(API_KEY), Some(SignType::Md5))),
        key("mall v3", wechat, Kind::ApiV3(Secret::new("0123456789abcdef0123456789abcdef"))),
        key("other v2", ("wx2", "2"), Kind::ApiV2(Secret::new(OTHER_API_KEY), Some(SignType::Md5))),
        key("mall app", alipay, Kind::App(app_key())),
        key("mall alipay", alipay, Kind::Alipay(alipay_key().public().clone())),
    ])
}

fn told(text: &[u8]) -> Explanation {
    let explanation = explain(text, &keys(), None, NOW).unwrap();
    let shown = format!("{explanation}{}", serde_json::to_string(&explanation).unwrap());
    for secret in [API_KEY, OTHER_API_KEY, "0123456789abcdef0123456789abcdef", "PRIVATE"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    explanation
}

fn ids(explanation: &Explanation) -> Vec<&'static str> {
    explanation.causes.iter().map(|cause| cause.id).collect()
}

fn right_by(text: &[u8]) -> Explanation {
    let explanation = told(text);
    assert_eq!(explanation.verdict, Verdict::Right, "{explanation}");
    assert_eq!((ids(&explanation), &explanation.first_difference), (vec![], &None), "{explanation}");
    explanation
}

#[track_caller]
fn wrong_by(text: &[u8], causes: &[&str]) -> Explanation {
    let explanation = told(text);
    assert_eq!(
        (explanation.verdict, ids(&explanation).as_slice()),
        (Verdict::Wrong, causes),
        "{explanation}"
    );
    explanation
}

fn md5(text: &str) -> String {
    hex::encode_upper(Md5::digest(text))
}

fn xml_of(fields: &[(&str, &str)]) -> String {
    super::super::xml::write("xml", fields.iter().copied())
}

const PAID: &[(&str, &str)] = &[
    ("appid", "wxd930ea5d5a258f4f"),
    ("attach", "a b & 茶 50%2B"),
    ("mch_id", "10000100"),
    ("nonce_str", "n"),
    ("return_code", "SUCCESS"),
    ("sub_mch_id", ""),
    ("time_end", "20260601120000"),
    ("transaction_id", "42"),
];
/// What must be signed of it.
const PAID_TEXT: &str = "appid=wxd930ea5d5a258f4f&attach=a b & 茶 50%2B&mch_id=10000100&nonce_str=n&\
                         return_code=SUCCESS&time_end=20260601120000&transaction_id=42";

fn paid(sign: &str) -> Vec<u8> {
    let mut fields = PAID.to_vec();
    fields.push(("sign", sign));
    xml_of(&fields).into_bytes()
}

fn with_key(text: &str) -> String {
    md5(&format!("{text}&key={API_KEY}"))
}

#[test]
fn wechat_by_others_is_right() {
    for file in [NODE, PYTHON].map(vectors) {
        for list in ["wechat_requests", "wechat_refund_requests"] {
            for vector in file[list].as_array().unwrap() {
                let (url, body) = (vector["url"].as_str().unwrap(), vector["body"].as_str().unwrap());
                // As curl -v and proxies show it, with a line end too many.
                let raw = format!(
                    "POST {url} HTTP/1.1\r\nHost: x\r\ncontent-length: {}\r\n\r\n{body}\n",
                    body.len()
                );
                let explanation = right_by(raw.as_bytes());
                assert_eq!(explanation.message, format!("request to {url}"));
                assert_eq!(explanation.expected, explanation.given);
                assert!(right_by(body.as_bytes()).message.starts_with("request, by its fields"));
            }
        }
        for vector in file["wechat_notices"].as_array().unwrap() {
            let body = vector["body"].as_str().unwrap();
            let explanation = told(body.as_bytes());
            assert_eq!(explanation.message, "payment notice");
            assert_eq!(explanation.verdict, Verdict::Right, "{explanation}");
            wrong_by(body.replace(">11<", ">12<").as_bytes(), &[]);
        }
        for vector in file["wechat_refund_notices"].as_array().unwrap() {
            let body = vector["body"].as_str().unwrap();
            assert!(right_by(body.as_bytes()).message.starts_with("refund notice"));
        }
    }
    let page = &vectors(PYTHON)["pay_params"];
    assert!(right_by(page.to_string().as_bytes()).message.contains("paySign"));
    right_by(serde_json::json!({ "status_code": 0, "data": page }).to_string().as_bytes());
}

#[test]
fn wechat_causes() {
    right_by(&paid(&with_key(PAID_TEXT)));
    for (text, cause) in [
        (PAID_TEXT.replace("&time_end", "&sub_mch_id=&time_end"), "empty-values"),
        (PAID_TEXT.replace("a b & 茶 50%2B", "a+b+%26+%E8%8C%B6+50%252B"), "percent-encoded"),
        (PAID_TEXT.replace("50%2B", "50+"), "encoded-twice"),
        (PAID_TEXT.replace("a b & 茶 50", "a+b+&+茶+50"), "plus-as-space"),
        (PAID_TEXT.replace("b & 茶", "b &amp; 茶"), "escaped"),
        (format!("{PAID_TEXT}\n"), "trailing-newline"),
        (PAID_TEXT.replace("&nonce_str=n", ""), "field-left-out"),
    ] {
        let at = wrong_by(&paid(&with_key(&text)), &[cause]).first_difference.unwrap().at;
        assert_eq!(PAID_TEXT.as_bytes()[..at], text.as_bytes()[..at], "{cause}");
        assert_ne!(PAID_TEXT.as_bytes().get(at), text.as_bytes().get(at), "{cause}");
    }
    let signed = format!("{PAID_TEXT}&key={API_KEY}");
    let hmac = |text: &str| {
        super::super::wechat_v2::sign_text(text.as_bytes(), &Secret::new(API_KEY), SignType::HmacSha256)
    };
    let (gbk, _, _) = encoding_rs::GBK.encode(&signed);
    for (sign, causes) in [
        (with_key(PAID_TEXT).to_lowercase(), vec!["lower-case"]),
        (md5(&format!("{signed}\n")), vec!["key-with-newline"]),
        (md5(PAID_TEXT), vec!["no-key"]),
        (md5(&format!("{PAID_TEXT}&key={OTHER_API_KEY}")), vec!["other-key"]),
        (md5(&format!("{PAID_TEXT}&key=0123456789abcdef0123456789abcdef")), vec!["api-v3-key"]),
        (hex::encode_upper(Md5::digest(gbk)), vec!["charset"]),
        (
            hex::encode(Md5::digest(format!("{PAID_TEXT}\n&key={API_KEY}"))),
            vec!["trailing-newline", "lower-case"],
        ),
        (hmac(&signed), vec!["algorithm"]),
        (format!(" {} ", with_key(PAID_TEXT)), vec!["white-space"]),
    ] {
        wrong_by(&paid(&sign), &causes);
    }
    wrong_by(xml_of(PAID).as_bytes(), &["unsigned"]);
    wrong_by(b"<xml><return_code>FAIL</return_code><return_msg>x</return_msg></xml>", &["unsigned"]);
    let nobody = wrong_by(&paid(&md5("x")), &[]);
    assert!(nobody.hints[0].contains("another API v2 key"));
    // Signed right, for somebody else.
    let foreign = String::from_utf8(paid("SIGN")).unwrap().replace("10000100", "10000999");
    let sign = with_key(&PAID_TEXT.replace("10000100", "10000999"));
    wrong_by(foreign.replace("SIGN", &sign).as_bytes(), &["other-key", "other-account"]);
}

#[test]
fn wechat_requests_and_sign_type() {
    let text = "appid=wxd930ea5d5a258f4f&mch_id=10000100&out_trade_no=T1";
    let body = |sign: &str, sign_type: &str| {
        xml_of(&[
            ("appid", "wxd930ea5d5a258f4f"),
            ("mch_id", "10000100"),
            ("out_trade_no", "T1"),
            ("sign_type", sign_type),
            ("sign", sign),
        ])
        .into_bytes()
    };
    right_by(&body(&with_key(&format!("{text}&sign_type=MD5")), "MD5"));
    wrong_by(&body(&with_key(text), "MD5"), &["sign_type-out"]);
    wrong_by(&body(&with_key(&format!("{text}&sign_type=HMAC-SHA256")), "HMAC-SHA256"), &["algorithm"]);
}

#[test]
fn the_body_in_gbk_is_read_and_named() {
    let body = String::from_utf8(paid(&with_key(PAID_TEXT))).unwrap();
    let declared = format!("<?xml version=\"1.0\" encoding=\"GBK\"?>{body}");
    let (bytes, _, _) = encoding_rs::GBK.encode(&declared);
    assert!(told(&bytes).hints[0].contains("GBK"));
}

#[test]
fn alipay_by_others_is_right() {
    for file in [NODE, PYTHON].map(vectors) {
        for vector in file["order_strings"].as_array().unwrap() {
            let explanation = right_by(vector["text"].as_str().unwrap().as_bytes());
            assert_eq!(explanation.message, "order string for the app");
        }
        for list in ["alipay_requests", "alipay_refund_requests"] {
            for vector in file[list].as_array().unwrap() {
                let text = |name: &str| vector[name].as_str().unwrap();
                let raw =
                    format!("{} {} HTTP/1.1\r\nHost: x\r\n\r\n{}", text("method"), text("url"), text("body"));
                assert!(right_by(raw.as_bytes()).message.starts_with("request alipay.trade."));
                if text("body").is_empty() {
                    right_by(format!("https://openapi.alipay.com{}\n", text("url")).as_bytes());
                }
            }
        }
        for list in ["alipay_replies", "alipay_refund_replies"] {
            for vector in file[list].as_array().into_iter().flatten() {
                let body = vector["body"].as_str().unwrap();
                let explanation = told(body.as_bytes());
                assert!(explanation.message.starts_with("answer alipay_trade_"));
                let expected = if body.contains("\"sign\"") { Verdict::Right } else { Verdict::Wrong };
                assert_eq!(explanation.verdict, expected, "{explanation}");
                if body.contains("\\/") {
                    wrong_by(body.replace("\\/", "/").as_bytes(), &["slashes"]);
                }
            }
        }
        for vector in file["alipay_notices"].as_array().into_iter().flatten() {
            let explanation = told(vector["body"].as_str().unwrap().as_bytes());
            assert!(explanation.message.starts_with("notice, "), "{explanation}");
            assert_eq!(explanation.verdict, Verdict::Right, "{explanation}");
            assert_eq!(explanation.expected, None, "Alipay's private key is Alipay's");
        }
    }
}

/// A notice: its parameters as signed, and as they go over the wire.
const NOTICE: &[(&str, &str)] = &[
    ("app_id", "2014072300007148"),
    ("body", "a b & <茶> \"杯\""),
    ("fund_bill_list", "[{\"amount\":\"1.00\",\"url\":\"http:\\/\\/x\"}]"),
    ("notify_type", "trade_status_sync"),
    ("seller_id", "2088102146225135"),
    ("trade_status", "TRADE_SUCCESS"),
];

fn text_of(params: &[(&str, &str)]) -> String {
    params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn wire(params: &[(&str, &str)], sign: &str) -> String {
    let all = params.iter().copied().chain([("sign_type", "RSA2"), ("sign", sign)]);
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish()
}

fn rsa(key: &PrivateKey, text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(key.sign_sha256(text.as_ref()))
}

#[test]
fn alipay_causes() {
    let (text, theirs) = (text_of(NOTICE), alipay_key());
    right_by(wire(NOTICE, &rsa(&theirs, &text)).as_bytes());
    let (gbk, _, _) = encoding_rs::GBK.encode(&text);
    for (signed, cause) in [
        (format!("{text}\n").into_bytes(), "trailing-newline"),
        (text.replace("trade_status=", "sign_type=RSA2&trade_status=").into_bytes(), "sign_type-in"),
        (text.replace('"', "&quot;").replace("a b & <茶>", "a b &amp; &lt;茶&gt;").into_bytes(), "escaped"),
        (text.replace("\\/", "/").into_bytes(), "slashes"),
        (text.replace("a b & <茶> ", "a+b+&+<茶>+").into_bytes(), "plus-as-space"),
        (gbk.into_owned(), "charset"),
        (text.replace("&seller_id=2088102146225135", "").into_bytes(), "field-left-out"),
    ] {
        let explanation = wrong_by(wire(NOTICE, &rsa(&theirs, &signed)).as_bytes(), &[cause]);
        let at = explanation.first_difference.unwrap().at;
        assert!(
            text.as_bytes()[..at] == signed[..at] && text.as_bytes().get(at) != signed.get(at),
            "{cause}"
        );
    }
    let sign = rsa(&theirs, &text);
    assert!(sign.contains('+') && sign.contains('/'));
    for (given, cause) in [
        (sign.replace('+', " "), "plus-as-space"),
        (sign.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"), "encoded-twice"),
        (sign.replace('+', "-").replace('/', "_"), "base64url"),
        (format!("{}\n{}", &sign[..64], &sign[64..]), "white-space"),
        (hex::encode(theirs.sign_sha256(text.as_bytes())), "hex"),
        (rsa(&app_key(), &text), "key-of-the-other-kind"),
    ] {
        wrong_by(wire(NOTICE, &given).as_bytes(), &[cause]);
    }
    wrong_by(text.as_bytes(), &["unsigned"]);
    // An escaped value, as filters against scripts leave it behind.
    let filtered: Vec<_> = NOTICE.iter().map(|(name, value)| (*name, value.replace('"', "&quot;"))).collect();
    let filtered: Vec<_> = filtered.iter().map(|(name, value)| (*name, value.as_str())).collect();
    wrong_by(wire(&filtered, &sign).as_bytes(), &["unescaped"]);
    // Alipay signs for everybody with one key.
    let foreign: Vec<_> =
        NOTICE.iter().map(|(n, v)| (*n, if *n == "app_id" { "2014" } else { *v })).collect();
    let explanation = told(wire(&foreign, &rsa(&theirs, text_of(&foreign))).as_bytes());
    assert_eq!(ids(&explanation).last(), Some(&"other-account"), "{explanation}");
}

#[test]
fn a_wrong_key_and_a_wrong_text_are_told_apart() {
    let changed = text_of(NOTICE).replace("1.00", "9.00");
    let explanation = wrong_by(wire(NOTICE, &rsa(&alipay_key(), changed)).as_bytes(), &[]);
    assert!(explanation.hints[0].contains("made with the private half of mall alipay, over another text"));
    let stranger = PrivateKey::read(PrivateKey::generate().unwrap().expose()).unwrap();
    let explanation = wrong_by(wire(NOTICE, &rsa(&stranger, text_of(NOTICE))).as_bytes(), &[]);
    assert!(explanation.hints[0].contains("a wrong key"), "{explanation}");
    // A key out of a file goes before those of the configuration.
    let mut keys = keys();
    keys.0.push(Key::read("their.pem".to_owned(), &stranger.public().to_pem()).unwrap());
    let message = wire(NOTICE, &rsa(&stranger, text_of(NOTICE)));
    let explanation = explain(message.as_bytes(), &keys, None, NOW).unwrap();
    assert_eq!((explanation.verdict, explanation.key.as_deref()), (Verdict::Right, Some("their.pem")));
    assert_eq!(explain(message.as_bytes(), &Keys::default(), None, NOW).unwrap().verdict, Verdict::Unchecked);
}

#[test]
fn alipay_requests_and_the_clock() {
    let params = |timestamp| {
        vec![
            ("app_id", "2014072300007148"),
            ("method", "alipay.trade.query"),
            ("sign_type", "RSA2"),
            ("timestamp", timestamp),
        ]
    };
    let request = |timestamp, signed: fn(&str) -> String| {
        let params = params(timestamp);
        let sign = rsa(&app_key(), signed(&text_of(&params)));
        let all = params.into_iter().chain([("sign", sign.as_str())]);
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish()
    };
    let explanation = right_by(request("2023-11-15 06:13:20", str::to_owned).as_bytes());
    assert!(explanation.hints.is_empty() && explanation.expected == explanation.given, "{explanation}");
    let utc = right_by(request("2023-11-14 22:13:20", str::to_owned).as_bytes());
    assert!(utc.hints[0].contains("UTC"), "{utc}");
    let old = right_by(request("2023-11-15 05:13:20", str::to_owned).as_bytes());
    assert!(old.hints[0].contains("60 minutes behind"), "{old}");
    let out = request("2023-11-15 06:13:20", |text| text.replace("&sign_type=RSA2", ""));
    assert!(wrong_by(out.as_bytes(), &["sign_type-out"]).first_difference.is_some());
}

#[test]
fn what_the_other_side_signed_is_compared() {
    let theirs = PAID_TEXT.replace("20260601120000", "20260601110000");
    let explanation = explain(&paid(&with_key(&theirs)), &keys(), Some(theirs.as_bytes()), NOW).unwrap();
    assert_eq!(ids(&explanation), ["their-text"]);
    let Difference { at, ours, theirs, .. } = explanation.first_difference.unwrap();
    assert_eq!(at, PAID_TEXT.find("20260601120000").unwrap() + 9);
    assert!(ours.contains("2000") && theirs.contains("1000"), "{ours} {theirs}");
}

#[test]
fn no_key_is_shown_wherever_it_stands() {
    let theirs = format!("{PAID_TEXT}&key={API_KEY}\n");
    let explanation = explain(&paid(&with_key(PAID_TEXT)), &keys(), Some(theirs.as_bytes()), NOW).unwrap();
    assert_eq!(
        (explanation.verdict, &explanation.first_difference),
        (Verdict::Right, &None),
        "{explanation}"
    );
    let other = theirs.replace("a b", "a c");
    let explanation = explain(&paid(&with_key(PAID_TEXT)), &keys(), Some(other.as_bytes()), NOW).unwrap();
    let shown = format!("{explanation}{}", serde_json::to_string(&explanation).unwrap());
    assert!(explanation.first_difference.is_some() && !shown.contains(API_KEY), "{shown}");
    for field in ["attach", "key", "sign"] {
        let mut fields = PAID.to_vec();
        fields.retain(|(name, _)| *name != field);
        fields.extend([(field, API_KEY), ("zz", "1")]);
        let explanation = told(xml_of(&fields).as_bytes());
        assert!(explanation.to_string().contains("****"), "{explanation}");
    }
}

#[test]
fn a_message_forges_no_line_of_the_answer() {
    let mut fields = PAID.to_vec();
    fields.push(("evil", "\u{202e}x\u{1b}[2J\nsignature   right"));
    let explanation = told(xml_of(&fields).as_bytes());
    let shown = explanation.to_string();
    assert!(explanation.signed_text.contains('\u{202e}'), "{shown}");
    assert!(shown.contains("\\u{202e}x") && !shown.contains('\u{202e}'), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("signature")).count(), 1, "{shown}");
}

#[test]
fn what_is_too_long_is_refused() {
    let long = [paid("x"), vec![b' '; LONGEST]].concat();
    assert!(explain(&long, &keys(), None, NOW).unwrap_err().0.contains("64 KiB"));
    assert!(explain(&paid("x"), &keys(), Some(&long), NOW).unwrap_err().0.contains("64 KiB"));
}

#[test]
fn what_is_neither_is_not_understood() {
    for text in ["", "hello", "{}", "{\"a\":1}", "<html></html>", "<xml><a>1</xml>", "a=1&b=2"] {
        assert!(explain(text.as_bytes(), &keys(), None, NOW).is_err(), "{text}");
    }
    let cut = "{\"alipay_trade_query_response\":{\"code\":\"10000\"";
    assert!(explain(cut.as_bytes(), &keys(), None, NOW).unwrap_err().0.contains("not whole JSON"));
    assert!(explain(&[0xff, 0xfe, 0x00], &keys(), None, NOW).is_err());
}

#[test]
fn an_official_signature_opens() {
    let rsa: &Value = &vectors(OFFICIAL)["rsa"];
    let text = |name: &str| rsa[name].as_str().unwrap();
    let key = PublicKey::read(text("public_key")).unwrap();
    let opened = key.opened(&STANDARD.decode(text("signature")).unwrap()).unwrap();
    // 19 bytes that name SHA-256, and the hash.
    assert_eq!(opened.len(), 51);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text("message").as_bytes());
    assert!(opened.ends_with(hash.as_ref()));
    assert_eq!(key.opened(&[0xff; 256]), None);
    assert_eq!(key.opened(b""), None);
    assert_eq!(alipay_key().public().opened(&app_key().sign_sha256(b"x")), None);
}

#[test]
fn every_cause_is_in_the_documents() {
    let document = include_str!("../../../docs/signatures.md");
    let mut names = vec!["unsigned", "other-account", "their-text"];
    let page = vectors(PYTHON)["pay_params"].to_string();
    let reply = r#"{"alipay_trade_query_response": {"code": "10000", "msg": "\/ 茶 &quot;"},"sign":"-_ %"}"#;
    let odd = [("a", " +%2B\n&amp;\\/[1, 2]"), ("B", ""), ("app_id", "x"), ("biz_content", "{\"a\": 1}\r\n")];
    for text in [paid(" ab "), page.into_bytes(), reply.into(), wire(&odd, "ab %2B").into()] {
        names.extend(told(&text).tried);
    }
    for name in &names {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 20, "{names:?}");
}
