//! Who is this? The authorisation page and the exchange of its code, from both sides.

use super::*;

const BACK: &str = "http://127.0.0.1:3000/app/payment/wpay/12346?order_type=Order";

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl World {
    fn link(&self, back: &str, state: &str) -> String {
        let app_id = &self.emulator.credentials().wechat.app_id;
        format!(
            "/connect/oauth2/authorize?appid={app_id}&redirect_uri={}&response_type=code&scope=snsapi_base\
             &state={state}",
            encoded(back)
        )
    }

    async fn enter(&self, link: &str, agent: &str) -> Page {
        self.browse(Request::get(link).header("user-agent", agent).body(Body::empty()).unwrap()).await
    }

    /// A fresh code.
    pub(super) async fn oauth_code(&self) -> String {
        let went = self.enter(&self.link(BACK, "s1"), IN_WECHAT).await.went_to();
        went.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
    }

    async fn exchange(&self, query: &str) -> Value {
        let page = self
            .browse(Request::get(format!("/sns/oauth2/access_token?{query}")).body(Body::empty()).unwrap())
            .await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        assert_eq!(page.headers["content-type"], "text/plain");
        serde_json::from_str(&page.html).unwrap()
    }

    fn exchange_query(&self, code: &str) -> String {
        let known = &self.emulator.credentials().wechat;
        let (app_id, secret) = (&known.app_id, &known.app_secret);
        format!("appid={app_id}&secret={secret}&code={code}&grant_type=authorization_code")
    }

    pub(super) async fn openid(&self) -> String {
        let code = self.oauth_code().await;
        let told = self.exchange(&self.exchange_query(&code)).await;
        told["openid"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    }
}

#[tokio::test]
async fn a_shopper_in_wechat_is_sent_back_with_a_code_that_works_once() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let went = world.enter(&world.link(BACK, "Abc123"), IN_WECHAT).await.went_to();
    let query: Vec<(String, String)> = went.query_pairs().into_owned().collect();
    assert_eq!(went.path(), "/app/payment/wpay/12346");
    assert_eq!(query[0], ("order_type".to_owned(), "Order".to_owned()));
    assert_eq!((query[1].0.as_str(), &query[2]), ("code", &("state".to_owned(), "Abc123".to_owned())));
    let told = world.exchange(&world.exchange_query(&query[1].1)).await;
    assert_eq!((&told["scope"], &told["expires_in"]), (&json!("snsapi_base"), &json!(7200)), "{told}");
    assert!(told.get("is_snapshotuser").is_none());
    let openid = told["openid"].as_str().unwrap();
    assert!(openid.len() == 28 && openid.starts_with('o'), "{openid}");
    let again = world.exchange(&world.exchange_query(&query[1].1)).await;
    assert_eq!(again["errcode"], 40163, "{again}");
    assert!(!world.why().await.contains(openid));

    // A popup that is asked for may be; a fresh code is the same person's.
    let popup = format!("{}&forcePopup=true", world.link(BACK, "s"));
    assert!(world.enter(&popup, IN_WECHAT).await.went_to().query().unwrap().contains("code="));
    assert_eq!(world.openid().await, openid);
}

#[tokio::test]
async fn the_order_of_parameters_and_everything_else_is_enforced() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let good = world.link(BACK, "s");
    let app_id = world.emulator.credentials().wechat.app_id.clone();
    let swapped = format!(
        "/connect/oauth2/authorize?appid={app_id}&response_type=code&redirect_uri={}&scope=snsapi_base\
         &state=s",
        encoded(BACK)
    );
    for (link, said) in [
        (swapped, "链接参数错误"),
        (format!("{good}&more=1"), "链接参数错误"),
        (good.replace("response_type=code", "response_type=token"), "链接参数错误"),
        (good.replace(&encoded(BACK), BACK), "链接参数错误"),
        (good.replace("state=s", "state=a%2Fb"), "链接参数错误"),
        (world.link(BACK, &"a".repeat(129)), "链接参数错误"),
        (good.replace("&scope=snsapi_base", ""), "10010"),
        (good.replace(&encoded(BACK), ""), "10011"),
        (good.replace(&app_id, ""), "10012"),
        (good.replace("state=s", "state="), "10013"),
        (good.replace("snsapi_base", "snsapi_userinfo"), "10005"),
        (good.replace(&app_id, "wx0000000000000000"), "AppID"),
        (world.link("https://evil.example/x", "s"), "10003"),
        (world.link("https://mall.example.evil.example/x", "s"), "10003"),
    ] {
        let page = world.enter(&link, IN_WECHAT).await;
        assert!(page.shows(said), "{link}: {page:?}");
        assert!(!world.why().await.starts_with("ok"), "{link}");
    }
    let page = world.enter(&good, "Mozilla/5.0 Chrome/130").await;
    assert!(page.shows("请在微信客户端打开链接"), "{page:?}");
    assert_eq!(world.enter(&world.link("https://mall.example/x", "s"), IN_WECHAT).await.status, 302);
}

#[tokio::test]
async fn the_exchange_says_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let code = world.oauth_code().await;
    let good = world.exchange_query(&code);
    let known = world.emulator.credentials().wechat.clone();
    for (query, errcode) in [
        (good.replace(&known.app_id, ""), 41002),
        (good.replace(&known.app_secret, ""), 41004),
        (good.replace(&code, ""), 41008),
        (good.replace("authorization_code", "x"), 40002),
        (good.replace(&known.app_id, "wx0000000000000000"), 40013),
        (good.replace(&known.app_secret, &"0".repeat(32)), 40125),
        (good.replace(&code, "nothing"), 40029),
    ] {
        let told = world.exchange(&query).await;
        assert_eq!(told["errcode"], errcode, "{told}");
        assert!(told.get("openid").is_none() && told["errmsg"].as_str().unwrap().contains("rid: "), "{told}");
    }
    // None of that burned the code, five minutes do.
    world.control("POST", "/clock", json!({ "advance_ms": 300_000 })).await;
    let late = world.oauth_code().await;
    assert!(world.exchange(&good).await.get("openid").is_some());
    world.control("POST", "/clock", json!({ "advance_ms": 300_001 })).await;
    assert_eq!(world.exchange(&world.exchange_query(&late)).await["errcode"], 40029);
}

#[tokio::test]
async fn tests_say_who_holds_the_phone_and_an_openid_stays() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let zhang = world.openid().await;
    let (_, shown) = world.control("GET", "/wechat", Value::Null).await;
    assert_eq!(shown["data"], json!({ "user": "zhang", "snapshot": false, "openid": zhang }));
    world.control("POST", "/wechat", json!({ "user": "li" })).await;
    let li = world.openid().await;
    assert_ne!(li, zhang);
    let (_, shown) = world.control("POST", "/wechat", json!({ "user": "li", "snapshot": true })).await;
    assert_eq!(shown["data"]["snapshot"], true);
    let code = world.oauth_code().await;
    let told = world.exchange(&world.exchange_query(&code)).await;
    assert_eq!(told["is_snapshotuser"], 1);
    assert!(told["openid"] != json!(li) && told["openid"] != json!(zhang), "made up");
    assert_eq!(world.control("POST", "/wechat", json!({ "user": "" })).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.control("POST", "/wechat", json!({ "who": "x" })).await.0, StatusCode::BAD_REQUEST);
    drop(world);
    let world = World::open(data.path());
    assert_eq!(world.openid().await, zhang, "the same after a restart");
}

#[tokio::test]
async fn faults_bend_the_exchange() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let put = async |fault: Value| world.control("PUT", "/faults", json!({ "faults": [fault] })).await;
    let code = world.oauth_code().await;
    let path = format!("/sns/oauth2/access_token?{}", world.exchange_query(&code));
    let ask = || Request::get(&path).body(Body::empty()).unwrap();
    put(json!({ "on": "wx.oauth2.access_token", "kind": "5xx", "count": 1 })).await;
    assert_eq!(world.browse(ask()).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    put(json!({ "on": "wx.oauth2.access_token", "kind": "systemerror", "count": 1 })).await;
    assert!(world.browse(ask()).await.html.contains("\"errcode\":-1"));
    put(json!({ "on": "wx.oauth2.access_token", "kind": "cut_after", "count": 1 })).await;
    let cut = world.emulator.protocol_router().oneshot(ask()).await.unwrap();
    assert!(cut.into_body().collect().await.is_err());
    let burned = world.browse(ask()).await;
    assert!(burned.html.contains("40163"), "the answer was lost, the code is used: {burned:?}");
    put(json!({ "on": "wx.oauth2.authorize", "kind": "status", "status": 503, "count": 1 })).await;
    assert_eq!(world.enter(&world.link(BACK, "s"), IN_WECHAT).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, said) = put(json!({ "on": "wx.oauth2.authorize", "kind": "forged" })).await;
    assert_eq!(
        (status, &said["message"]),
        (StatusCode::BAD_REQUEST, &json!("nothing on wx.oauth2.authorize is signed"))
    );
}
