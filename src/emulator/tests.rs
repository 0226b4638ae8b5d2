//! The emulator from outside: real merchants' halves, real control calls, a clock that stands still.

mod bridge;
mod cashier;
mod certificate;
mod mweb;
mod oauth;
mod refunds;

use std::sync::Mutex;

use axum::body::Body;
use axum::extract::State as With;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::domain::id::{Channel, OutTradeNo, Scene, UnixMillis};
use crate::domain::money::Fen;
use crate::gateway::alipay::{self, Alipay};
use crate::gateway::keys::{PublicKey, Secret};
use crate::gateway::wechat_v2::{self, SignType, WechatV2};
use crate::gateway::{Ack, Call, Fault, Merchant, Outgoing, Reply, Retry, Stamp, Terms, Told, Trade, Visit};
use crate::runtime::random;

/// An emulator and the two halves of its merchant.
struct World {
    emulator: Emulator,
    wx: WechatV2,
    ali: Alipay,
    notify_url: String,
}

const START: UnixMillis = UnixMillis(1_790_000_000_000);

impl World {
    fn open(data: &std::path::Path) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], 3001).into();
        Self::at(data, address, Some(address))
    }

    fn at(data: &std::path::Path, address: SocketAddr, tls: Option<SocketAddr>) -> Self {
        let config = EmulatorConfig {
            data: data.to_owned(),
            addresses: Addresses { service: None, protocol: address, tls, control: address },
            payee: "测试商城".to_owned(),
            domain: Some("mall.example".to_owned()),
            pay_directory: "/app/payment/wpay/".to_owned(),
        };
        let emulator = Emulator::new(&config, Clock::frozen(START)).unwrap();
        let known = emulator.credentials();
        let wx = WechatV2::new(wechat_v2::Config {
            app_id: known.wechat.app_id.clone(),
            mch_id: known.wechat.mch_id.clone(),
            key: Secret::new(known.wechat.api_v2_key.clone()),
            sign_type: SignType::HmacSha256,
            base_url: known.emulator_url.clone(),
        });
        let alipay_key = std::fs::read_to_string(&known.alipay.alipay_public_key_file).unwrap();
        let ali = Alipay::new(alipay::Config {
            app_id: known.alipay.app_id.clone(),
            seller_id: known.alipay.seller_id.clone(),
            gateway_url: known.alipay.gateway_url.clone(),
            app_key: known.app_private_key().unwrap(),
            alipay_key: PublicKey::read(&alipay_key).unwrap(),
        });
        Self { emulator, wx, ali, notify_url: "http://127.0.0.1:9/notify".to_owned() }
    }

    fn terms(&self, scene: Scene, fen: i64) -> Terms {
        Terms {
            scene,
            title: "茶".to_owned(),
            total: Fen::new(fen).unwrap(),
            notify_url: self.notify_url.clone(),
            time_expire: self.emulator.inner.clock.now().plus(7_200_000),
            client_ip: "127.0.0.1".to_owned(),
            visit: Visit::default(),
        }
    }

    fn create(&self, scene: Scene, number: &str, fen: i64) -> Call {
        Call::Create { out_trade_no: OutTradeNo::new(number).unwrap(), terms: self.terms(scene, fen) }
    }

    async fn raw(&self, merchant: &dyn Merchant, call: &Call) -> Response<Bytes> {
        let Outgoing::Send(request) = merchant.encode_call(call, &stamp()).unwrap() else {
            panic!("a call that is not sent")
        };
        collected(self.emulator.protocol_router().oneshot(request.map(Body::from)).await.unwrap()).await
    }

    async fn ask(&self, merchant: &dyn Merchant, call: &Call) -> Result<Reply, Fault> {
        merchant.decode_reply(call, &self.raw(merchant, call).await, Clock::real())
    }

    async fn code(&self, merchant: &dyn Merchant, call: &Call) -> String {
        match self.ask(merchant, call).await {
            Ok(Reply::Created(code)) => code.content,
            other => panic!("no code: {other:?}"),
        }
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
        let answer = collected(self.emulator.control_router().oneshot(request).await.unwrap()).await;
        (answer.status(), serde_json::from_slice(answer.body()).unwrap())
    }

    /// What a browser gets on the gateways' face.
    async fn browse(&self, request: Request<Body>) -> Page {
        let answer = collected(self.emulator.protocol_router().oneshot(request).await.unwrap()).await;
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let html = String::from_utf8(answer.body().to_vec()).unwrap();
        Page { status: answer.status(), location, html, headers: answer.headers().clone() }
    }

    /// The newest line of the log: result and explanation.
    async fn why(&self) -> String {
        let (_, log) = self.control("GET", "/log", Value::Null).await;
        let line = &log["data"]["calls"][0];
        format!("{} {}", line["result"].as_str().unwrap(), line["explanation"].as_str().unwrap())
    }

    async fn pay(&self, code: &str) -> (StatusCode, Value) {
        self.control("POST", "/pay", json!({ "code": code })).await
    }

    async fn ledger(&self) -> Value {
        self.control("GET", "/ledger", Value::Null).await.1["data"].clone()
    }
}

/// What a browser sees.
#[derive(Debug)]
struct Page {
    status: StatusCode,
    location: Option<String>,
    html: String,
    headers: http::HeaderMap,
}

impl Page {
    fn shows(&self, text: &str) -> bool {
        self.status == StatusCode::OK && self.location.is_none() && self.html.contains(text)
    }

    fn went_to(&self) -> url::Url {
        assert_eq!(self.status, StatusCode::FOUND, "{self:?}");
        url::Url::parse(self.location.as_deref().unwrap()).unwrap()
    }
}

fn form(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    request.body(Body::from(body)).unwrap()
}

const IN_WECHAT: &str =
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) MicroMessenger/8.0.50 NetType/WIFI";

fn stamp() -> Stamp {
    Stamp { now: START, nonce: random::base62(32).unwrap() }
}

async fn collected(response: Response<Body>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

fn query(number: &str) -> Call {
    Call::Query { out_trade_no: OutTradeNo::new(number).unwrap() }
}

fn close(number: &str) -> Call {
    Call::Close { out_trade_no: OutTradeNo::new(number).unwrap() }
}

fn refused(reply: Result<Reply, Fault>) -> (String, Retry) {
    match reply {
        Err(Fault::Refused { code, retry, .. }) => (code, retry),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn wechat_from_code_to_money() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let create = world.create(Scene::Native, "W00001", 1234);
    assert_eq!(world.ask(&world.wx, &query("W00001")).await, Ok(Reply::Trade(Trade::Absent)));
    let first = world.code(&world.wx, &create).await;
    assert!(first.starts_with("weixin://wxpay/bizpayurl?pr="), "{first}");
    let second = world.code(&world.wx, &create).await;
    assert_ne!(first, second, "a repetition brings a fresh code");
    let dearer = world.ask(&world.wx, &world.create(Scene::Native, "W00001", 1235)).await;
    assert_eq!(refused(dearer).1, Retry::NewNumber);
    assert_eq!(world.ask(&world.wx, &query("W00001")).await, Ok(Reply::Trade(Trade::Waiting)));

    let (status, paid) = world.pay(&first).await;
    assert_eq!(status, StatusCode::OK, "{paid}");
    assert_eq!((&paid["data"]["total_fee"], &paid["data"]["state"]), (&json!(1234), &json!("SUCCESS")));
    let (status, again) = world.pay(&second).await;
    assert_eq!((status, &again["error"]), (StatusCode::CONFLICT, &json!("already_paid")));
    let Ok(Reply::Trade(Trade::Paid(money))) = world.ask(&world.wx, &query("W00001")).await else {
        panic!("not paid")
    };
    assert_eq!(money.total.get(), 1234);
    assert_eq!(paid["data"]["transaction_id"], json!(money.transaction_id));
    assert_eq!(refused(world.ask(&world.wx, &create).await).1, Retry::AlreadyPaid);
    assert_eq!(refused(world.ask(&world.wx, &close("W00001")).await).1, Retry::AlreadyPaid);
}

#[tokio::test]
async fn closed_and_expired_codes_take_no_money() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let code = world.code(&world.wx, &world.create(Scene::Native, "W00001", 1)).await;
    assert_eq!(world.ask(&world.wx, &close("W00001")).await, Ok(Reply::Closed));
    assert_eq!(world.ask(&world.wx, &query("W00001")).await, Ok(Reply::Trade(Trade::Closed)));
    assert_eq!(world.pay(&code).await.1["error"], "closed");
    let again = world.ask(&world.wx, &world.create(Scene::Native, "W00001", 1)).await;
    assert_eq!(refused(again).1, Retry::NewNumber);

    let code = world.code(&world.wx, &world.create(Scene::Native, "W00002", 1)).await;
    let (_, moved) = world.control("POST", "/clock", json!({ "advance_ms": 7_200_001 })).await;
    assert_eq!(moved["data"]["offset_ms"], 7_200_001);
    assert_eq!(world.pay(&code).await.1["error"], "expired");
    // Time alone does not close a trade at WeChat (gateways.md 1.2).
    assert_eq!(world.ask(&world.wx, &query("W00002")).await, Ok(Reply::Trade(Trade::Waiting)));
    assert_eq!(world.pay("weixin://wxpay/bizpayurl?pr=nothing").await.0, StatusCode::NOT_FOUND);

    // Alipay closes what somebody has opened; what nobody opened never was a trade (gateways.md 4.4).
    let opened = world.code(&world.ali, &world.create(Scene::QrCode, "A00001", 1)).await;
    let unseen = world.code(&world.ali, &world.create(Scene::QrCode, "A00002", 1)).await;
    world.control("POST", "/scan", json!({ "code": opened })).await;
    world.control("POST", "/clock", json!({ "advance_ms": 7_200_001 })).await;
    assert_eq!(world.ask(&world.ali, &query("A00001")).await, Ok(Reply::Trade(Trade::Closed)));
    assert_eq!(world.ask(&world.ali, &query("A00002")).await, Ok(Reply::Trade(Trade::Absent)));
    assert_eq!(world.pay(&opened).await.1["error"], "expired");
    assert_eq!(world.pay(&unseen).await.1["error"], "expired");
}

#[tokio::test]
async fn alipay_knows_a_trade_only_after_the_scan() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let create = world.create(Scene::QrCode, "A00001", 1110);
    let code = world.code(&world.ali, &create).await;
    assert!(code.starts_with("https://qr.alipay.com/bax"), "{code}");
    assert_eq!(world.ask(&world.ali, &query("A00001")).await, Ok(Reply::Trade(Trade::Absent)));
    let (status, scanned) = world.control("POST", "/scan", json!({ "code": code })).await;
    assert_eq!((status, &scanned["data"]["state"]), (StatusCode::OK, &json!("NOTPAY")));
    assert_eq!(world.ask(&world.ali, &query("A00001")).await, Ok(Reply::Trade(Trade::Waiting)));
    let other = world.ask(&world.ali, &world.create(Scene::QrCode, "A00001", 1111)).await;
    assert_eq!(refused(other), ("ACQ.CONTEXT_INCONSISTENT".to_owned(), Retry::NewNumber));
    let (_, paid) = world.pay(&code).await;
    assert_eq!(paid["data"]["transaction_id"], scanned["data"]["transaction_id"]);
    assert!(matches!(world.ask(&world.ali, &query("A00001")).await, Ok(Reply::Trade(Trade::Paid(_)))));
    assert_eq!(refused(world.ask(&world.ali, &create).await).1, Retry::AlreadyPaid);

    let code = world.code(&world.ali, &world.create(Scene::QrCode, "A00002", 1)).await;
    world.control("POST", "/scan", json!({ "code": code })).await;
    assert_eq!(world.ask(&world.ali, &close("A00002")).await, Ok(Reply::Closed));
    assert_eq!(world.pay(&code).await.1["error"], "closed");
}

#[tokio::test]
async fn an_app_pays_with_its_order_string() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let call = world.create(Scene::App, "A00001", 500);
    let Ok(Outgoing::Local(Reply::Created(code))) = world.ali.encode_call(&call, &stamp()) else {
        panic!("not signed here")
    };
    let (status, paid) = world.pay(&code.content).await;
    assert_eq!((status, &paid["data"]["out_trade_no"]), (StatusCode::OK, &json!("A00001")), "{paid}");
    assert_eq!(world.pay(&code.content).await.1["error"], "already_paid");
    let (status, forged) = world.pay(&code.content.replace("5.00", "0.05")).await;
    assert_eq!((status, &forged["error"]), (StatusCode::BAD_REQUEST, &json!("bad_order_string")));
}

#[tokio::test]
async fn refusals_are_explained_in_the_log() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let Ok(Outgoing::Send(request)) =
        world.wx.encode_call(&world.create(Scene::Native, "W00001", 1), &stamp())
    else {
        panic!("not sent")
    };
    let body = String::from_utf8(request.body().to_vec()).unwrap();
    let request = request.map(|_| Body::from(body.replace("W00001", "W00002")));
    let answer = collected(world.emulator.protocol_router().oneshot(request).await.unwrap()).await;
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.contains("FAIL") && text.contains("签名错误") && !text.contains("<sign>"), "{text}");
    let (_, log) = world.control("GET", "/log", Value::Null).await;
    let explanation = log["data"]["calls"][0]["explanation"].as_str().unwrap();
    assert!(explanation.contains("W00002"), "{explanation}");
    assert!(!explanation.contains(&world.emulator.credentials().wechat.api_v2_key));

    let big = Request::post("/pay/unifiedorder").body(Body::from(vec![b' '; 70_000])).unwrap();
    let answer = world.emulator.protocol_router().oneshot(big).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // As the official Python SDK writes it (gateways.md 4.1).
    let absolute = Request::post("http://127.0.0.1:3001/gateway.do").body(Body::empty()).unwrap();
    let answer = collected(world.emulator.protocol_router().oneshot(absolute).await.unwrap()).await;
    assert!(String::from_utf8_lossy(answer.body()).contains("isv.missing-app-id"));
}

#[tokio::test]
async fn everything_survives_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let code = world.code(&world.wx, &world.create(Scene::Native, "W00001", 7)).await;
    world.code(&world.ali, &world.create(Scene::QrCode, "A00001", 8)).await;
    world.pay(&code).await;
    world.control("POST", "/clock", json!({ "advance_ms": 5000 })).await;
    let before = world.ledger().await;
    assert_eq!(before["trades"][0]["state"], "SUCCESS");
    assert_eq!(before["notices"][0]["attempts"], json!([]));
    drop(world);

    let path = data.path().join("ledger.jsonl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), b"{\"record\":\"clo"].concat()).unwrap();
    let world = World::open(data.path());
    assert_eq!(world.ledger().await, before);
    assert_eq!(world.emulator.inner.clock.now(), START.plus(5000));
    assert!(matches!(world.ask(&world.wx, &query("W00001")).await, Ok(Reply::Trade(Trade::Paid(_)))));
    assert_eq!(world.emulator.deliver_due().await, 1, "the notice is still to be sent");
}

/// A merchant's server that answers with the statuses and bodies it is given, then with successes.
struct Shop {
    url: String,
    heard: Arc<Mutex<Vec<Bytes>>>,
    answers: Arc<Mutex<Vec<Response<Bytes>>>>,
}

impl Shop {
    async fn open(success: Response<Bytes>) -> Self {
        type Seen = (Arc<Mutex<Vec<Bytes>>>, Arc<Mutex<Vec<Response<Bytes>>>>, Arc<Response<Bytes>>);
        let (heard, answers) = (Arc::default(), Arc::default());
        let seen: Seen = (Arc::clone(&heard), Arc::clone(&answers), Arc::new(success));
        let app = axum::Router::new().route(
            "/notify",
            post(async |With((heard, answers, success)): With<Seen>, body: Bytes| {
                heard.lock().unwrap().push(body);
                let next = answers.lock().unwrap().pop();
                next.unwrap_or_else(|| (*success).clone()).map(Body::from)
            })
            .with_state(seen),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/notify", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, heard, answers }
    }

    fn refuse(&self, times: usize) {
        let no = || Response::builder().status(500).body(Bytes::new()).unwrap();
        self.answers.lock().unwrap().extend((0..times).map(|_| no()));
    }

    fn heard(&self) -> Vec<Bytes> {
        self.heard.lock().unwrap().drain(..).collect()
    }
}

async fn paid_world(data: &std::path::Path, scene: Scene) -> (World, Shop) {
    let mut world = World::open(data);
    let shop = Shop::open(encode_ack(scene, Ack::Accepted)).await;
    world.notify_url.clone_from(&shop.url);
    (world, shop)
}

fn merchant(world: &World, scene: Scene) -> &dyn Merchant {
    match scene {
        Scene::Native | Scene::Jsapi | Scene::Mweb => &world.wx,
        Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => &world.ali,
    }
}

fn as_notice(body: Bytes) -> Request<Bytes> {
    Request::post("/notify").body(body).unwrap()
}

#[tokio::test]
async fn notices_come_again_on_schedule_until_accepted() {
    for (scene, waits) in
        [(Scene::Native, [15, 15, 30, 180].as_slice()), (Scene::QrCode, [240, 600, 600].as_slice())]
    {
        let data = tempfile::tempdir().unwrap();
        let (world, shop) = paid_world(data.path(), scene).await;
        let code = world.code(merchant(&world, scene), &world.create(scene, "N00001", 42)).await;
        shop.refuse(waits.len());
        world.pay(&code).await;
        assert_eq!(world.emulator.deliver_due().await, 1);
        for wait in waits {
            world.control("POST", "/clock", json!({ "advance_ms": wait * 1000 - 1 })).await;
            assert_eq!(world.emulator.deliver_due().await, 0, "{scene}: before {wait} s");
            world.control("POST", "/clock", json!({ "advance_ms": 1 })).await;
            assert_eq!(world.emulator.deliver_due().await, 1, "{scene}: after {wait} s");
        }
        world.control("POST", "/clock", json!({ "advance_ms": 200_000_000 })).await;
        assert_eq!(world.emulator.deliver_due().await, 0, "{scene}: accepted, over");
        let heard = shop.heard();
        assert_eq!(heard.len(), waits.len() + 1);
        let attempts = world.ledger().await["notices"][0]["attempts"].clone();
        assert_eq!((&attempts[0]["status"], &attempts[0]["accepted"]), (&json!(500), &json!(false)));
        assert_eq!(attempts[waits.len()]["accepted"], json!(true));
        for body in heard {
            let notice = merchant(&world, scene).decode_notice(&as_notice(body), START).unwrap();
            let Told::Trade(Trade::Paid(paid)) = &notice.get().told else { panic!("not paid") };
            assert_eq!((paid.total.get(), paid.out_trade_no.as_str()), (42, "N00001"));
        }
    }
}

#[tokio::test]
async fn a_clock_moved_by_a_day_brings_a_days_retries_and_then_no_more() {
    let data = tempfile::tempdir().unwrap();
    let (world, shop) = paid_world(data.path(), Scene::Native).await;
    let code = world.code(&world.wx, &world.create(Scene::Native, "N00001", 42)).await;
    shop.refuse(100);
    world.pay(&code).await;
    world.control("POST", "/clock", json!({ "advance_ms": 100_000_000 })).await;
    assert_eq!(world.emulator.deliver_due().await, 16);
    assert_eq!(shop.heard().len(), 16);
}

#[tokio::test]
async fn faults_bend_notices() {
    let data = tempfile::tempdir().unwrap();
    for scene in [Scene::Native, Scene::QrCode] {
        let (world, shop) = paid_world(&data.path().join(scene.as_str()), scene).await;
        let merchant = merchant(&world, scene);
        let mut number = 0;
        for (fault, wanted) in [
            (json!({ "kind": "wrong_amount", "value": 41 }), "41"),
            (json!({ "kind": "other_merchant" }), "ForeignAccount"),
            (json!({ "kind": "forged" }), "BadSignature"),
            (json!({ "kind": "unsigned" }), "BadSignature"),
            (json!({ "kind": "truncated" }), "not trusted"),
            (json!({ "kind": "duplicate", "copies": 5 }), "5 copies"),
            (json!({ "kind": "drop" }), "0 copies"),
        ] {
            number += 1;
            let mut fault = fault.clone();
            fault["on"] = json!("notify");
            fault["count"] = json!(1);
            let (status, put) = world.control("PUT", "/faults", json!({ "faults": [fault] })).await;
            assert_eq!(status, StatusCode::OK, "{put}");
            let code = world.code(merchant, &world.create(scene, &format!("F0000{number}"), 42)).await;
            world.pay(&code).await;
            world.emulator.deliver_due().await;
            let heard = shop.heard();
            let copies = format!("{} copies", heard.len());
            let seen =
                match heard.into_iter().next().map(|body| merchant.decode_notice(&as_notice(body), START)) {
                    Some(Ok(notice)) => match &notice.get().told {
                        Told::Trade(Trade::Paid(paid)) => format!("{} {copies}", paid.total.get()),
                        other => format!("{other:?}"),
                    },
                    Some(Err(fault)) => format!("{fault:?}, not trusted"),
                    None => copies,
                };
            assert!(seen.contains(wanted), "{scene} {wanted}: {seen}");
        }
    }
}

#[tokio::test]
async fn faults_bend_calls_and_lie_about_effects_only_where_they_say() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let faults = async |fault: Value| {
        world.control("PUT", "/faults", json!({ "faults": [fault] })).await;
    };
    for (kind, status) in [("429", 429), ("5xx", 500)] {
        faults(json!({ "on": "wx.unifiedorder", "kind": kind, "count": 1 })).await;
        let answer = world.raw(&world.wx, &world.create(Scene::Native, "C00001", 1)).await;
        assert_eq!(answer.status().as_u16(), status);
    }
    faults(json!({ "on": "call", "kind": "SYSTEMERROR", "count": 2 })).await;
    let reply = world.ask(&world.wx, &world.create(Scene::Native, "C00001", 1)).await;
    assert!(matches!(reply, Err(Fault::Unknown(_))), "{reply:?}");
    let reply = world.ask(&world.ali, &world.create(Scene::QrCode, "C00001", 1)).await;
    assert!(matches!(reply, Err(Fault::Unknown(_))), "{reply:?}");
    faults(json!({ "on": "wx.unifiedorder", "kind": "forged", "count": 1 })).await;
    let reply = world.ask(&world.wx, &world.create(Scene::Native, "C00002", 1)).await;
    assert!(matches!(reply, Err(Fault::BadSignature(_))), "{reply:?}");
    for (kind, number, exists) in [("cut_before", "C00003", false), ("cut_after", "C00004", true)] {
        faults(json!({ "on": "wx.unifiedorder", "kind": kind, "count": 1 })).await;
        let create = world.create(Scene::Native, number, 1);
        let Ok(Outgoing::Send(request)) = world.wx.encode_call(&create, &stamp()) else { panic!("not sent") };
        let answer = world.emulator.protocol_router().oneshot(request.map(Body::from)).await.unwrap();
        assert!(answer.into_body().collect().await.is_err(), "{kind}: the answer ends early");
        let known = world.ask(&world.wx, &query(number)).await != Ok(Reply::Trade(Trade::Absent));
        assert_eq!(known, exists, "{kind}");
    }
    let (status, answer) =
        world.control("PUT", "/faults", json!({ "faults": [{ "on": "x", "kind": "y" }] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["message"].as_str().unwrap().contains("wx.unifiedorder"));
    world.control("DELETE", "/faults", Value::Null).await;
    assert_eq!(world.control("GET", "/faults", Value::Null).await.1["data"]["faults"], json!([]));
}

#[tokio::test]
async fn other_sites_may_not_use_the_control_port() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    for (header, value, allowed) in [
        ("sec-fetch-site", "cross-site", false),
        ("sec-fetch-site", "same-site", false),
        ("sec-fetch-site", "same-origin", true),
        ("origin", "https://evil.example", false),
        ("origin", "null", false),
        ("origin", "http://127.0.0.1:3002", true),
        ("accept", "*/*", true),
    ] {
        let request = Request::post("/clock").header("host", "127.0.0.1:3002").header(header, value);
        let request = request.body(Body::from(r#"{"advance_ms":1}"#)).unwrap();
        let answer = world.emulator.control_router().oneshot(request).await.unwrap();
        assert_eq!(answer.status() == StatusCode::OK, allowed, "{header}: {value}");
    }
}

#[tokio::test]
async fn the_phone_works_with_plain_forms() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let mut create = world.create(Scene::Native, "P00001", 1234);
    if let Call::Create { terms, .. } = &mut create {
        terms.title = "<b>&茶".to_owned();
    }
    let code = world.code(&world.wx, &create).await;
    let page = async |request: Request<Body>| {
        let answer = collected(world.emulator.control_router().oneshot(request).await.unwrap()).await;
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        (location, String::from_utf8(answer.body().to_vec()).unwrap())
    };
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let form = |path: &str, body: String| {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        request.body(Body::from(body)).unwrap()
    };
    let (_, list) = page(get("/phone")).await;
    assert!(list.contains("P00001") && list.contains("12.34") && !list.contains("<b>&"), "{list}");
    let encoded: String = url::form_urlencoded::byte_serialize(code.as_bytes()).collect();
    let (location, _) = page(form("/phone/scan", format!("code={encoded}"))).await;
    let opened = location.unwrap();
    let (_, cashier) = page(get(&opened)).await;
    assert!(cashier.contains("测试商城") && cashier.contains("确认付款") && !cashier.contains("支付成功"));
    let (location, _) = page(form("/phone/cancel", "trade=wx:P00001".to_owned())).await;
    assert!(page(get(&location.unwrap())).await.1.contains("已取消支付"));
    let (location, _) = page(form("/phone/pay", "trade=wx:P00001".to_owned())).await;
    assert!(page(get(&location.unwrap())).await.1.contains("支付成功"));
    let (location, again) = page(form("/phone/pay", "trade=wx:P00001".to_owned())).await;
    assert!(location.is_none() && again.contains("已支付"), "{again}");
    assert!(!page(get("/phone")).await.1.contains("P00001"), "nothing left to pay");
}

/// What a merchant answers to a notice.
fn encode_ack(scene: Scene, ack: Ack) -> Response<Bytes> {
    match scene.channel() {
        Channel::Wx => wechat_v2::encode_ack(ack),
        Channel::Ali => alipay::encode_ack(ack),
    }
}
