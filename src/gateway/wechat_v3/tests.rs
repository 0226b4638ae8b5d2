//! Tests of both halves: other people's vectors, round trips, and what must not be believed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde_json::{Value, json};

use super::super::testing::{
    NOW, alipay_key, app_key, gateway_refund, number, of_trade, paid_trade, refund_no, refund_terms, stamp,
    terms, vectors,
};
use super::super::{
    Ack, Answer, Call, Counterpart, Fault, GatewayRefundState, Merchant, Objection, Outgoing, Reply, Retry,
    Shop, Stamp, Terms, Told, Trade, TradeState, Visit,
};
use super::*;
use crate::domain::id::{OutTradeNo, Payer, Scene};
use crate::domain::order::Code;
use crate::domain::refund::RefundStanding;
use crate::gateway::keys::{PrivateKey, Secret};

const V3: &str = include_str!("../vectors/wechat_v3.json");
const API_KEY: &str = "0123456789abcdef0123456789abcdef";
const APP_ID: &str = "wxd930ea5d5a258f4f";
pub(super) const SERIAL_OF_MERCHANT: &str = "7132D72A03E93CDDF8C03BBD1F37EEDF1234ABCD";
const PUBLIC: &str = "PUB_KEY_ID_0110000100202311150000000001";

/// A certificate over a key, good for these days around `NOW`.
fn certificate(key: &PrivateKey, serial: u8, days: (i64, i64)) -> PlatformSigner {
    let pem = key.to_pem().unwrap();
    let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem.expose(), &rcgen::PKCS_RSA_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let number = [&[0x7f][..], &[serial; 19]].concat();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&number));
    let day = |days: i64| {
        let text = crate::domain::time::compact(NOW.plus(days * 86_400_000));
        let part = |range: std::ops::Range<usize>| text[range].parse::<i32>().unwrap();
        let (month, day) = (u8::try_from(part(4..6)).unwrap(), u8::try_from(part(6..8)).unwrap());
        rcgen::date_time_ymd(part(0..4), month, day)
    };
    (params.not_before, params.not_after) = (day(days.0), day(days.1));
    let certificate = params.self_signed(&pair).unwrap().pem();
    PlatformSigner { serial: hex::encode_upper(number), key: key.clone(), certificate }
}

pub(super) fn gateway() -> WechatV3Gateway {
    WechatV3Gateway::new(GatewayConfig {
        app_id: APP_ID.to_owned(),
        mch_id: "10000100".to_owned(),
        merchant_serial: SERIAL_OF_MERCHANT.to_owned(),
        merchant_key: app_key().public().clone(),
        api_key: Secret::new(API_KEY),
        public: PlatformSigner { serial: PUBLIC.to_owned(), key: alipay_key(), certificate: String::new() },
        certificates: [certificate(&alipay_key(), 1, (-300, 100)), certificate(&app_key(), 2, (-1, 1800))],
    })
}

pub(super) fn public_key() -> PlatformKey {
    PlatformKey { serial: PUBLIC.to_owned(), key: alipay_key().public().clone(), valid: None }
}

pub(super) fn with_keys(platform: Vec<PlatformKey>) -> WechatV3 {
    WechatV3::new(Config {
        app_id: APP_ID.to_owned(),
        mch_id: "10000100".to_owned(),
        serial: SERIAL_OF_MERCHANT.to_owned(),
        key: app_key(),
        api_key: Secret::new(API_KEY),
        platform,
        base_url: "http://127.0.0.1:3001".to_owned(),
    })
}

fn merchant() -> WechatV3 {
    with_keys(vec![public_key()])
}

pub(super) fn sent(call: &Call) -> Request<Bytes> {
    match merchant().encode_call(call, &stamp()).unwrap() {
        Outgoing::Send(request) => request,
        Outgoing::Local(reply) => panic!("{reply:?}"),
    }
}

pub(super) fn create(scene: Scene) -> Call {
    let visit = match scene {
        Scene::Jsapi => {
            Visit { openid: Some(Payer::new("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap()), ..Visit::default() }
        }
        Scene::Mweb => Visit {
            return_url: Some("https://pay.example.com/pay/x?asked=1".to_owned()),
            shop: Some(Shop { url: "https://pay.example.com".to_owned(), name: "茶店".to_owned() }),
            ..Visit::default()
        },
        _ => Visit::default(),
    };
    Call::Create { out_trade_no: number(), terms: Terms { visit, ..terms(scene) } }
}

fn query() -> Call {
    Call::Query { out_trade_no: number() }
}

fn headers_of(vector: &Value) -> HeaderMap {
    let pairs = vector["headers"].as_object().unwrap().iter();
    pairs
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value.as_str().unwrap()).unwrap())
        })
        .collect()
}

fn body_of(vector: &Value) -> Bytes {
    vector["body"].as_str().unwrap().to_owned().into()
}

fn each<'a>(file: &'a Value, name: &str) -> std::slice::Iter<'a, Value> {
    file[name].as_array().unwrap().iter()
}

fn notice_of(vector: &Value) -> Request<Bytes> {
    let mut request = Request::post("http://127.0.0.1/notice").body(body_of(vector)).unwrap();
    *request.headers_mut() = headers_of(vector);
    request
}

/// A yes with the signature of the public key over it.
fn answer(body: &str) -> Response<Bytes> {
    let text = told_text(&seconds(NOW), "nonce", body.as_bytes());
    let mut response = Response::new(Bytes::from(body.to_owned()));
    for (name, value) in [
        (&TIMESTAMP, seconds(NOW)),
        (&NONCE, "nonce".to_owned()),
        (&SIGNATURE, sign(&alipay_key(), &text)),
        (&SERIAL, PUBLIC.to_owned()),
    ] {
        response.headers_mut().insert(name.clone(), HeaderValue::try_from(value).unwrap());
    }
    response
}

pub(super) fn no(status: u16, body: &str) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap()
}

#[test]
fn seals_by_others() {
    let open = |key: &str, nonce: &str, aad: &str, sealed: &str| {
        sealed::open(&Secret::new(key), nonce, aad, sealed).map(|plain| String::from_utf8(plain).unwrap())
    };
    // wechatpay-java's AeadAesCipherTest (gateways.md 2.2).
    let (key, nonce) = ("a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb", "uluk4a9R25RW");
    let text = "ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI=";
    assert_eq!(open(key, nonce, "associatedData", text).as_deref(), Some("message"));
    assert_eq!(sealed::seal(&Secret::new(key), nonce, "associatedData", b"message").as_deref(), Some(text));
    let file = vectors(V3);
    for vector in each(&file, "seals") {
        let text = |name: &str| vector[name].as_str().unwrap();
        let opened = open(text("key"), text("nonce"), text("aad"), text("sealed"));
        assert_eq!(opened.as_deref(), vector["plain"].as_str());
    }
    // What comes from outside may have any length: an error, never a panic.
    for (key, nonce, aad, sealed) in [
        (key, "uluk4a9R25R", "associatedData", text),
        (key, "uluk4a9R25RWW", "associatedData", text),
        (key, "", "associatedData", text),
        (key, nonce, "", text),
        (key, nonce, "associatedData", "ulwSiIajGClcvcOYvOQ7+l+0PAbzzw=="),
        (key, nonce, "associatedData", "ulwSiA=="),
        (key, nonce, "associatedData", ""),
        (key, nonce, "associatedData", "not base64"),
        ("testMchAPIv3Key0", nonce, "associatedData", text),
    ] {
        assert_eq!(open(key, nonce, aad, sealed), None, "{nonce} {aad} {sealed}");
    }
}

#[test]
fn pay_sign_by_others() {
    let nonce = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned();
    let stamp = Stamp { now: UnixMillis(1_414_561_699_999), nonce };
    let made = merchant().pay_sign("wx201410272009395522657a690389285100", &stamp);
    // The padding is deterministic, so the same key signs the same.
    assert_eq!(made.pay_sign, vectors(V3)["pay_sign"]);
    assert_eq!((made.sign_type.as_str(), made.time_stamp.as_str()), ("RSA", "1414561699"));
    gateway().check_pay_params(&made).unwrap();
    let mut changed = made.clone();
    "1414561698".clone_into(&mut changed.time_stamp);
    assert!(gateway().check_pay_params(&changed).is_err());
    "MD5".clone_into(&mut changed.sign_type);
    assert!(gateway().check_pay_params(&changed).unwrap_err().contains("RSA"));
}

#[test]
fn requests_by_others_are_taken() {
    let mut seen = Vec::new();
    let file = vectors(V3);
    for vector in each(&file, "requests") {
        let url = format!("http://127.0.0.1{}", vector["url"].as_str().unwrap());
        let request = Request::builder().method(vector["method"].as_str().unwrap()).uri(url);
        let mut request = request.body(body_of(vector)).unwrap();
        *request.headers_mut() = headers_of(vector);
        let received = gateway().decode_call(&request, NOW).unwrap_or_else(|no| panic!("{no:?}"));
        seen.push((received.method.clone(), vector["name"].as_str().unwrap()));
        let mut changed = request.clone();
        let more = format!("{} ", vector["body"].as_str().unwrap());
        *changed.body_mut() = Bytes::from(more);
        assert_eq!(gateway().decode_call(&changed, NOW).unwrap_err().code, "SIGN_ERROR");
        let clock = |seconds: i64| {
            let at = vector["headers"]["authorization"].as_str().unwrap();
            let at = at.split("timestamp=\"").nth(1).unwrap().split('"').next().unwrap();
            let now = UnixMillis((at.parse::<i64>().unwrap() + seconds) * 1000);
            gateway().check_clock(&request, now).map_err(|refusal| refusal.code)
        };
        assert_eq!((clock(0), clock(299), clock(-299)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((clock(300), clock(-300)), (Err("SIGN_ERROR".to_owned()), Err("SIGN_ERROR".to_owned())));
    }
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[2], ("wx.unifiedorder".to_owned(), "h5"));
}

#[test]
fn notices_and_answers_by_others_are_taken() {
    let file = vectors(V3);
    let told: Vec<_> = each(&file, "notices")
        .map(|vector| merchant().decode_notice(&notice_of(vector), NOW).unwrap().into_inner())
        .collect();
    let [paid, bare, back] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(paid, bare, "nothing beside the seal is as good");
    assert_eq!(paid.delivery_id.as_deref(), Some("EV-2018022511223320873"));
    let Trade::Paid(money) = of_trade(paid.told.clone()) else { panic!("{paid:?}") };
    // The order's amount, not what coupons left of it.
    assert_eq!((money.total.get(), money.paid_at), (1110, NOW.plus(-1000)));
    assert_eq!(back.told, Told::Refund { out_refund_no: refund_no() });

    let reply_of = |name: &str, call: &Call, status: u16| {
        let vector = each(&file, "answers").find(|one| one["name"] == name).unwrap();
        let mut response = Response::builder().status(status).body(body_of(vector)).unwrap();
        *response.headers_mut() = headers_of(vector);
        merchant().decode_reply(call, &response, NOW)
    };
    let Ok(Reply::Created(code)) = reply_of("native", &create(Scene::Native), 200) else { panic!() };
    assert_eq!((code.content.as_str(), code.prepay_id), ("weixin://wxpay/bizpayurl?pr=p4lpSuKzz", None));
    assert_eq!(reply_of("query", &query(), 200), Ok(Reply::Trade(Trade::Paid(money))));
    assert_eq!(reply_of("close", &Call::Close { out_trade_no: number() }, 204), Ok(Reply::Closed));
}

#[test]
fn what_is_asked_is_read_and_answered() {
    let fen = |code: &str| Code { content: code.to_owned(), prepay_id: None, until: None };
    for (scene, content) in [
        (Scene::Native, "weixin://wxpay/bizpayurl?pr=1"),
        (Scene::Jsapi, "wx201410272009395522657a690389285100"),
        (Scene::Mweb, "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=wx1&package=2"),
    ] {
        let call = create(scene);
        let received = gateway().decode_call(&sent(&call), NOW).unwrap_or_else(|no| panic!("{no:?}"));
        let (Call::Create { terms: ours, .. }, Call::Create { terms: theirs, .. }) = (&call, &received.call)
        else {
            panic!("{received:?}")
        };
        assert_eq!(
            (ours.total, &ours.title, &ours.visit.openid),
            (theirs.total, &theirs.title, &theirs.visit.openid)
        );
        assert_eq!((ours.time_expire, &ours.visit.shop), (theirs.time_expire, &theirs.visit.shop));
        let code =
            Code { prepay_id: Some("wx201410272009395522657a690389285100".to_owned()), ..fen(content) };
        let answer = gateway().encode_answer(&Answer::Created(code), &received.echo, &stamp());
        let Ok(Reply::Created(code)) = merchant().decode_reply(&call, &answer, NOW) else {
            panic!("{answer:?}")
        };
        assert!(code.content.starts_with(content), "{code:?}");
        assert_eq!(code.prepay_id.is_some(), scene == Scene::Jsapi, "nothing is invented");
        let back = code.content.contains("redirect_url=https%3A%2F%2Fpay.example.com%2Fpay%2Fx%3Fasked%3D1");
        assert_eq!(back, scene == Scene::Mweb);
    }
    for scene in [Scene::QrCode, Scene::App, Scene::Wap, Scene::Page] {
        let call = Call::Create { out_trade_no: number(), terms: terms(scene) };
        assert!(matches!(merchant().encode_call(&call, &stamp()), Err(Fault::Malformed(_))), "{scene}");
    }
}

#[test]
fn a_number_is_encoded_before_it_is_signed() {
    let odd = OutTradeNo::new("T|2023*11_1-5").unwrap();
    for (call, path) in [
        (
            Call::Query { out_trade_no: odd.clone() },
            "/v3/pay/transactions/out-trade-no/T%7C2023%2A11_1-5?mchid=10000100",
        ),
        (
            Call::Close { out_trade_no: odd.clone() },
            "/v3/pay/transactions/out-trade-no/T%7C2023%2A11_1-5/close",
        ),
    ] {
        let request = sent(&call);
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), path);
        assert_eq!(gateway().decode_call(&request, NOW).unwrap().call, call);
        assert_eq!(request.headers()["wechatpay-serial"], PUBLIC);
    }
}

#[test]
fn trades_and_refunds_are_told() {
    let mut trade = paid_trade(Scene::Native, &[("api", "v3")]);
    let answered = |call: &Call, answer: &Answer| {
        let received = gateway().decode_call(&sent(call), NOW).unwrap();
        merchant().decode_reply(call, &gateway().encode_answer(answer, &received.echo, &stamp()), NOW)
    };
    let Ok(Reply::Trade(Trade::Paid(paid))) = answered(&query(), &Answer::Trade(trade.clone())) else {
        panic!()
    };
    assert_eq!((paid.total, Some(paid.paid_at)), (trade.total, trade.paid_at));
    let refunded = super::super::Refunded { total: trade.total, out_refund_no: refund_no(), at: NOW };
    trade.refunded = Some(refunded);
    assert_eq!(answered(&query(), &Answer::Trade(trade.clone())), Ok(Reply::Trade(Trade::Paid(paid))));
    trade.refunded = None;
    for (state, told) in [(TradeState::NotPay, Trade::Waiting), (TradeState::Closed, Trade::Closed)] {
        trade.state = state;
        assert_eq!(answered(&query(), &Answer::Trade(trade.clone())), Ok(Reply::Trade(told)));
    }
    assert_eq!(answered(&Call::Close { out_trade_no: number() }, &Answer::Closed), Ok(Reply::Closed));

    let refund = Call::Refund { out_trade_no: number(), refund: refund_terms() };
    let asked = Call::RefundQuery { out_trade_no: number(), out_refund_no: refund_no() };
    let done = RefundStanding::Succeeded { at: Some(NOW.plus(-1000)) };
    for (state, told) in [
        (GatewayRefundState::Processing, RefundStanding::Processing),
        (GatewayRefundState::Success, done),
        (GatewayRefundState::Closed, RefundStanding::Failed { code: "CLOSED".to_owned() }),
    ] {
        let known = gateway_refund(state);
        assert_eq!(answered(&refund, &Answer::Refund(known.clone())), Ok(Reply::Refund(told.clone())));
        assert_eq!(answered(&asked, &Answer::RefundQuery(Some(known.clone()))), Ok(Reply::Refund(told)));
        let notice = gateway().encode_refund_notice(&known, "https://pay.example.com/n", "EV-1", &stamp());
        assert_eq!(notice.is_some(), state != GatewayRefundState::Processing);
        if let Some(notice) = notice {
            let told = merchant().decode_notice(&notice, NOW).unwrap().into_inner().told;
            assert_eq!(told, Told::Refund { out_refund_no: refund_no() });
        }
    }
    let mut other = gateway_refund(GatewayRefundState::Success);
    other.amount = other.total;
    assert!(matches!(answered(&refund, &Answer::Refund(other)), Err(Fault::Malformed(_))));
}

#[test]
fn what_the_gateway_refuses_is_understood() {
    let close = Call::Close { out_trade_no: number() };
    let refund = Call::Refund { out_trade_no: number(), refund: refund_terms() };
    let asked = Call::RefundQuery { out_trade_no: number(), out_refund_no: refund_no() };
    let create = create(Scene::Native);
    let said = |call: &Call, objection| {
        let received = gateway().decode_call(&sent(call), NOW).unwrap();
        let answer = Answer::Refused(gateway().refuse(&received, objection));
        let response = gateway().encode_answer(&answer, &received.echo, &stamp());
        assert!(!response.headers().contains_key("wechatpay-signature"), "nothing of a no is signed");
        (response.status().as_u16(), merchant().decode_reply(call, &response, NOW))
    };
    assert_eq!(said(&query(), Objection::Absent), (404, Ok(Reply::Trade(Trade::Absent))));
    assert_eq!(said(&close, Objection::Closed), (400, Ok(Reply::Closed)));
    assert_eq!(said(&asked, Objection::RefundAbsent), (404, Ok(Reply::Refund(RefundStanding::Absent))));
    for (call, objection, status, wanted) in [
        (&create, Objection::Paid, 400, Retry::AlreadyPaid),
        (&close, Objection::Paid, 400, Retry::AlreadyPaid),
        (&create, Objection::Closed, 400, Retry::NewNumber),
        (&create, Objection::OtherTerms, 403, Retry::NewNumber),
        (&create, Objection::UnknownPayer, 400, Retry::Never),
        (&refund, Objection::RefundTooMuch, 400, Retry::Never),
        (&refund, Objection::NotPaid, 400, Retry::Never),
        (&refund, Objection::Absent, 404, Retry::Never),
    ] {
        let (got, told) = said(call, objection);
        let Err(Fault::Refused { retry, .. }) = told else { panic!("{objection:?}: {told:?}") };
        assert_eq!((got, retry), (status, wanted), "{objection:?}");
    }
    let (status, busy) = said(&create, Objection::Busy);
    assert!(status == 500 && matches!(busy, Err(Fault::Unknown(_))), "{busy:?}");
}

#[test]
fn statuses_without_a_word_of_the_gateways() {
    let told = |call: &Call, status, body: &str| merchant().decode_reply(call, &no(status, body), NOW);
    // A proxy's page, whatever its status, says nothing of a trade.
    for (status, body) in [
        (202, ""),
        (301, ""),
        (404, "<html>404 Not Found</html>"),
        (400, ""),
        (403, "{}"),
        (500, r#"{"code":"SYSTEM_ERROR","message":"系统错误"}"#),
        (502, "<html>"),
        (503, r#"{"code":"SERVICE_UNAVAILABLE","message":"x"}"#),
        (403, r#"{"code":"ORDER_NOT_EXIST_NOT","message":"x","code":"TWICE"}"#),
    ] {
        let read = told(&query(), status, body);
        assert!(matches!(read, Err(Fault::Unknown(_))), "{status} {body}: {read:?}");
    }
    for (status, body) in [
        (429, ""),
        (429, r#"{"code":"FREQUENCY_LIMITED","message":"x"}"#),
        (401, r#"{"code":"SIGN_ERROR","message":"x"}"#),
        (403, r#"{"code":"NOT_ENOUGH","message":"基本账户余额不足"}"#),
    ] {
        let refund = Call::Refund { out_trade_no: number(), refund: refund_terms() };
        for call in [&query(), &refund] {
            let read = told(call, status, body);
            assert!(
                matches!(read, Err(Fault::Refused { retry: Retry::Later, .. })),
                "{status} {body}: {read:?}"
            );
        }
    }
    // The same status with the gateway's word, in both spellings.
    for code in ["ORDER_NOT_EXIST", "ORDERNOTEXIST"] {
        let body = format!(r#"{{"code":"{code}","message":"订单不存在"}}"#);
        assert_eq!(told(&query(), 404, &body), Ok(Reply::Trade(Trade::Absent)));
        assert!(told(&create(Scene::Native), 404, &body).is_err());
    }
}

#[test]
fn answers_that_are_not_believed() {
    let native = create(Scene::Native);
    let good = answer(r#"{"code_url":"weixin://x"}"#);
    assert!(merchant().decode_reply(&native, &good, NOW).is_ok());
    let edit = |edit: &dyn Fn(&mut Response<Bytes>)| {
        let mut changed = good.clone();
        edit(&mut changed);
        merchant().decode_reply(&native, &changed, NOW).unwrap_err()
    };
    let put = |name: &'static str, value: &'static str| {
        edit(&move |response| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        })
    };
    let bad = |fault: &Fault| matches!(fault, Fault::BadSignature(_));
    for name in ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature", "wechatpay-serial"] {
        assert!(
            bad(&edit(&|response| {
                response.headers_mut().remove(name);
            })),
            "{name}"
        );
        let doubled = edit(&|response| {
            let value = response.headers()[name].clone();
            response.headers_mut().append(name, value);
        });
        assert!(bad(&doubled), "{name} twice");
        assert!(bad(&put(name, "")), "{name} empty");
    }
    assert!(bad(&edit(
        &|response| *response.body_mut() = Bytes::from_static(b"{\"code_url\":\"weixin://y\"}")
    )));
    assert!(bad(&put("wechatpay-timestamp", "1700000001")));
    assert!(bad(&put("wechatpay-nonce", "noncf")));
    assert!(bad(&put("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3")));
    assert!(matches!(put("wechatpay-serial", "PUB_KEY_ID_1"), Fault::UnknownKey(_)));
    let probe = put("wechatpay-signature", "WECHATPAY/SIGNTEST/abc=");
    assert!(bad(&probe) && probe.to_string().contains("SIGNTEST"));
    for seconds in [-400, -300, 300, 400] {
        let late = merchant().decode_reply(&native, &good, NOW.plus(seconds * 1000));
        assert!(matches!(late, Err(Fault::Stale(_))), "{late:?}");
    }
    for seconds in [-299, 299] {
        assert!(merchant().decode_reply(&native, &good, NOW.plus(seconds * 1000)).is_ok());
    }
    // Rightly signed, and not an answer to what was asked.
    for (call, body) in [
        (&native, r#"{"prepay_id":"wx1"}"#),
        (&native, "[]"),
        (&native, ""),
        (
            &query(),
            r#"{"appid":"wxd930ea5d5a258f4f","mchid":"10000100","out_trade_no":"OTHER123","trade_state":"NOTPAY"}"#,
        ),
        (&query(), r#"{"mchid":"10000100","out_trade_no":"T20231115_1","trade_state":"NOTPAY"}"#),
        (
            &query(),
            r#"{"appid":"wxd930ea5d5a258f4f","mchid":"10000100","out_trade_no":"T20231115_1","trade_state":"SUCCESS"}"#,
        ),
    ] {
        let read = merchant().decode_reply(call, &answer(body), NOW);
        assert!(matches!(read, Err(Fault::Malformed(_))), "{body}: {read:?}");
    }
}

#[test]
fn money_that_is_not_whole_or_not_ours() {
    let right = json!({ "appid": APP_ID, "mchid": "10000100", "out_trade_no": "T20231115_1",
        "transaction_id": "4200001234202311151234567890", "trade_state": "SUCCESS",
        "success_time": "2023-11-15T06:13:19+08:00", "amount": { "total": 1110, "currency": "CNY" } });
    let read = |edit: &dyn Fn(&mut Value)| {
        let mut changed = right.clone();
        edit(&mut changed);
        merchant().decode_reply(&query(), &answer(&changed.to_string()), NOW)
    };
    assert!(matches!(read(&|_| {}), Ok(Reply::Trade(Trade::Paid(_)))));
    for name in ["transaction_id", "success_time", "amount"] {
        let cut = read(&|value| {
            value.as_object_mut().unwrap().remove(name);
        });
        assert!(matches!(cut, Err(Fault::Malformed(_))), "{name}: {cut:?}");
    }
    for (pointer, value) in [
        ("/amount/total", json!("1110")),
        ("/amount/total", json!(11.1)),
        ("/amount/total", json!(-1)),
        ("/amount/currency", json!("USD")),
        ("/success_time", json!("2023-11-15 06:13:19")),
    ] {
        let odd = read(&|whole| *whole.pointer_mut(pointer).unwrap() = value.clone());
        assert!(matches!(odd, Err(Fault::Malformed(_))), "{pointer} {value}: {odd:?}");
    }
    for (pointer, value) in [("/appid", "wx0000000000000000"), ("/mchid", "10000101")] {
        let odd = read(&|whole| *whole.pointer_mut(pointer).unwrap() = json!(value));
        assert!(matches!(odd, Err(Fault::ForeignAccount(_))), "{pointer}: {odd:?}");
    }
    assert_eq!(
        read(&|value| value["trade_state"] = json!("SOMETHING_NEW")),
        Ok(Reply::Trade(Trade::Waiting))
    );
    assert_eq!(read(&|value| value["future_field"] = json!({})), read(&|_| {}));
}

/// Every bit of what is signed, and of what signs it, flipped once: none is accepted.
#[test]
fn no_flipped_bit_is_accepted() {
    let mut trade = paid_trade(Scene::Native, &[("api", "v3")]);
    trade.title = "茶".to_owned();
    let attach = "x".repeat(2_500);
    trade.echo.push(("attach".to_owned(), attach));
    let notice = gateway().encode_notice(&trade, "https://pay.example.com/n", "EV-1", &stamp());
    let merchant = merchant();
    assert!(merchant.decode_notice(&notice, NOW).is_ok());
    assert!(notice.body().len() >= 4096, "{} bytes", notice.body().len());
    let (mut flipped, mut unsendable) = (0, 0);
    for name in ["wechatpay-signature", "wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial"] {
        let bytes = notice.headers()[name].as_bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            flipped += 1;
            // What cannot stand in a header never arrives.
            let Ok(value) = HeaderValue::from_bytes(&changed) else {
                unsendable += 1;
                continue;
            };
            let mut forged = notice.clone();
            forged.headers_mut().insert(name, value);
            assert!(merchant.decode_notice(&forged, NOW).is_err(), "bit {bit} of {name}");
        }
    }
    let mut forged = notice.clone();
    for bit in 0..4096 * 8 {
        let mut changed = notice.body().to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        *forged.body_mut() = Bytes::from(changed);
        flipped += 1;
        assert!(merchant.decode_notice(&forged, NOW).is_err(), "bit {bit} of the body");
    }
    assert!(flipped > 32_768 + 344 * 8 && unsendable < 1_500, "{flipped} flipped, {unsendable} unsendable");
}

#[test]
fn acks_say_whose_fault_it_is() {
    for (ack, status) in [(Ack::Accepted, 204), (Ack::Untrusted, 401), (Ack::Failed, 500)] {
        let response = encode_ack(ack);
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(gateway().decode_ack(&response), ack == Ack::Accepted);
        assert_eq!(response.body().is_empty(), ack == Ack::Accepted);
    }
}
