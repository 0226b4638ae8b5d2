//! Tests of both halves: other people's vectors, round trips, the table of what must not be believed.

use bytes::Bytes;
use http::{Request, Response};
use proptest::prelude::*;
use serde_json::Value;

use super::super::testing::{
    NODE, NOW, NUMBER, PYTHON, Row, alipay_key, app_key, captured, number, of_trade, paid_trade, refund_no,
    reply, request, rows, stamp, terms, vectors,
};
use super::super::{
    Ack, Answer, Call, Counterpart, Merchant, Notice, Objection, Outgoing, Paid, Received, Refunded, Reply,
    Retry, Standing, Terms, Told, Trade, TradeState, Visit,
};
use super::*;
use crate::domain::id::TransactionId;
use crate::domain::money::Fen;
use crate::domain::order::Code;
use crate::domain::time;

pub(super) fn merchant() -> Alipay {
    Alipay::new(Config {
        app_id: "2014072300007148".to_owned(),
        seller_id: "2088102146225135".to_owned(),
        gateway_url: "http://127.0.0.1:3001/gateway.do".to_owned(),
        app_key: app_key(),
        alipay_key: alipay_key().public().clone(),
    })
}

pub(super) fn gateway() -> AlipayGateway {
    AlipayGateway::new(GatewayConfig {
        app_id: "2014072300007148".to_owned(),
        seller_id: "2088102146225135".to_owned(),
        app_key: app_key().public().clone(),
        alipay_key: alipay_key(),
    })
}

/// The title of the shared terms, as this gateway takes it.
fn ali_terms(scene: Scene) -> Terms {
    Terms { client_ip: String::new(), ..terms(scene) }
}

fn create() -> Call {
    Call::Create { out_trade_no: number(), terms: ali_terms(Scene::QrCode) }
}

fn query() -> Call {
    Call::Query { out_trade_no: number() }
}

pub(super) fn sent(call: &Call) -> Request<Bytes> {
    match merchant().encode_call(call, &stamp()).unwrap() {
        Outgoing::Send(request) => request,
        Outgoing::Local(reply) => panic!("{reply:?}"),
    }
}

fn order_string(terms: Terms) -> String {
    let call = Call::Create { out_trade_no: number(), terms };
    match merchant().encode_call(&call, &stamp()).unwrap() {
        Outgoing::Local(Reply::Created(code)) => code.content,
        other => panic!("{other:?}"),
    }
}

pub(super) fn each<'a>(file: &'a Value, name: &str) -> std::slice::Iter<'a, Value> {
    file[name].as_array().unwrap().iter()
}

pub(super) fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn paid() -> Trade {
    Trade::Paid(Paid {
        out_trade_no: number(),
        transaction_id: TransactionId::new("4200001234202311151234567890").unwrap(),
        total: Fen::new(1110).unwrap(),
        paid_at: NOW.plus(-1000),
    })
}

#[test]
fn signatures_by_others() {
    // RSA2 is deterministic: the same key over the same text is the same signature.
    let key = app_key();
    let mut count = 0;
    for file in [NODE, PYTHON].map(vectors) {
        let requests = each(&file, "alipay_requests").map(|vector| {
            let query = text(vector, "url").split_once('?').unwrap().1;
            format!("{query}&{}", text(vector, "body"))
        });
        let strings = each(&file, "order_strings").map(|vector| text(vector, "text").to_owned());
        for form in requests.chain(strings) {
            let params = read_form(form.as_bytes()).unwrap();
            let made = sign(&key, &canonical(&params, &["sign"], Empties::Kept));
            assert_eq!(made, params["sign"], "{form}");
            count += 1;
        }
    }
    assert_eq!(count, 3 + 2 + 3 + 1);
}

#[test]
fn requests_by_others_are_taken() {
    let mut methods = Vec::new();
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "alipay_requests") {
            let received = gateway().decode_call(&captured(vector), NOW).unwrap();
            assert_eq!(received.call.out_trade_no().as_str(), "T20260601_1");
            methods.push(received.method);
        }
        for vector in each(&file, "order_strings") {
            let received = gateway().decode_order_string(text(vector, "text"), NOW).unwrap();
            let Call::Create { terms, .. } = received.call else { panic!("a creation") };
            assert!(terms.title.starts_with("测试 + 100% \"茶\""), "{}", terms.title);
            assert_eq!((terms.scene, terms.total.get()), (Scene::App, 1110));
            assert_eq!(terms.notify_url, "https://pay.example.com/rest/pub/ali/pay_notify");
            assert_eq!(time::spaced(terms.time_expire), "2099-01-01 00:00:00");
        }
    }
    let three = ["alipay.trade.precreate", "alipay.trade.query", "alipay.trade.close"];
    assert_eq!(methods, [three, three].concat());
}

#[test]
fn notices_by_others_are_taken() {
    let mut told = Vec::new();
    for vector in each(&vectors(PYTHON), "alipay_notices") {
        let body = text(vector, "body").to_owned();
        let ids = ("2014072300007148".to_owned(), "2088102146225135".to_owned());
        assert_eq!(identify(body.as_bytes()), Ok(ids));
        let notice = merchant().decode_notice(&request(body), NOW).unwrap().into_inner();
        assert_eq!(notice.out_trade_no.as_str(), "T20260601_1");
        assert_eq!(notice.delivery_id.as_deref(), Some("4a91b7a78a503640467525113fb7d8bg8e"));
        let word = match of_trade(notice.told) {
            Trade::Paid(paid) => {
                assert_eq!(paid.total.get(), 1110);
                assert_eq!(paid.transaction_id.as_str(), "2026060121001004600200001234");
                assert_eq!(time::spaced(paid.paid_at), "2026-06-01 12:00:00");
                "paid"
            }
            Trade::Waiting => "waiting",
            Trade::Closed => "closed",
            Trade::Absent => "absent",
        };
        told.push(format!("{}: {word}", text(vector, "name")));
    }
    assert_eq!(
        told,
        [
            "paid: paid",
            "paid, an empty field signed with the rest: paid",
            "paid, an unknown field: paid",
            "a part was given back: paid",
            "all was given back: paid",
            "finished: paid",
            "waiting: waiting",
            "closed unpaid: closed",
        ]
    );
}

#[test]
fn replies_by_others_are_taken() {
    let number = crate::domain::id::OutTradeNo::new("T20260601_1").unwrap();
    let create = Call::Create { out_trade_no: number.clone(), terms: ali_terms(Scene::QrCode) };
    let query = Call::Query { out_trade_no: number.clone() };
    let close = Call::Close { out_trade_no: number };
    for vector in each(&vectors(PYTHON), "alipay_replies") {
        let name = text(vector, "name");
        let call = match name {
            "precreate" => &create,
            "close" => &close,
            _ => &query,
        };
        let body = text(vector, "body");
        let read = merchant().decode_reply(call, &reply(body.to_owned()), NOW).unwrap();
        match (name, read) {
            ("precreate", Reply::Created(code)) => {
                assert_eq!(code.content, "https://qr.alipay.com/bax03206ug0kulveltqc80a8");
            }
            ("query paid", Reply::Trade(Trade::Paid(paid))) => assert_eq!(paid.total.get(), 1110),
            ("query of nothing", Reply::Trade(Trade::Absent)) | ("close", Reply::Closed) => {}
            (name, other) => panic!("{name}: {other:?}"),
        }
        // The signature is over the very bytes: the same value written otherwise is not signed.
        for changed in [body.replace("\\/", "/"), body.replacen("\"code\":", "\"code\": ", 1)] {
            if changed != body {
                let read = merchant().decode_reply(call, &reply(changed), NOW);
                assert!(matches!(read, Err(Fault::BadSignature(_))), "{name}: {read:?}");
            }
        }
    }
}

#[test]
fn a_creation_there_and_back() {
    let request = sent(&create());
    let query = request.uri().query().unwrap();
    assert!(query.contains("charset=utf-8") && query.contains("notify_url=https%3A%2F%2F"), "{query}");
    assert!(!query.contains("biz_content") && request.body().starts_with(b"biz_content=%7B"));
    let received = gateway().decode_call(&request, NOW).unwrap();
    assert_eq!(received.call, create());
    let code = Code { content: "https://qr.alipay.com/bax1".to_owned(), prepay_id: None, until: None };
    let answer = gateway().encode_answer(&Answer::Created(code.clone()), &received.echo, &stamp());
    let body = std::str::from_utf8(answer.body()).unwrap();
    assert!(body.starts_with("{\"alipay_trade_precreate_response\":{"), "{body}");
    assert!(body.contains("https:\\/\\/qr.alipay.com\\/bax1") && body.contains("},\"sign\":\""), "{body}");
    assert_eq!(answer.headers()["content-type"], "text/html;charset=utf-8");
    assert_eq!(merchant().decode_reply(&create(), &answer, NOW), Ok(Reply::Created(code)));
}

#[test]
fn an_order_string_there_and_back() {
    let terms = ali_terms(Scene::App);
    let text = order_string(terms.clone());
    for part in ["sign=", "timestamp=2023-11-15%2006%3A13%3A20", "notify_url=https%3A%2F%2Fpay.example.com"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains(['+', ' ', '/', '"', '{', ':']), "{text}");
    let received = gateway().decode_order_string(&text, NOW.plus(60_000)).unwrap();
    assert_eq!(received.call, Call::Create { out_trade_no: number(), terms: terms.clone() });
    // Changed, late, and of another kind.
    let code = |text: &str, now| gateway().decode_order_string(text, now).unwrap_err().code;
    assert_eq!(code(&text.replace("11.10", "11.11"), NOW), "isv.invalid-signature");
    assert_eq!(code(&text, terms.time_expire), "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR");
    let soon = Terms { time_expire: NOW.plus(299_000), ..terms };
    assert_eq!(code(&order_string(soon), NOW), "ACQ.INVALID_PARAMETER");
    let request = sent(&create());
    let form = format!("{}&{}", request.uri().query().unwrap(), std::str::from_utf8(request.body()).unwrap());
    assert_eq!(code(&form, NOW), "isv.invalid-method");
    assert_eq!(code("", NOW), "isv.missing-app-id");
}

/// The link that a browser opens is a request to the gateway, signed whole (gateways.md 4.8).
#[test]
fn links_for_browsers_there_and_back() {
    for (scene, method) in [(Scene::Wap, "alipay.trade.wap.pay"), (Scene::Page, "alipay.trade.page.pay")] {
        let back = Some("https://pay.example.com/pay/x?asked=1&lang=en".to_owned());
        let terms = Terms { visit: Visit { return_url: back, ..Visit::default() }, ..ali_terms(scene) };
        let call = Call::Create { out_trade_no: number(), terms };
        let Outgoing::Local(Reply::Created(code)) = merchant().encode_call(&call, &stamp()).unwrap() else {
            panic!("nothing is sent");
        };
        let opened = |url: &str| Request::get(url).body(Bytes::new()).unwrap();
        let received = gateway().decode_call(&opened(&code.content), NOW).unwrap();
        assert_eq!((received.method.as_str(), &received.call), (method, &call));
        let dearer = code.content.replace("11.10", "11.11");
        let refused = gateway().decode_call(&opened(&dearer), NOW).unwrap_err();
        assert_eq!(refused.code, "isv.invalid-signature");
        let late = gateway().decode_call(&opened(&code.content), NOW.plus(600_000)).unwrap_err();
        assert_eq!(late.code, "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR");
    }
    for scene in [Scene::Native, Scene::Jsapi, Scene::Mweb] {
        let call = Call::Create { out_trade_no: number(), terms: ali_terms(scene) };
        assert!(merchant().encode_call(&call, &stamp()).is_err(), "{scene} is a scene of WeChat");
    }
}

#[test]
fn a_repetition_has_the_same_fingerprint() {
    let print = |stamp, terms| {
        let call = Call::Create { out_trade_no: number(), terms };
        let Outgoing::Send(request) = merchant().encode_call(&call, &stamp).unwrap() else { panic!() };
        gateway().decode_call(&request, NOW).unwrap().fingerprint
    };
    let later = super::super::Stamp { now: NOW.plus(5000), nonce: String::new() };
    let first = print(stamp(), ali_terms(Scene::QrCode));
    assert_eq!(first, print(later, ali_terms(Scene::QrCode)));
    let dearer = Terms { total: Fen::new(1).unwrap(), ..ali_terms(Scene::QrCode) };
    assert_ne!(first, print(stamp(), dearer));
}

#[test]
fn queries_there_and_back() {
    let received = gateway().decode_call(&sent(&query()), NOW).unwrap();
    let trade = paid_trade(Scene::QrCode, &[]);
    let unpaid = Standing { paid_at: None, ..trade.clone() };
    let unscanned = Standing { transaction_id: None, state: TradeState::NotPay, ..unpaid.clone() };
    for (trade, expected) in [
        (trade.clone(), paid()),
        // Closed by a refund after it was paid.
        (Standing { state: TradeState::Closed, ..trade }, paid()),
        (Standing { state: TradeState::NotPay, ..unpaid.clone() }, Trade::Waiting),
        (Standing { state: TradeState::Closed, ..unpaid }, Trade::Closed),
        (unscanned, Trade::Absent),
    ] {
        let answer = gateway().encode_answer(&Answer::Trade(trade), &received.echo, &stamp());
        assert_eq!(merchant().decode_reply(&query(), &answer, NOW), Ok(Reply::Trade(expected)));
    }
    let close = Call::Close { out_trade_no: number() };
    let received = gateway().decode_call(&sent(&close), NOW).unwrap();
    let answer = gateway().encode_answer(&Answer::Closed, &received.echo, &stamp());
    assert_eq!(merchant().decode_reply(&close, &answer, NOW), Ok(Reply::Closed));
}

#[test]
fn objections_in_alipays_words() {
    let close = Call::Close { out_trade_no: number() };
    for (call, objection, expected) in [
        (create(), Objection::Paid, "AlreadyPaid"),
        (create(), Objection::Closed, "NewNumber"),
        (create(), Objection::OtherTerms, "NewNumber"),
        (create(), Objection::Busy, "Unknown"),
        (query(), Objection::Absent, "Ok(Trade(Absent))"),
        (close.clone(), Objection::Absent, "ACQ.TRADE_NOT_EXIST"),
        (close, Objection::Paid, "AlreadyPaid"),
    ] {
        let received = gateway().decode_call(&sent(&call), NOW).unwrap();
        let refusal = gateway().refuse(&received, objection);
        let answer = gateway().encode_answer(&Answer::Refused(refusal), &received.echo, &stamp());
        let read = format!("{:?}", merchant().decode_reply(&call, &answer, NOW));
        assert!(read.contains(expected), "{objection:?}: {read}");
    }
}

/// `node` in the envelope of a query, signed or not.
fn enveloped(node: &str, signed: bool) -> Response<Bytes> {
    let key = alipay_key();
    let sign = if signed { format!(",\"sign\":\"{}\"", sign(&key, node)) } else { String::new() };
    reply(format!("{{\"alipay_trade_query_response\":{node}{sign}}}"))
}

#[test]
fn replies_that_are_no_yes() {
    let read = |answer: &Response<Bytes>| {
        let read = merchant().decode_reply(&query(), answer, NOW);
        format!("{read:?}").split('"').next().unwrap_or_default().to_owned()
    };
    let no = |code: &str, sub: &str| format!(r#"{{"code":"{code}","msg":"x","sub_code":"{sub}"}}"#);
    let paid = r#"{"code":"10000","msg":"Success","out_trade_no":"T20231115_1","trade_status":"TRADE_SUCCESS","total_amount":"11.10","trade_no":"42","send_pay_date":"2026-06-01 12:00:00"}"#;
    for (answer, expected) in [
        (enveloped(paid, true), "Ok(Trade(Paid(Paid { out_trade_no: OutTradeNo("),
        (enveloped(paid, false), "Err(BadSignature("),
        (enveloped(&paid.replace("T20231115_1", "OTHER"), true), "Err(Malformed("),
        (enveloped(&paid.replace("11.10", "11.1x"), true), "Err(Malformed("),
        (enveloped(&paid.replace("TRADE_SUCCESS", "SOMETHING_NEW"), true), "Ok(Trade(Waiting))"),
        (enveloped(&no("40002", "isv.invalid-app-id"), false), "Err(Refused { code: "),
        (enveloped(&no("20000", "isp.unknow-error"), false), "Err(Unknown("),
        (enveloped(&no("40004", "aop.ACQ.SYSTEM_ERROR"), true), "Err(Unknown("),
        (enveloped("\"encrypted\"", true), "Err(Malformed("),
        (reply("{}"), "Err(Malformed("),
        (reply("<html>502</html>"), "Err(Malformed("),
        (reply(r#"{"error_response":{"code":"40001","msg":"x"}}"#), "Err(Refused { code: "),
        (Response::builder().status(502).body(Bytes::new()).unwrap(), "Err(Unknown("),
    ] {
        assert_eq!(read(&answer), expected, "{:?}", answer.body());
    }
    // Unsigned: neither final nor absent, whatever it says.
    let unsigned = enveloped(&no("40004", "ACQ.TRADE_NOT_EXIST"), false);
    let later = merchant().decode_reply(&query(), &unsigned, NOW);
    assert!(matches!(later, Err(Fault::Refused { retry: Retry::Later, .. })), "{later:?}");
    // Two nodes: which one is signed?
    let signed = String::from_utf8(enveloped(paid, true).body().to_vec()).unwrap();
    let twice = signed.replacen('{', &format!("{{\"alipay_trade_query_response\":{},", no("10000", "")), 1);
    assert!(matches!(merchant().decode_reply(&query(), &reply(twice), NOW), Err(Fault::Malformed(_))));
}

#[test]
fn a_notice_there_and_back() {
    let trade = paid_trade(Scene::QrCode, &[("body", "a+b%20c"), ("passback_params", "")]);
    let sent =
        gateway().encode_notice(&trade, "http://127.0.0.1:3000/rest/pub/ali/pay_notify", "n1", &stamp());
    assert_eq!(sent.uri().path(), "/rest/pub/ali/pay_notify");
    assert!(read_form(sent.body()).unwrap().values().all(|value| !value.is_empty()));
    let read = merchant().decode_notice(&sent, NOW).unwrap().into_inner();
    let delivery_id = Some("n1".to_owned());
    assert_eq!(read, Notice { out_trade_no: number(), delivery_id, told: Told::Trade(paid()) });
    for (state, expected) in [(TradeState::NotPay, Trade::Waiting), (TradeState::Closed, Trade::Closed)] {
        let trade = Standing { state, paid_at: None, ..trade.clone() };
        let sent = gateway().encode_notice(&trade, "http://127.0.0.1/n", "n2", &stamp());
        assert_eq!(merchant().decode_notice(&sent, NOW).unwrap().get().told, Told::Trade(expected));
    }
    // One name twice: two readers could see two amounts.
    let twice = [sent.body().as_ref(), b"&total_amount=11.10"].concat();
    assert!(matches!(merchant().decode_notice(&request(twice), NOW), Err(Fault::Malformed(_))));
}

#[test]
fn acks_word_for_word() {
    let accepted = encode_ack(Ack::Accepted);
    assert_eq!(accepted.body(), "success");
    assert!(gateway().decode_ack(&accepted));
    assert_eq!(encode_ack(Ack::Failed).body(), "failure");
    for body in ["failure", "success\n", " success", "SUCCESS", "\u{feff}success"] {
        assert!(!gateway().decode_ack(&reply(body)), "{body:?}");
    }
}

#[test]
fn refusals_of_the_gateway_itself_are_unsigned() {
    let foreign = sent(&query()).uri().to_string().replace("2014072300007148", "2014072300007149");
    let refusal = gateway().decode_call(&Request::get(foreign).body(Bytes::new()).unwrap(), NOW).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.trusted), ("isv.invalid-app-id", false));
    let echo = refusal.echo.clone();
    let answer = gateway().encode_answer(&Answer::Refused(refusal), &echo, &stamp());
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(body["alipay_trade_query_response"]["code"], "40002");
    assert!(body.get("sign").is_none());
}

#[test]
fn a_wrong_signature_is_explained() {
    for (signature, cause) in [
        ("cut", "not base64"),
        ("plus-as-space", "unescaped"),
        ("own-key", "Alipay's key instead"),
        ("other-key", "another private key"),
    ] {
        let params = signed_params("ali.call", &[], signature);
        let explanation = gateway().decode_call(&called(&params), NOW).unwrap_err().explanation;
        assert!(explanation.contains(cause), "{signature}: {explanation}");
        assert!(explanation.contains("app_id=2014072300007148&biz_content={"), "{explanation}");
    }
}

#[test]
fn what_must_not_be_believed() {
    let rows = rows("ali.");
    assert!(rows.len() >= 50);
    for Row { line, message, edits, signature, outcome } in rows {
        let params = signed_params(message, &edits, signature);
        let told = match message {
            "ali.notice" | "ali.notice.refund" => {
                outcome_of(merchant().decode_notice(&request(write_form(&params)), NOW))
            }
            "ali.call" => {
                gateway().decode_call(&called(&params), NOW).map_or_else(|no| no.code, |_| "ok".to_owned())
            }
            _ => panic!("{line}"),
        };
        assert_eq!(told, outcome, "{line}");
    }
}

#[test]
fn titles_for_alipay() {
    let clean = |title: &str| clean_title(title, "1234");
    assert_eq!(clean("DEMO"), "DEMO");
    assert_eq!(clean("a/b=c&d"), "a b c d");
    assert_eq!(clean("🍵 茶"), "茶");
    assert_eq!(clean("/=&🍵"), "1234");
    assert_eq!(clean(&"茶".repeat(300)), "茶".repeat(256));
}

#[test]
fn expiry_for_alipay() {
    assert_eq!(round_expiry(Scene::App, NOW, NOW.plus(1)), NOW.plus(300_000));
    assert_eq!(round_expiry(Scene::App, NOW, NOW.plus(400_001)), NOW.plus(401_000));
    assert_eq!(round_expiry(Scene::QrCode, NOW, NOW.plus(60_001)), NOW.plus(61_000));
}

#[test]
fn times_by_every_rule() {
    let expire = |member: &str| {
        let biz = format!(r#"{{"out_trade_no":"{NUMBER}","subject":"x","total_amount":0.01{member}}}"#);
        let mut params = signed_params("ali.call", &[], "keep");
        put(&mut params, "biz_content", &biz);
        resign(&mut params, &app_key(), &["sign"]);
        gateway().decode_call(&called(&params), NOW).map(|Received { call, .. }| match call {
            Call::Create { terms, .. } => time::spaced(terms.time_expire),
            other => panic!("{other:?}"),
        })
    };
    for (member, expected) in [
        ("", "2023-11-15 09:13:20"),
        (r#","timeout_express":"90m""#, "2023-11-15 07:43:20"),
        (r#","timeout_express":"15d""#, "2023-11-30 06:13:20"),
        (r#","timeout_express":"1c""#, "2023-11-16 00:00:00"),
        (r#","time_expire":"2023-11-15 06:20""#, "2023-11-15 06:20:00"),
        (r#","time_expire":"2023-11-15 06:20:01","timeout_express":"1d""#, "2023-11-15 06:20:01"),
    ] {
        assert_eq!(expire(member).as_deref(), Ok(expected), "{member}");
    }
    for member in ["1.5h", "0m", "16d", "1y", "-1m", "m", "é"] {
        assert!(expire(&format!(r#","timeout_express":"{member}""#)).is_err(), "{member}");
    }
    let past = expire(r#","time_expire":"2023-11-15 06:13""#).unwrap_err();
    assert_eq!(past.code, "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any bytes at all, and bytes that begin well.
    #[test]
    fn no_bytes_bring_it_down(noise: Vec<u8>, form in "([a-z_]{1,8}=[%+a-f0-9]{0,12}&?){0,5}", json in "\\{(\"[a-z_]{0,9}\":(\\{.{0,9}\\}|\"[^\"]{0,9}\"),?){0,4}\\}?") {
        for body in [noise.clone(), form.clone().into_bytes(), json.into_bytes(), [form.as_bytes(), &noise].concat()] {
            let _ = identify(&body);
            prop_assert!(merchant().decode_notice(&request(body.clone()), NOW).is_err());
            prop_assert!(merchant().decode_reply(&create(), &reply(body.clone()), NOW).is_err());
            prop_assert!(gateway().decode_call(&request(body), NOW).is_err());
        }
        prop_assert!(gateway().decode_order_string(&form, NOW).is_err());
    }

    #[test]
    fn any_title_is_cleaned_into_one_the_gateway_takes(title in "\\PC{0,300}") {
        let title = clean_title(&title, "1234");
        prop_assert!(!title.is_empty() && title.chars().count() <= 256 && title == title.trim());
        let call = Call::Create { out_trade_no: number(), terms: Terms { title, ..ali_terms(Scene::QrCode) } };
        prop_assert_eq!(gateway().decode_call(&sent(&call), NOW).map(|it| it.call), Ok(call));
    }
}

pub(super) fn outcome_of<T: std::fmt::Debug>(read: Result<T, Fault>) -> String {
    let fault = match read {
        Ok(_) => return "ok".to_owned(),
        Err(fault) => format!("{fault:?}"),
    };
    fault.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// Everything in the body of a POST, as some SDKs send it.
pub(super) fn called(params: &Params) -> Request<Bytes> {
    Request::post("http://127.0.0.1/gateway.do").body(write_form(params).into()).unwrap()
}

pub(super) fn resign(params: &mut Params, key: &PrivateKey, skip: &[&str]) {
    let made = sign(key, &canonical(params, skip, Empties::Kept));
    put(params, "sign", &made);
}

/// A right message of the kind, edited, and signed as the table says.
fn signed_params(message: &str, edits: &[(&str, Option<&str>)], signature: &str) -> Params {
    let (own, others, skip): (_, _, &[&str]) = match message {
        "ali.call" => (app_key(), alipay_key(), &["sign"]),
        _ => (alipay_key(), app_key(), &["sign", "sign_type"]),
    };
    let mut params = if message == "ali.call" {
        let request = sent(&create());
        let mut params = read_form(request.uri().query().unwrap().as_bytes()).unwrap();
        params.extend(read_form(request.body()).unwrap());
        params
    } else {
        let trade = paid_trade(Scene::QrCode, &[("body", "a+b")]);
        let refunded =
            Refunded { total: Fen::new(110).unwrap(), out_refund_no: refund_no(), at: NOW.plus(-500) };
        let refunded = (message == "ali.notice.refund").then_some(refunded);
        let trade = Standing { refunded, ..trade };
        read_form(gateway().encode_notice(&trade, "http://127.0.0.1/n", "n1", &stamp()).body()).unwrap()
    };
    edit(&mut params, edits);
    if signature != "keep" {
        let made = made(signature, &canonical(&params, skip, Empties::Kept), &own, &others);
        params.remove("sign");
        params.extend(made.map(|made| ("sign".to_owned(), made)));
    }
    params
}

pub(super) fn edit(params: &mut Params, edits: &[(&str, Option<&str>)]) {
    for (name, value) in edits {
        match value {
            Some(value) => put(params, name, value),
            None => drop(params.remove(*name)),
        }
    }
}

/// The signature of `text` that the table asks for: by the rightful key, by the other side's, damaged.
pub(super) fn made(signature: &str, text: &str, own: &PrivateKey, others: &PrivateKey) -> Option<String> {
    let by = |key: &PrivateKey| sign(key, text);
    let right = by(own);
    match signature {
        "none" => None,
        "right" => Some(right),
        "empty" => Some(String::new()),
        "lower" => Some(right.to_lowercase()),
        // Three of the four: no whole group, so not base64 either.
        "cut" => Some(right[..right.len() - 3].to_owned()),
        "one-off" => Some(format!("{}{}", if right.starts_with('A') { 'B' } else { 'A' }, &right[1..])),
        "plus-as-space" => Some(format!(" {}", &right[1..])),
        "own-key" => Some(by(others)),
        "other-key" => Some(by(&PrivateKey::read(PrivateKey::generate().unwrap().expose()).unwrap())),
        other => panic!("{other}"),
    }
}
