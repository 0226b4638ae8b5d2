//! Paying inside WeChat: who may place a trade for whom, and what the client wants of the page that calls it.

use md5::{Digest as _, Md5};

use super::*;
use crate::domain::id::Payer;

impl World {
    fn for_payer(&self, number: &str, openid: &str) -> Call {
        let mut create = self.create(Scene::Jsapi, number, 11);
        if let Call::Create { terms, .. } = &mut create {
            terms.visit.openid = Some(Payer::new(openid).unwrap());
        }
        create
    }

    /// What a page hands to the bridge, signed with MD5 by hand (gateways.md 1.4).
    fn params(&self, prepay_id: &str) -> Value {
        let known = &self.emulator.credentials().wechat;
        let mut params = json!({
            "appId": known.app_id, "timeStamp": "1414561699", "nonceStr": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
            "package": format!("prepay_id={prepay_id}"), "signType": "MD5",
        });
        let mut text: Vec<String> = params
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
            .collect();
        text.sort_unstable();
        let text = format!("{}&key={}", text.join("&"), known.api_v2_key);
        params["paySign"] = json!(hex::encode_upper(Md5::digest(text.as_bytes())));
        params
    }

    /// A merchant that signs with MD5, as the parameters above are.
    fn with_md5(&self) -> WechatV2 {
        let known = self.emulator.credentials();
        WechatV2::new(wechat_v2::Config {
            app_id: known.wechat.app_id.clone(),
            mch_id: known.wechat.mch_id.clone(),
            key: Secret::new(known.wechat.api_v2_key.clone()),
            sign_type: SignType::Md5,
            base_url: known.emulator_url.clone(),
        })
    }

    async fn invoke(&self, params: &Value, outcome: &str) -> Value {
        let (status, told) =
            self.control("POST", "/bridge", json!({ "params": params, "outcome": outcome })).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        told["data"].clone()
    }
}

#[tokio::test]
async fn a_page_in_wechat_is_paid_by_the_one_it_was_placed_for() {
    let data = tempfile::tempdir().unwrap();
    let (mut world, shop) = paid_world(data.path(), Scene::Native).await;
    world.wx = world.with_md5();
    let openid = world.openid().await;
    let prepay_id = world.code(&world.wx, &world.for_payer("J00001", &openid)).await;
    assert!(prepay_id.starts_with("wx"), "{prepay_id}");
    let params = world.params(&prepay_id);
    assert_eq!(world.invoke(&params, "cancel").await, json!({ "err_msg": "get_brand_wcpay_request:cancel" }));
    let failed = world.invoke(&params, "fail").await;
    assert_eq!(failed["err_msg"], "get_brand_wcpay_request:fail");
    assert!(failed["err_desc"].as_str().unwrap().contains("余额不足"));
    assert_eq!(world.ask(&world.wx, &query("J00001")).await, Ok(Reply::Trade(Trade::Waiting)));
    assert_eq!(world.invoke(&params, "ok").await, json!({ "err_msg": "get_brand_wcpay_request:ok" }));
    assert!(matches!(world.ask(&world.wx, &query("J00001")).await, Ok(Reply::Trade(Trade::Paid(_)))));
    world.emulator.deliver_due().await;
    let notice = String::from_utf8(shop.heard()[0].to_vec()).unwrap();
    assert!(notice.contains(&openid) && notice.contains("JSAPI"), "{notice}");
    let again = world.invoke(&params, "ok").await;
    assert!(again["err_desc"].as_str().unwrap().contains("已支付"), "{again}");

    // A test may leave the bridge out.
    let prepay_id = world.code(&world.wx, &world.for_payer("J00002", &openid)).await;
    assert_eq!(world.pay(&prepay_id).await.1["data"]["out_trade_no"], "J00002");
}

#[tokio::test]
async fn nobody_pays_with_what_the_client_does_not_trust() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::open(data.path());
    world.wx = world.with_md5();
    let openid = world.openid().await;
    let prepay_id = world.code(&world.wx, &world.for_payer("J00001", &openid)).await;
    let good = world.params(&prepay_id);
    let with = |name: &str, value: Value| {
        let mut params = good.clone();
        params[name] = value;
        params
    };
    let mut bare = good.clone();
    bare.as_object_mut().unwrap().remove("nonceStr");
    for (params, said, why) in [
        (with("timeStamp", json!(1_414_561_699)), "timeStamp", "must be a string"),
        (with("timeStamp", json!("1414561700")), "签名", "the signed text must be: appId="),
        (with("paySign", json!(good["paySign"].as_str().unwrap().to_lowercase())), "签名", "lower case"),
        (with("appId", json!("wx0000000000000000")), "签名", "appId"),
        (with("signType", json!("HMAC-SHA256")), "签名", "must be the same"),
        (with("package", json!(prepay_id)), "签名", "prepay_id="),
        (world.params("wx_of_nobody"), "签名", "no trade"),
        (bare, "nonceStr", "missing"),
    ] {
        let told = world.invoke(&params, "ok").await;
        assert_eq!(told["err_msg"], "get_brand_wcpay_request:fail", "{params}");
        assert!(told["err_desc"].as_str().unwrap().contains(said), "{told}");
        let log = world.why().await;
        assert!(log.contains(why) && !log.contains(&world.emulator.credentials().wechat.api_v2_key), "{log}");
    }
    world.control("POST", "/wechat", json!({ "user": "li" })).await;
    let told = world.invoke(&good, "ok").await;
    assert!(told["err_desc"].as_str().unwrap().contains("账号不一致"), "another's prepay_id: {told}");
    world.control("POST", "/wechat", json!({ "user": "zhang" })).await;
    let native = world.create(Scene::Native, "N00001", 11);
    let Ok(Reply::Created(code)) = world.ask(&world.wx, &native).await else { panic!("no code") };
    let told = world.invoke(&world.params(code.prepay_id.as_deref().unwrap()), "ok").await;
    assert!(told["err_desc"].as_str().unwrap().contains("不支持"), "NATIVE: {told}");
    for number in ["J00001", "N00001"] {
        assert_eq!(world.ask(&world.wx, &query(number)).await, Ok(Reply::Trade(Trade::Waiting)));
    }
}

#[tokio::test]
async fn a_page_outside_the_payment_directory_calls_no_wallet() {
    let data = tempfile::tempdir().unwrap();
    let mut world = World::open(data.path());
    world.wx = world.with_md5();
    let openid = world.openid().await;
    let prepay_id = world.code(&world.wx, &world.for_payer("J00001", &openid)).await;
    let params = world.params(&prepay_id);
    let call = async |page: &str| {
        let body = json!({ "params": params, "page": page, "outcome": "cancel" });
        world.control("POST", "/bridge", body).await.1["data"].clone()
    };
    for page in [
        "http://127.0.0.1:3000/pay/AAAA?key=secret",
        "http://127.0.0.1:3000/app/payment/wpay",
        "http://127.0.0.1:3000/app/payment/wpay/",
        "http://127.0.0.1:3000/app/payment/wpay/../12346",
        "http://127.0.0.1:3000/App/Payment/Wpay/12346",
        "http://127.0.0.1:3000/pay/AAAA#/app/payment/wpay/1",
        "https://evil.example/app/payment/wpay/12346",
        "https://mall.example.evil/app/payment/wpay/12346",
        "about:blank",
        "",
    ] {
        let told = call(page).await;
        assert_eq!(told["err_msg"], "get_brand_wcpay_request:fail", "{page}");
        assert!(told["err_desc"].as_str().unwrap().starts_with("当前页面的URL未注册:"), "{told}");
        let log = world.why().await;
        assert!(log.contains("under the payment directory /app/payment/wpay/ (--pay-directory)"), "{log}");
        assert!(!log.contains("secret") && !told.to_string().contains("secret"), "{log}");
    }
    for page in [
        "http://127.0.0.1:3000/app/payment/wpay/12346?order_type=Order&lang=en",
        "http://localhost/app/payment/wpay/12346",
        "https://mall.example/app/payment/wpay/a/b",
    ] {
        assert_eq!(call(page).await["err_msg"], "get_brand_wcpay_request:cancel", "{page}");
    }
}

#[tokio::test]
async fn a_trade_for_an_openid_of_nobody_is_not_placed() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.control("POST", "/wechat", json!({ "user": "zhang", "snapshot": true })).await;
    let (_, preview) = world.control("GET", "/wechat", Value::Null).await;
    let other = World::open(tempfile::tempdir().unwrap().path()).openid().await;
    let made_up = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned();
    for openid in [made_up, other, preview["data"]["openid"].as_str().unwrap().to_owned(), "o".to_owned()] {
        let said = refused(world.ask(&world.wx, &world.for_payer("J00001", &openid)).await);
        assert_eq!(said, ("PARAM_ERROR".to_owned(), Retry::Never), "{openid}");
    }
    assert!(world.ledger().await["trades"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_script_knows_what_it_was_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = collected(world.emulator.control_router().oneshot(request).await.unwrap()).await;
        (answer.status(), String::from_utf8(answer.body().to_vec()).unwrap())
    };
    let (_, script) = get("/bridge.js?outcome=silent&delay_ms=250").await;
    assert!(script.contains(r#""outcome":"silent""#) && script.contains(r#""delayMs":250"#), "{script}");
    assert!(get("/bridge.js").await.1.contains(r#""outcome":"ok""#));
    assert_eq!(get("/bridge.js?outcome=%3Cscript%3E").await.0, StatusCode::BAD_REQUEST);
}
