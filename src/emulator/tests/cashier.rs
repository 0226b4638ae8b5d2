//! Alipay in a browser: the cashier behind a signed link, and what it says on the way back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const BACK: &str = "http://127.0.0.1:3000/pay/x?asked=1";

impl World {
    /// The link that the shopper's browser opens.
    fn browser_link(&self, scene: Scene, number: &str) -> String {
        let mut create = self.create(scene, number, 1234);
        if let Call::Create { terms, .. } = &mut create {
            terms.visit.return_url = Some(BACK.to_owned());
        }
        match self.ali.encode_call(&create, &stamp()) {
            Ok(Outgoing::Local(Reply::Created(code))) => code.content,
            other => panic!("not a link: {other:?}"),
        }
    }

    async fn step(&self, action: &str, link: &str) -> Page {
        let (_, link) = link.split_once('?').unwrap();
        self.browse(form(&format!("/cashier/{action}"), &[("link", link)])).await
    }
}

fn get(link: &str) -> Request<Body> {
    Request::get(link).body(Body::empty()).unwrap()
}

/// Checked with the gateway's key, as a notice is (gateways.md 4.8).
fn check_return(world: &World, went: &url::Url, method: &str) -> BTreeMap<String, String> {
    let mut params: BTreeMap<String, String> = went.query_pairs().into_owned().collect();
    assert_eq!(params.remove("asked").as_deref(), Some("1"));
    let all = params.clone();
    let sign = STANDARD.decode(params.remove("sign").unwrap()).unwrap();
    assert_eq!(params.remove("sign_type").as_deref(), Some("RSA2"));
    let text: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pem = std::fs::read_to_string(&world.emulator.credentials().alipay.alipay_public_key_file).unwrap();
    let key = PublicKey::read(&pem).unwrap();
    assert!(key.verify_sha256(text.join("&").as_bytes(), &sign), "{all:?}");
    assert!(!key.verify_sha256(text.join("&").replace("12.34", "12.35").as_bytes(), &sign));
    assert_eq!((all["method"].as_str(), all["total_amount"].as_str()), (method, "12.34"));
    assert!(!all.contains_key("trade_status"), "it proves nothing");
    all
}

#[tokio::test]
async fn a_browser_pays_behind_the_link_and_comes_back_with_signed_words() {
    for (scene, number, method) in [
        (Scene::Wap, "B00001", "alipay.trade.wap.pay.return"),
        (Scene::Page, "B00002", "alipay.trade.page.pay.return"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let (world, shop) = paid_world(data.path(), Scene::QrCode).await;
        let link = world.browser_link(scene, number);
        let page = world.browse(get(&link)).await;
        assert!(page.shows("登录并继续") && page.shows("12.34") && page.shows(number), "{page:?}");
        assert_eq!(page.html.contains("<svg"), scene == Scene::Page, "only a computer shows a QR code");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("form-action 'self' http://127.0.0.1:3000"), "{policy}");
        assert_eq!(world.ask(&world.ali, &query(number)).await, Ok(Reply::Trade(Trade::Absent)));

        let entered = world.step("enter", &link).await;
        assert_eq!(entered.status, StatusCode::FOUND);
        assert_eq!(world.ask(&world.ali, &query(number)).await, Ok(Reply::Trade(Trade::Waiting)));
        assert!(world.browse(get(entered.location.as_deref().unwrap())).await.shows("确认付款"));
        assert_eq!(world.step("cancel", &link).await.went_to().as_str(), BACK);
        assert_eq!(world.ask(&world.ali, &query(number)).await, Ok(Reply::Trade(Trade::Waiting)));

        let back = check_return(&world, &world.step("pay", &link).await.went_to(), method);
        let Ok(Reply::Trade(Trade::Paid(paid))) = world.ask(&world.ali, &query(number)).await else {
            panic!("not paid")
        };
        assert_eq!(back["trade_no"], paid.transaction_id.as_str());
        world.emulator.deliver_due().await;
        assert_eq!(shop.heard().len(), 1);
        // Who comes again, by whatever way, is sent back and pays nothing.
        for again in [world.browse(get(&link)).await, world.step("pay", &link).await] {
            let to = again.location.unwrap();
            assert!(to.starts_with(BACK) || to.starts_with("/gateway.do?"), "{to}");
        }
        world.emulator.deliver_due().await;
        assert!(shop.heard().is_empty());
    }
}

#[tokio::test]
async fn forms_links_and_codes_of_pages_can_be_paid() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    // As SDKs' pageExecute does: everything posted, from the shop's own page.
    let link = world.browser_link(Scene::Wap, "B00001");
    let fields: Vec<(String, String)> = url::Url::parse(&link).unwrap().query_pairs().into_owned().collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let mut posted = form("/gateway.do?charset=utf-8", &fields);
    posted.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    let posted = world.browse(posted).await;
    assert!(world.browse(get(posted.location.as_deref().unwrap())).await.shows("登录并继续"), "{posted:?}");

    let (_, paid) = world.pay(&link).await;
    assert_eq!(
        (&paid["data"]["out_trade_no"], &paid["data"]["state"]),
        (&json!("B00001"), &json!("SUCCESS"))
    );
    assert_eq!(world.pay(&link).await.1["error"], "already_paid");

    let link = world.browser_link(Scene::Page, "B00002");
    let page = world.browse(get(&link)).await;
    assert_eq!(page.headers["refresh"], "3");
    let code = world.emulator.inner.links.code(link.split_once('?').unwrap().1);
    assert!(code.len() < 60, "{code}");
    let (_, scanned) = world.control("POST", "/scan", json!({ "code": code })).await;
    assert_eq!(scanned["data"]["state"], "NOTPAY", "{scanned}");
    assert!(world.browse(get(&link)).await.shows("确认付款"), "entered by phone");
    assert_eq!(world.pay(&code).await.1["data"]["state"], "SUCCESS");
    check_return(&world, &world.browse(get(&link)).await.went_to(), "alipay.trade.page.pay.return");
}

#[tokio::test]
async fn a_link_that_was_changed_or_is_late_gets_the_page_of_refusal() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let link = world.browser_link(Scene::Wap, "B00001");
    let dearer = link.replace("12.34", "12.35");
    let escaped = |text: &str| {
        let letters: Vec<String> = text.chars().map(|letter| format!("&#{};", u32::from(letter))).collect();
        letters.concat()
    };
    for (link, said) in [
        (dearer.clone(), "invalid-signature".to_owned()),
        (link.replace("app_id=2021", "app_id=2020"), "invalid-app-id".to_owned()),
    ] {
        let page = world.browse(get(&link)).await;
        assert!(page.shows(&said) && page.shows(&escaped("错误代码")), "{page:?}");
        assert_eq!(page.headers["content-type"], "text/html;charset=GBK");
        assert!(world.why().await.contains(if said.contains("sign") {
            "the signed text must be"
        } else {
            "app_id"
        }));
    }
    for action in ["enter", "pay", "cancel"] {
        assert!(world.step(action, &dearer).await.shows("invalid-signature"), "{action}");
        let order_string = "x?app_id=1&method=alipay.trade.app.pay";
        assert!(world.step(action, order_string).await.shows(&escaped("错误原因")), "{action}");
    }
    let (status, said) = world.pay(&dearer).await;
    assert_eq!((status, &said["error"]), (StatusCode::BAD_REQUEST, &json!("bad_order_string")));
    let mut forged = form("/cashier/pay", &[("link", link.split_once('?').unwrap().1)]);
    forged.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(world.browse(forged).await.status, StatusCode::FORBIDDEN);
    assert!(world.ledger().await["trades"].as_array().unwrap().is_empty());

    // The same number with other terms.
    world.step("enter", &link).await;
    let mut other = world.create(Scene::Wap, "B00001", 99);
    if let Call::Create { terms, .. } = &mut other {
        terms.visit.return_url = Some(BACK.to_owned());
    }
    let Ok(Outgoing::Local(Reply::Created(other))) = world.ali.encode_call(&other, &stamp()) else {
        panic!()
    };
    assert!(world.browse(get(&other.content)).await.shows("CONTEXT_INCONSISTENT"));
    assert_eq!(world.pay(&other.content).await.1["error"], "other_terms");

    world.control("POST", "/clock", json!({ "advance_ms": 7_200_001 })).await;
    assert!(world.browse(get(&link)).await.shows("EXPIRE_TIME"));
    assert!(world.step("pay", &link).await.shows("EXPIRE_TIME"));
    assert_eq!(world.ask(&world.ali, &query("B00001")).await, Ok(Reply::Trade(Trade::Closed)));
}

#[tokio::test]
async fn without_a_way_back_the_page_says_it() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let Ok(Outgoing::Local(Reply::Created(code))) =
        world.ali.encode_call(&world.create(Scene::Page, "B00001", 1), &stamp())
    else {
        panic!("not a link")
    };
    assert!(world.step("cancel", &code.content).await.shows("已取消支付"));
    assert!(world.step("pay", &code.content).await.shows("支付成功"));
    world
        .control("PUT", "/faults", json!({ "faults": [{ "on": "alipay.trade.page.pay", "kind": "429" }] }))
        .await;
    assert_eq!(world.browse(get(&code.content)).await.status, StatusCode::TOO_MANY_REQUESTS);
}
