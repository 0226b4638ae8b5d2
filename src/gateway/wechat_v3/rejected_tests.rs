//! What the other side refuses, and the platform's certificates: learned, changed without a gap, not taken.

use http::StatusCode;

use super::super::testing::{NOW, app_key, paid_trade, stamp};
use super::super::{Answer, Call, Counterpart, Fault, Merchant, Refusal, Stamp};
use super::tests::{SERIAL_OF_MERCHANT, create, gateway, no as no_with, public_key, sent, with_keys};
use super::*;
use crate::domain::id::Scene;
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::{Value, json};

/// As a merchant signs it.
fn signed(method: &str, path: &str, body: &str) -> Request<Bytes> {
    let at = seconds(NOW);
    let text = asked_text(method, path, &at, "n", body.as_bytes());
    let authorization = format!(
        "{SCHEME} timestamp=\"{at}\",mchid=\"10000100\",serial_no=\"{SERIAL_OF_MERCHANT}\",\
         nonce_str=\"n\",signature=\"{}\"",
        sign(&app_key(), &text)
    );
    Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1{path}"))
        .header("authorization", authorization)
        .header("accept", "*/*")
        .header("user-agent", "t")
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

fn no(request: &Request<Bytes>) -> Refusal {
    gateway().decode_call(request, NOW).unwrap_err()
}

/// Every request that is not as it must be, with the code and a word of the reason.
#[test]
fn requests_that_are_refused() {
    let call = create(Scene::Jsapi);
    let right: Value = serde_json::from_slice(sent(&call).body()).unwrap();
    let edited = |pointer: &str, value: Option<Value>| {
        let mut body = right.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let members = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => {
                members.insert(name.to_owned(), value);
            }
            None => {
                members.remove(name);
            }
        }
        signed("POST", JSAPI, &body.to_string())
    };
    assert!(gateway().decode_call(&edited("/future", Some(json!(1))), NOW).is_ok());
    for (pointer, value, code, word) in [
        ("/appid", Some(json!("wx0")), "APPID_MCHID_NOT_MATCH", "appid"),
        ("/mchid", Some(json!("10000101")), "PARAM_ERROR", "mchid"),
        ("/description", None, "PARAM_ERROR", "description"),
        ("/description", Some(json!("🍵")), "PARAM_ERROR", "4-byte"),
        ("/out_trade_no", Some(json!("12345")), "PARAM_ERROR", "6 to 32"),
        ("/notify_url", Some(json!("https://a.example/n?x=1")), "PARAM_ERROR", "query"),
        ("/notify_url", Some(json!("http://a.example/n")), "PARAM_ERROR", "https"),
        ("/time_expire", Some(json!("20231115061400")), "PARAM_ERROR", "RFC 3339"),
        ("/time_expire", Some(json!("2023-11-15T06:13:00+08:00")), "PARAM_ERROR", "over"),
        ("/amount/total", Some(json!("1")), "PARAM_ERROR", "whole number"),
        ("/amount/total", Some(json!(0)), "PARAM_ERROR", "at least 1"),
        ("/amount/currency", Some(json!("USD")), "PARAM_ERROR", "CNY"),
        ("/payer", None, "PARAM_ERROR", "payer.openid"),
    ] {
        let refusal = no(&edited(pointer, value));
        assert_eq!(refusal.code, code, "{pointer}: {refusal:?}");
        assert!(refusal.explanation.contains(word), "{pointer}: {refusal:?}");
    }
}

#[test]
fn requests_with_a_wrong_head() {
    let call = create(Scene::Jsapi);
    let by_edit = |edit: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = sent(&call);
        edit(&mut request);
        no(&request)
    };
    let authorization = sent(&call).headers()["authorization"].to_str().unwrap().to_owned();
    let named = |from: &str, to: &str| {
        let text = authorization.replace(from, to);
        by_edit(&move |request| {
            request.headers_mut().insert("authorization", HeaderValue::try_from(&text).unwrap());
        })
    };
    for (refusal, word) in [
        (
            by_edit(&|request| {
                request.headers_mut().remove("authorization");
            }),
            "missing",
        ),
        (named("mchid=\"10000100\"", "mchid=\"10000101\""), "the one known here"),
        (named("mchid=\"10000100\",", ""), "each once"),
        (named("mchid=\"10000100\"", "mchid=10000100"), "each once"),
        (named(SERIAL_OF_MERCHANT, "5132"), "certificate"),
        (named("WECHATPAY2-SHA256-RSA2048", "Bearer"), "each once"),
        (by_edit(&|request| *request.body_mut() = Bytes::from_static(b"{}")), "must be: POST"),
    ] {
        assert_eq!(refusal.code, "SIGN_ERROR", "{refusal:?}");
        assert!(refusal.explanation.contains(word), "{word}: {refusal:?}");
        let said = gateway().encode_answer(&Answer::Refused(refusal), &[], &stamp());
        assert_eq!(said.status(), StatusCode::UNAUTHORIZED);
    }
    let text = asked_text("GET", "/v3/pay/transactions/id/1", &seconds(NOW), "n", b"");
    assert!(text.ends_with(b"n\n\n"), "an empty body has its line, too");
    let mut query = signed("GET", "/v3/pay/transactions/out-trade-no/T20231115_1", "");
    *query.uri_mut() =
        "http://127.0.0.1/v3/pay/transactions/out-trade-no/T20231115_1?mchid=10000100".parse().unwrap();
    assert!(no(&query).explanation.contains("query was not signed"));
    let status = |refusal: Refusal| {
        gateway().encode_answer(&Answer::Refused(refusal), &[], &stamp()).status().as_u16()
    };
    assert_eq!(status(no(&signed("GET", NATIVE, ""))), 405);
    assert_eq!(status(no(&signed("POST", "/v3/pay/transactions/qq", "{}"))), 404);
    assert_eq!(status(no(&signed("POST", APP, std::str::from_utf8(sent(&call).body()).unwrap()))), 403);
    assert_eq!(no(&by_without("accept", &call)).code, "INVALID_REQUEST");
    assert_eq!(no(&by_without("user-agent", &call)).code, "INVALID_REQUEST");
    assert_eq!(no(&by_without("content-type", &call)).code, "PARAM_ERROR");
}

fn by_without(name: &str, call: &Call) -> Request<Bytes> {
    let mut request = sent(call);
    request.headers_mut().remove(name);
    request
}

#[test]
fn certificates_are_learned_and_changed_without_a_gap() {
    let gateway = gateway();
    let merchant = with_keys(Vec::new());
    let listed = |stamp: &Stamp| {
        let request = merchant.ask_certificates(stamp).unwrap();
        let echo = gateway.authorize(&request).unwrap();
        gateway.encode_certificates(&echo, stamp)
    };
    let trade = paid_trade(Scene::Native, &[("api", "v3")]);
    let notice =
        |kind| gateway.with_key(kind).encode_notice(&trade, "https://pay.example.com/n", "E", &stamp());
    let told = |kind| merchant.decode_notice(&notice(kind), NOW).map(|_| ());
    for kind in [KeyKind::Public, KeyKind::Certificate, KeyKind::NextCertificate] {
        assert!(matches!(told(kind), Err(Fault::UnknownKey(_))), "nothing is known yet");
    }
    assert_eq!(
        merchant.learn_certificates(&listed(&stamp()), NOW),
        Ok(2),
        "the first is trusted by its seal"
    );
    assert_eq!((told(KeyKind::Certificate), told(KeyKind::NextCertificate)), (Ok(()), Ok(())));
    assert!(matches!(told(KeyKind::Public), Err(Fault::UnknownKey(_))));
    // Grey rollout of the public key: both kinds at once, in any mixture.
    merchant.ring().learn([public_key()]);
    for kind in [KeyKind::Public, KeyKind::Certificate, KeyKind::NextCertificate] {
        assert_eq!(told(kind), Ok(()), "{kind:?}");
    }
    // The old one ends, the new one goes on.
    let later = Stamp { now: NOW.plus(101 * 86_400_000), ..stamp() };
    let notice =
        |kind| gateway.with_key(kind).encode_notice(&trade, "https://pay.example.com/n", "E", &later);
    let told = |kind| merchant.decode_notice(&notice(kind), later.now).map(|_| ());
    assert!(matches!(told(KeyKind::Certificate), Err(Fault::UnknownKey(why)) if why.contains("good from")));
    assert_eq!((told(KeyKind::NextCertificate), told(KeyKind::Public)), (Ok(()), Ok(())));
}

#[test]
fn certificates_that_are_not_taken() {
    let merchant = with_keys(Vec::new());
    let request = merchant.ask_certificates(&stamp()).unwrap();
    let echo = gateway().authorize(&request).unwrap();
    let good = gateway().encode_certificates(&echo, &stamp());
    let mut changed = good.clone();
    let body = String::from_utf8(good.body().to_vec()).unwrap();
    *changed.body_mut() = Bytes::from(body.replace("\"serial_no\":\"7F0101", "\"serial_no\":\"7F0102"));
    assert!(matches!(merchant.learn_certificates(&changed, NOW), Err(Fault::Malformed(_))));
    *changed.body_mut() = Bytes::from(body.replace("\"ciphertext\":\"", "\"ciphertext\":\"AAAA"));
    assert!(matches!(merchant.learn_certificates(&changed, NOW), Err(Fault::BadSignature(_))));
    *changed.body_mut() = Bytes::from(format!("{body} "));
    assert!(matches!(merchant.learn_certificates(&changed, NOW), Err(Fault::BadSignature(_))));
    assert!(matches!(merchant.learn_certificates(&good, NOW.plus(400_000)), Err(Fault::Stale(_))));
    let public_only = no_with(404, r#"{"code":"RESOURCE_NOT_EXISTS","message":"无可用的平台证书"}"#);
    assert!(matches!(merchant.learn_certificates(&public_only, NOW), Err(Fault::Refused { .. })));
    assert!(merchant.ring().is_empty(), "nothing of all this was taken");
    assert_eq!(merchant.learn_certificates(&good, NOW), Ok(2));
    assert!(merchant.ring().ends_at() > Some(NOW.plus(1700 * 86_400_000)));
}
