//! Tests of both halves: other people's vectors, round trips, the table of what must not be believed.

use bytes::Bytes;
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::Value;

use super::super::testing::{
    NODE, NOW, OFFICIAL, PYTHON, Row, captured, number, paid_trade, reply, request, rows, stamp, terms,
    vectors,
};
use super::super::{
    Ack, Answer, Call, Counterpart, Fault, Merchant, Notice, Objection, Outgoing, Paid, Reply, Retry, Shop,
    Terms, Told, Trade, TradeState, Visit,
};
use super::*;
use crate::domain::id::{OutTradeNo, Payer, Scene, TransactionId};
use crate::domain::money::Fen;
use crate::domain::order::Code;

pub(super) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

pub(super) fn merchant(sign_type: SignType) -> WechatV2 {
    WechatV2::new(Config {
        app_id: "wxd930ea5d5a258f4f".to_owned(),
        mch_id: "10000100".to_owned(),
        key: Secret::new(KEY),
        sign_type,
        base_url: "http://127.0.0.1:3001".to_owned(),
    })
}

pub(super) fn gateway() -> WechatV2Gateway {
    WechatV2Gateway::new(GatewayConfig {
        app_id: "wxd930ea5d5a258f4f".to_owned(),
        mch_id: "10000100".to_owned(),
        key: Secret::new(KEY),
    })
}

fn create() -> Call {
    Call::Create { out_trade_no: number(), terms: terms(Scene::Native) }
}

pub(super) fn sent(sign_type: SignType, call: &Call) -> Request<Bytes> {
    match merchant(sign_type).encode_call(call, &stamp()).unwrap() {
        Outgoing::Send(request) => request,
        Outgoing::Local(reply) => panic!("{reply:?}"),
    }
}

fn fields_of(object: &Value) -> Fields {
    let members = object.as_object().unwrap().iter();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

pub(super) fn each<'a>(file: &'a Value, name: &str) -> std::slice::Iter<'a, Value> {
    file[name].as_array().unwrap().iter()
}

#[test]
fn signatures_by_others() {
    let mut count = 0;
    for file in [OFFICIAL, NODE, PYTHON].map(vectors) {
        for vector in each(&file, "wechat") {
            let fields = fields_of(&vector["fields"]);
            let sign_type = vector["type"].as_str().unwrap().parse().unwrap();
            assert_eq!(sign(&fields, &Secret::new(KEY), sign_type), vector["sign"], "{}", vector["name"]);
            if let Some(text) = vector["text"].as_str() {
                assert_eq!(canonical(&fields), text);
            }
            count += 1;
        }
    }
    assert_eq!(count, 5 + 10 + 8);
}

#[test]
fn pay_sign_by_others() {
    for vector in each(&vectors(OFFICIAL), "pay_sign") {
        let merchant = merchant(vector["type"].as_str().unwrap().parse().unwrap());
        let at = vector["time_stamp"].as_str().unwrap().parse::<i64>().unwrap();
        let stamp = Stamp {
            now: UnixMillis(at * 1000 + 999),
            nonce: vector["nonce_str"].as_str().unwrap().to_owned(),
        };
        let made = merchant.pay_sign(vector["prepay_id"].as_str().unwrap(), &stamp);
        assert_eq!(made.pay_sign, vector["pay_sign"]);
        assert_eq!(made.time_stamp, vector["time_stamp"]);
        assert_eq!(made.package, format!("prepay_id={}", vector["prepay_id"].as_str().unwrap()));
        assert_eq!(made.sign_type, vector["type"]);
        assert_eq!(made.app_id, vector["app_id"]);
    }
    assert_eq!(vectors(PYTHON)["pay_params"]["paySign"], vectors(OFFICIAL)["pay_sign"][0]["pay_sign"]);
}

#[test]
fn requests_by_others_are_taken() {
    let mut seen = Vec::new();
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "wechat_requests") {
            let received = gateway().decode_call(&captured(vector), NOW).unwrap();
            assert_eq!(received.call.out_trade_no().as_str(), "T2026060100000001");
            if let Call::Create { terms, .. } = &received.call {
                assert_eq!((terms.title.as_str(), terms.total.get()), ("测试 & <商品>", 1));
                assert!(terms.time_expire >= NOW.plus(7_200_000));
            }
            seen.push(received.method);
        }
    }
    assert_eq!(seen.len(), 7);
}

#[test]
fn notices_by_others_are_taken() {
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "wechat_notices") {
            let merchant = merchant(vector["type"].as_str().unwrap().parse().unwrap());
            let body = vector["body"].as_str().unwrap().to_owned();
            let ids = ("wxd930ea5d5a258f4f".to_owned(), "10000100".to_owned());
            assert_eq!(identify(body.as_bytes()), Ok(ids));
            let notice = merchant.decode_notice(&request(body), NOW).unwrap().into_inner();
            let Told::Trade(Trade::Paid(paid)) = notice.told else { panic!("{:?}", notice.told) };
            // The order amount, not what is left of it after a coupon.
            assert_eq!(paid.total.get(), 11);
            assert_eq!(crate::domain::time::rfc3339(paid.paid_at), "2026-06-01T12:00:00+08:00");
        }
    }
}

#[test]
fn a_creation_there_and_back() {
    for sign_type in SignType::ALL.iter().copied() {
        let received = gateway().decode_call(&sent(sign_type, &create()), NOW).unwrap();
        assert_eq!(received.call, create());
        let code = Code {
            content: "weixin://wxpay/bizpayurl?pr=a".into(),
            prepay_id: Some("wx1".into()),
            until: None,
        };
        let answer = gateway().encode_answer(&Answer::Created(code.clone()), &received.echo, &stamp());
        assert_eq!(answer.headers()["content-type"], "text/plain");
        assert_eq!(merchant(sign_type).decode_reply(&create(), &answer, NOW), Ok(Reply::Created(code)));
        // Signed with the type of the request, which the other configuration does not take.
        let other = if sign_type == SignType::Md5 { SignType::HmacSha256 } else { SignType::Md5 };
        let refused = merchant(other).decode_reply(&create(), &answer, NOW);
        assert!(matches!(refused, Err(Fault::BadSignature(_))), "{refused:?}");
    }
}

/// What WeChat hands out for the other ways to pay, and what it wants to know for them (gateways.md 1.2).
#[test]
fn pages_of_wechat_and_of_phones_there_and_back() {
    let openid = Some(Payer::new("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap());
    let shop = Some(Shop { url: "https://pay.example.com".to_owned(), name: "茶店".to_owned() });
    let back = "https://pay.example.com/pay/x?asked=1";
    let mweb = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx1&package=1";
    let went = format!("{mweb}&redirect_url=https%3A%2F%2Fpay.example.com%2Fpay%2Fx%3Fasked%3D1");
    for (scene, visit, given, expected) in [
        (Scene::Jsapi, Visit { openid, ..Visit::default() }, "wx1", "wx1"),
        (Scene::Mweb, Visit { shop, ..Visit::default() }, mweb, went.as_str()),
    ] {
        let call = Call::Create { out_trade_no: number(), terms: Terms { visit, ..terms(scene) } };
        let received = gateway().decode_call(&sent(SignType::Md5, &call), NOW).unwrap();
        assert_eq!(received.call, call);
        let given = Code { content: given.to_owned(), prepay_id: Some("wx1".to_owned()), until: None };
        let answer = gateway().encode_answer(&Answer::Created(given), &received.echo, &stamp());
        let Call::Create { out_trade_no, mut terms } = call else { panic!() };
        terms.visit.return_url = (scene == Scene::Mweb).then(|| back.to_owned());
        let call = Call::Create { out_trade_no, terms };
        let code = Code { content: expected.to_owned(), prepay_id: Some("wx1".to_owned()), until: None };
        assert_eq!(merchant(SignType::Md5).decode_reply(&call, &answer, NOW), Ok(Reply::Created(code)));
    }
    for scene in [Scene::Jsapi, Scene::Mweb] {
        let bare = Call::Create { out_trade_no: number(), terms: terms(scene) };
        let refused = merchant(SignType::Md5).encode_call(&bare, &stamp()).map(|_| ());
        assert!(matches!(refused, Err(Fault::Malformed(_))), "{scene} without its payer or shop");
    }
}

#[test]
fn a_repetition_has_the_same_fingerprint() {
    let again = Stamp { now: NOW.plus(5000), nonce: "x".repeat(32) };
    let Outgoing::Send(second) = merchant(SignType::Md5).encode_call(&create(), &again).unwrap() else {
        panic!("a request");
    };
    let print = |request: &Request<Bytes>| gateway().decode_call(request, NOW).unwrap().fingerprint;
    let first = sent(SignType::Md5, &create());
    assert_ne!(first.body(), second.body());
    assert_eq!(print(&first), print(&second));
    let mut other = terms(Scene::Native);
    other.total = Fen::new(1111).unwrap();
    let other = Call::Create { out_trade_no: number(), terms: other };
    assert_ne!(print(&first), print(&sent(SignType::Md5, &other)));
}

#[test]
fn queries_there_and_back() {
    let query = Call::Query { out_trade_no: number() };
    let received = gateway().decode_call(&sent(SignType::Md5, &query), NOW).unwrap();
    assert_eq!(received.call, query);
    let paid = paid_trade(Scene::Native, &[]);
    let expected = Trade::Paid(Paid {
        out_trade_no: number(),
        transaction_id: paid.transaction_id.clone().unwrap(),
        total: paid.total,
        paid_at: paid.paid_at.unwrap(),
    });
    for (state, expected) in [
        (TradeState::Success, expected),
        (TradeState::NotPay, Trade::Waiting),
        (TradeState::Closed, Trade::Closed),
    ] {
        let trade = super::super::Standing { state, ..paid.clone() };
        let answer = gateway().encode_answer(&Answer::Trade(trade), &received.echo, &stamp());
        assert_eq!(merchant(SignType::Md5).decode_reply(&query, &answer, NOW), Ok(Reply::Trade(expected)));
    }
    let absent = gateway().refuse(&received, Objection::Absent);
    let answer = gateway().encode_answer(&Answer::Refused(absent), &received.echo, &stamp());
    assert_eq!(merchant(SignType::Md5).decode_reply(&query, &answer, NOW), Ok(Reply::Trade(Trade::Absent)));
}

#[test]
fn every_trade_state() {
    let query = Call::Query { out_trade_no: number() };
    for (state, expected) in [
        ("REFUND", "Paid"),
        ("USERPAYING", "Waiting"),
        ("ACCEPT", "Waiting"),
        ("PAYERROR", "Waiting"),
        ("SOMETHING_NEW", "Waiting"),
        ("REVOKED", "Closed"),
    ] {
        let mut fields = reply_fields(SignType::Md5);
        put(&mut fields, "trade_state", state);
        let body = seal(fields, &Secret::new(KEY), SignType::Md5, &stamp());
        let read = merchant(SignType::Md5).decode_reply(&query, &reply(body), NOW).unwrap();
        assert!(format!("{read:?}").starts_with(&format!("Trade({expected}")), "{state}: {read:?}");
    }
}

#[test]
fn refusals_and_what_they_mean() {
    let close = Call::Close { out_trade_no: number() };
    let query = Call::Query { out_trade_no: number() };
    let refused = |call: &Call, code: &str, message: &str| {
        let mut fields = reply_fields(SignType::Md5);
        put(&mut fields, "result_code", "FAIL");
        put(&mut fields, "err_code", code);
        put(&mut fields, "err_code_des", message);
        let body = seal(fields, &Secret::new(KEY), SignType::Md5, &stamp());
        merchant(SignType::Md5).decode_reply(call, &reply(body), NOW)
    };
    for (call, code, message, expected) in [
        (create(), "ORDERPAID", "", Retry::AlreadyPaid),
        (create(), "ORDER_PAID", "", Retry::AlreadyPaid),
        (create(), "ORDERCLOSED", "", Retry::NewNumber),
        (create(), "OUT_TRADE_NO_USED", "", Retry::NewNumber),
        (create(), "INVALID_REQUEST", "201 商户订单号重复", Retry::NewNumber),
        (create(), "INVALID_REQUEST", "参数错误", Retry::Never),
        (create(), "NOAUTH", "", Retry::Never),
        (create(), "FREQUENCY_LIMITED", "", Retry::Later),
        (close.clone(), "ORDERPAID", "", Retry::AlreadyPaid),
        (close.clone(), "ORDERNOTEXIST", "", Retry::Never),
    ] {
        let message = message.to_owned();
        let expected =
            Err(Fault::Refused { code: code.to_owned(), message: message.clone(), retry: expected });
        assert_eq!(refused(&call, code, &message), expected);
    }
    assert_eq!(refused(&close, "ORDERCLOSED", ""), Ok(Reply::Closed));
    assert_eq!(refused(&query, "ORDER_NOT_EXIST", ""), Ok(Reply::Trade(Trade::Absent)));
    assert!(matches!(refused(&create(), "SYSTEMERROR", ""), Err(Fault::Unknown(_))));
    for status in [302, 404, 429, 500, 502] {
        let answer = Response::builder().status(status).body(Bytes::new()).unwrap();
        let read = merchant(SignType::Md5).decode_reply(&query, &answer, NOW);
        assert_eq!(read, Err(Fault::Unknown(format!("HTTP {status}"))));
    }
}

#[test]
fn objections_in_wechats_words() {
    let received = gateway().decode_call(&sent(SignType::Md5, &create()), NOW).unwrap();
    for (objection, expected) in [
        (Objection::Paid, "AlreadyPaid"),
        (Objection::Closed, "NewNumber"),
        (Objection::OtherTerms, "NewNumber"),
        (Objection::Busy, "Unknown"),
    ] {
        let refusal = gateway().refuse(&received, objection);
        let answer = gateway().encode_answer(&Answer::Refused(refusal), &received.echo, &stamp());
        let read = merchant(SignType::Md5).decode_reply(&create(), &answer, NOW);
        assert!(format!("{read:?}").contains(expected), "{objection:?}: {read:?}");
    }
}

#[test]
fn a_notice_there_and_back() {
    for sign_type in SignType::ALL.iter().copied() {
        let trade = paid_trade(Scene::Native, &[("sign_type", sign_type.as_str()), ("attach", "a=b&c")]);
        let sent =
            gateway().encode_notice(&trade, "http://127.0.0.1:3000/rest/pub/wx/pay_notify", "n1", &stamp());
        assert_eq!(sent.uri().path(), "/rest/pub/wx/pay_notify");
        let read = merchant(sign_type).decode_notice(&sent, NOW).unwrap().into_inner();
        let expected = Trade::Paid(Paid {
            out_trade_no: OutTradeNo::new("T20231115_1").unwrap(),
            transaction_id: TransactionId::new("4200001234202311151234567890").unwrap(),
            total: Fen::new(1110).unwrap(),
            paid_at: NOW.plus(-1000),
        });
        assert_eq!(read, Notice { out_trade_no: number(), delivery_id: None, told: Told::Trade(expected) });
    }
}

#[test]
fn acks_word_for_word() {
    let accepted = encode_ack(Ack::Accepted);
    assert_eq!(
        accepted.body(),
        "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>"
    );
    assert!(gateway().decode_ack(&accepted));
    let failed = encode_ack(Ack::Failed);
    assert_eq!(failed.status(), 200);
    assert!(!gateway().decode_ack(&failed));
    assert!(!gateway().decode_ack(&reply("SUCCESS")));
    let mut late = accepted;
    *late.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    assert!(!gateway().decode_ack(&late));
}

#[test]
fn transport_is_refused_in_wechats_words() {
    let url = "http://127.0.0.1/pay/unifiedorder";
    let posted = |body: &'static [u8]| Request::post(url).body(Bytes::from_static(body)).unwrap();
    for (sent, message) in [
        (posted(b""), "post数据为空"),
        (posted(&[0xff]), "编码格式错误"),
        (posted(b"{}"), "XML格式错误"),
        (posted(b"<!DOCTYPE x [<!ENTITY a \"b\">]><xml><a>&a;</a></xml>"), "XML格式错误"),
        (Request::get(url).body(Bytes::new()).unwrap(), "请使用post方法"),
    ] {
        let refusal = gateway().decode_call(&sent, NOW).unwrap_err();
        assert_eq!(refusal.message, message);
        let answer = gateway().encode_answer(&Answer::Refused(refusal), &[], &stamp());
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(text.contains("FAIL") && !text.contains("<sign>"), "{text}");
    }
}

#[test]
fn a_wrong_signature_is_explained() {
    for (row, cause) in [
        ("lower", "lower case"),
        ("HMAC-SHA256", "signed with HMAC-SHA256"),
        ("other-key", "another API v2 key"),
    ] {
        let fields = signed_fields("wx.call", &[], row);
        let sent = Request::post("http://127.0.0.1/pay/unifiedorder").body(write(&fields).into()).unwrap();
        let explanation = gateway().decode_call(&sent, NOW).unwrap_err().explanation;
        assert!(explanation.contains(cause), "{explanation}");
        assert!(explanation.contains("&key=***") && !explanation.contains(KEY), "{explanation}");
        assert!(explanation.contains("appid=wxd930ea5d5a258f4f&body="), "{explanation}");
    }
}

#[test]
fn what_must_not_be_believed() {
    let rows = rows("wx.");
    assert!(rows.len() >= 60);
    for Row { line, message, edits, signature, outcome } in rows {
        let body = write(&signed_fields(message, &edits, signature));
        let told = match message {
            "wx.notice.md5" => outcome_of(merchant(SignType::Md5).decode_notice(&request(body), NOW)),
            "wx.notice.hmac" => outcome_of(merchant(SignType::HmacSha256).decode_notice(&request(body), NOW)),
            "wx.reply" => {
                let query = Call::Query { out_trade_no: number() };
                outcome_of(merchant(SignType::Md5).decode_reply(&query, &reply(body), NOW))
            }
            "wx.call" => {
                let sent = Request::post("http://127.0.0.1/pay/unifiedorder").body(body.into()).unwrap();
                gateway().decode_call(&sent, NOW).map_or_else(|refusal| refusal.code, |_| "ok".to_owned())
            }
            _ => panic!("{line}"),
        };
        assert_eq!(told, outcome, "{line}");
    }
}

#[test]
fn titles_for_wechat() {
    let clean = |title: &str| clean_title(title, "12346");
    assert_eq!(clean("DEMO"), "DEMO");
    assert_eq!(clean("🍵 茶\u{200d}"), "茶");
    assert_eq!(clean("🍵❤\u{fe0f}"), "❤");
    assert_eq!(clean("🍵🍵"), "12346");
    assert_eq!(clean("a\u{7}b"), "ab");
    // 127 = 42 * 3 + 1: a 43rd character of three bytes does not fit.
    assert_eq!(clean(&"茶".repeat(100)), "茶".repeat(42));
    assert_eq!(clean(&"x".repeat(256)), "x".repeat(127));
    let spaced = format!("{} y", "x".repeat(126));
    assert_eq!(clean(&spaced), "x".repeat(126));
}

#[test]
fn expiry_for_wechat() {
    assert_eq!(round_expiry(NOW, NOW), NOW.plus(330_000));
    assert_eq!(round_expiry(NOW, NOW.plus(600_001)), NOW.plus(601_000));
    assert_eq!(round_expiry(NOW.plus(1), NOW), NOW.plus(331_000));
}

#[test]
fn a_scene_of_the_other_gateway_is_not_written() {
    for scene in [Scene::QrCode, Scene::App, Scene::Wap, Scene::Page] {
        let call = Call::Create { out_trade_no: number(), terms: terms(scene) };
        let refused = merchant(SignType::Md5).encode_call(&call, &stamp()).map(|_| ());
        assert!(matches!(refused, Err(Fault::Malformed(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any bytes at all, and bytes that begin well.
    #[test]
    fn no_bytes_bring_it_down(
        noise: Vec<u8>,
        head in "(<xml>)?(<[a-z_]{1,9}>(<!\\[CDATA\\[)?.{0,20}(\\]\\]>)?</[a-z_]{1,9}>){0,4}(</xml>)?",
    ) {
        for body in [noise.clone(), head.clone().into_bytes(), [head.as_bytes(), &noise].concat()] {
            let _ = identify(&body);
            prop_assert!(merchant(SignType::Md5).decode_notice(&request(body.clone()), NOW).is_err());
            prop_assert!(merchant(SignType::Md5).decode_reply(&create(), &reply(body.clone()), NOW).is_err());
            let sent = Request::post("http://127.0.0.1/pay/unifiedorder").body(body.into()).unwrap();
            prop_assert!(gateway().decode_call(&sent, NOW).is_err());
        }
    }

    #[test]
    fn any_title_is_cleaned_into_one_the_gateway_takes(title in "\\PC{0,300}") {
        let clean = clean_title(&title, "12346");
        prop_assert!(!clean.is_empty() && clean.len() <= 127 && clean == clean.trim());
        let terms = super::super::Terms { title: clean, ..terms(Scene::Native) };
        let call = Call::Create { out_trade_no: number(), terms };
        prop_assert_eq!(gateway().decode_call(&sent(SignType::Md5, &call), NOW).map(|it| it.call), Ok(call));
    }
}

pub(super) fn outcome_of<T: std::fmt::Debug>(read: Result<T, Fault>) -> String {
    let fault = match read {
        Ok(_) => return "ok".to_owned(),
        Err(fault) => format!("{fault:?}"),
    };
    fault.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

fn reply_fields(sign_type: SignType) -> Fields {
    let echo = [("sign_type".to_owned(), sign_type.as_str().to_owned())];
    let answer = gateway().encode_answer(&Answer::Trade(paid_trade(Scene::Native, &[])), &echo, &stamp());
    read(answer.body()).unwrap()
}

/// A right message of the kind, edited, and signed as the table says.
fn signed_fields(message: &str, edits: &[(&str, Option<&str>)], signature: &str) -> Fields {
    let sign_type = if message == "wx.notice.hmac" { SignType::HmacSha256 } else { SignType::Md5 };
    let fields = match message {
        "wx.call" => read(sent(sign_type, &create()).body()).unwrap(),
        "wx.reply" => reply_fields(sign_type),
        _ => {
            let trade = paid_trade(Scene::Native, &[("sign_type", sign_type.as_str())]);
            read(gateway().encode_notice(&trade, "http://127.0.0.1/n", "n1", &stamp()).body()).unwrap()
        }
    };
    resigned(fields, sign_type, edits, signature)
}

pub(super) fn edit(fields: &mut Fields, edits: &[(&str, Option<&str>)]) {
    for (name, value) in edits {
        match value {
            Some(value) => put(fields, name, value),
            None => drop(fields.remove(*name)),
        }
    }
}

/// A right message, edited, and signed as the table says.
pub(super) fn resigned(
    mut fields: Fields,
    sign_type: SignType,
    edits: &[(&str, Option<&str>)],
    signature: &str,
) -> Fields {
    edit(&mut fields, edits);
    let by = |key: &str, sign_type| sign(&fields, &Secret::new(key), sign_type);
    let right = by(KEY, sign_type);
    let made = match signature {
        "keep" => return fields,
        "none" => None,
        "right" => Some(right),
        "empty" => Some(String::new()),
        "lower" => Some(right.to_lowercase()),
        "cut" => Some(right[4..].to_owned()),
        "one-off" => Some(format!("{}{}", if right.starts_with('0') { '1' } else { '0' }, &right[1..])),
        "other-key" => Some(by("00000000000000000000000000000000", sign_type)),
        "no-key" => Some(hex::encode_upper(Md5::digest(canonical(&fields).as_bytes()))),
        named => Some(by(KEY, named.parse().unwrap())),
    };
    fields.remove("sign");
    fields.extend(made.map(|made| ("sign".to_owned(), made)));
    fields
}
