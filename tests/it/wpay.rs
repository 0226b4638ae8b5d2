//! Paying inside WeChat, step by step as a browser takes it: cookies, redirects, codes. With the emulator as
//! WeChat, through the real binary. What a page shows is `end2end/tests/wpay.test.mjs`'s.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use shouyin::runtime::transport::{Timeouts, Transport};

use crate::world::World;

const AGENT: &str = "Mozilla/5.0 (Linux; Android 14) Chrome/130.0 Mobile micromessenger/8.0.47 NetType/WIFI";

/// What a page says whose way to WeChat and back is over.
const STALE: &str = "这次打开已失效";

/// A browser with a jar of its own that follows no redirect by itself.
#[derive(Clone)]
struct Browser {
    web: Transport,
    agent: &'static str,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let web = Transport::anywhere(Timeouts::GATEWAYS).unwrap();
        Self { web, agent: AGENT, jar: BTreeMap::new() }
    }

    async fn get(&mut self, url: &str) -> Response<Bytes> {
        self.send(Method::GET, url, "").await
    }

    async fn send(&mut self, method: Method, url: &str, form: &'static str) -> Response<Bytes> {
        let line = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let request = http::Request::builder()
            .method(method)
            .uri(url.split('#').next().unwrap())
            .header("user-agent", self.agent)
            .header("cookie", line.join("; "))
            .body(Bytes::from(form))
            .unwrap();
        let answer = self.web.send(request).await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Up to the address that WeChat sends the browser back to.
    async fn authorized(&mut self, url: &str) -> String {
        let authorize = to(&self.get(url).await);
        assert!(authorize.contains("/connect/oauth2/authorize?appid=wx"), "{authorize}");
        assert!(authorize.ends_with("#wechat_redirect"), "{authorize}");
        to(&self.get(&authorize).await)
    }

    /// All the way to the page that calls the wallet; what it calls it with.
    async fn arrived(&mut self, world: &World, url: &str) -> Value {
        let back = self.authorized(url).await;
        let clean = to(&self.get(&back).await);
        assert!(clean.starts_with("/app/payment/wpay/") && !clean.contains("code="), "{clean}");
        params(&self.get(&world.service(&clean)).await)
    }
}

fn to(answer: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(answer.body());
    assert_eq!(answer.status(), StatusCode::FOUND, "{text}");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

/// What the page calls the wallet with.
fn params(answer: &Response<Bytes>) -> Value {
    let text = String::from_utf8_lossy(answer.body());
    assert_eq!(answer.status(), StatusCode::OK, "{text}");
    let given = text.split("data-params=\"").nth(1).unwrap_or_else(|| panic!("{text}"));
    let given = given.split('"').next().unwrap().replace("&quot;", "\"");
    serde_json::from_str(&given).unwrap()
}

/// A calm page: it says that nothing was taken, and has one way on.
fn calm(answer: &Response<Bytes>, says: &str) {
    let text = String::from_utf8_lossy(answer.body());
    assert!(text.contains(says), "{text}");
    assert!(!text.contains("支付成功") && !text.contains("data-params"), "{text}");
    assert_eq!(text.matches("class=\"primary\"").count(), 1, "{text}");
    assert!(!answer.headers().contains_key(header::LOCATION));
}

async fn order(world: &World, order_type: &str, number: &str) -> String {
    let body = json!({
        "order_type": order_type, "order_number": number, "title": "茶 🍵", "total_fee": 100,
    });
    let reply = world.mall(Method::POST, "/rest/orders", body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    reply.json["data"]["wpay_url"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_order_is_paid_inside_wechat() {
    let world = World::start();
    for order_type in ["Order", "Wallet", "Appointment"] {
        let url = order(&world, order_type, "INSIDE01").await;
        let mut browser = Browser::new();
        let given = browser.arrived(&world, &url).await;
        assert!(given["package"].as_str().unwrap().starts_with("prepay_id="), "{given}");
        assert!(given["timeStamp"].is_string(), "{given}");
        // Reloading keeps the payer and the trade, and signs anew.
        let again = params(&browser.get(&url).await);
        assert_eq!(again["package"], given["package"]);
        assert_ne!(again["nonceStr"], given["nonceStr"]);
        let told = world.emulator(Method::POST, "/bridge", json!({ "params": again, "outcome": "ok" })).await;
        assert_eq!(told["err_msg"], "get_brand_wcpay_request:ok", "{told}");
        let path = format!("/rest/orders/{order_type}/INSIDE01");
        let mut seen = Value::Null;
        for _ in 0..200 {
            seen = world.mall(Method::GET, &path, Value::Null).await.json["data"].clone();
            if seen["state"] == "paid" {
                break;
            }
            tokio::time::sleep(core::time::Duration::from_millis(50)).await;
        }
        assert_eq!(seen["state"], "paid", "{seen}");
        assert_eq!(seen["attempts"].as_array().unwrap().len(), 1, "{seen}");
        // Now it has its result, without a word to WeChat; also for who has never been there.
        let mut stranger = Browser::new();
        for browser in [&mut browser, &mut stranger] {
            let result = to(&browser.get(&url).await);
            assert!(result.contains("/pay/"), "{result}");
            let result = browser.get(&result).await;
            assert!(String::from_utf8_lossy(result.body()).contains("支付成功"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_back_that_lead_nowhere() {
    let world = World::start();
    let url = order(&world, "Order", "STATES01").await;
    let other = order(&world, "Wallet", "STATES01").await;
    let base = |back: &str| back.split("&code=").next().unwrap().to_owned();

    // Another browser gets the link of this one.
    let (mut own, mut foreign) = (Browser::new(), Browser::new());
    let back = own.authorized(&url).await;
    let answer = foreign.get(&back).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    calm(&answer, STALE);
    assert!(foreign.jar.is_empty(), "it learns nobody's openid: {:?}", foreign.jar);

    // For another order, made up, without code, without state: nothing is spent, nobody becomes known.
    let tail = back.split_once("&code=").unwrap().1;
    let (code, state) = tail.split_once("&state=").unwrap();
    let page = base(&back);
    let bent = [
        back.replace("order_type=Order", "order_type=Wallet"),
        format!("{page}&code={code}&state={}", "A".repeat(22)),
        format!("{page}&code={code}&state={}{}", &state[..8], "A".repeat(14)),
        format!("{page}&code={code}"),
        format!("{page}&code={code}&state="),
        format!("{page}&code=x&state=%C3%A9"),
    ];
    for bent in &bent {
        let answer = own.get(bent).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{bent}");
        calm(&answer, STALE);
    }
    // The real one still works, and once: a copy of the cookie does not help.
    let copy = own.clone();
    to(&own.get(&back).await);
    for jar in [copy.clone(), Browser::new()] {
        let mut replay = jar;
        calm(&replay.get(&back).await, STALE);
    }
    // Who is known may load the old address again, with no code asked about.
    assert!(to(&own.get(&back).await).starts_with("/app/payment/wpay/STATES01?order_type=Order"));

    // Ten minutes are over.
    let mut late = Browser::new();
    let back = late.authorized(&other).await;
    world.emulator(Method::POST, "/clock", json!({ "advance_ms": 600_001 })).await;
    calm(&late.get(&back).await, STALE);
    // And the way on leads on.
    late.arrived(&world, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_people_that_wechat_does_not_vouch_for() {
    let world = World::start();
    let url = order(&world, "Order", "CODES001").await;
    // A code that was used before, and one that never was, each behind a right state.
    let mut browser = Browser::new();
    let back = browser.authorized(&url).await;
    let used = back.split("&code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    to(&browser.get(&back).await);
    for code in [used.as_str(), "neverhandedout"] {
        let mut browser = Browser::new();
        let back = browser.authorized(&url).await;
        let (page, state) = (back.split("&code=").next().unwrap(), back.split("&state=").nth(1).unwrap());
        let answer = browser.get(&format!("{page}&code={code}&state={state}")).await;
        calm(&answer, STALE);
        assert!(browser.jar.is_empty(), "{:?}", browser.jar);
        browser.arrived(&world, &url).await;
    }
    // WeChat does not answer, or is in trouble: begin again, and it goes on.
    for kind in ["5xx", "systemerror", "cut_before", "truncated"] {
        let mut browser = Browser::new();
        let back = browser.authorized(&url).await;
        world.faults(json!([{ "on": "wx.oauth2.access_token", "kind": kind, "count": 1 }])).await;
        calm(&browser.get(&back).await, "微信支付暂时不可用");
        assert!(browser.jar.is_empty(), "{kind}");
        browser.arrived(&world, &url).await;
    }
    // A preview has an openid that is nobody's: nothing is placed with it.
    world.emulator(Method::POST, "/wechat", json!({ "user": "curious", "snapshot": true })).await;
    let mut browser = Browser::new();
    let fresh = order(&world, "Order", "CODES002").await;
    let back = browser.authorized(&fresh).await;
    calm(&browser.get(&back).await, "使用完整服务");
    assert!(browser.jar.is_empty());
    assert_eq!(world.read("CODES002").await["attempts"], json!([]));
    world.emulator(Method::POST, "/wechat", json!({ "user": "curious", "snapshot": false })).await;
    browser.arrived(&world, &fresh).await;
}

/// States that came back are remembered by the process. After its end the code that came with them, which
/// WeChat takes once, says no: as in `codes_and_people_…`, where a used code stands behind a right state. The
/// demo's WeChat ends with the service and knows none of its codes any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_before_a_crash_opens_nothing_after_it() {
    let mut world = World::start();
    let url = order(&world, "Order", "CRASH001").await;
    let mut browser = Browser::new();
    let back = browser.authorized(&url).await;
    let mut hoarder = browser.clone();
    to(&browser.get(&back).await);
    let pending = order(&world, "Order", "CRASH002").await;
    let mut waiting = Browser::new();
    let later = waiting.authorized(&pending).await;
    world.kill_and_restart();
    let moved = |url: &str| world.service(&url[url.find("/app/").unwrap()..]);
    // The same cookie and the same address, as if nothing had happened; twice, and by a stranger.
    for browser in [&mut hoarder.clone(), &mut hoarder, &mut Browser::new()] {
        let answer = browser.get(&moved(&back)).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        calm(&answer, STALE);
        assert!(!browser.jar.contains_key("shouyin_payer"), "nobody's openid: {:?}", browser.jar);
    }
    assert_eq!(world.read("CRASH001").await["attempts"], json!([]));
    // Who was on the way meanwhile begins again, and arrives.
    calm(&waiting.get(&moved(&later)).await, STALE);
    waiting.arrived(&world, &moved(&pending)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_script_i_have_paid_asks_and_places_nothing() {
    let world = World::start();
    let url = order(&world, "Order", "NOJS0001").await;
    let mut browser = Browser::new();
    let given = browser.arrived(&world, &url).await;
    let page = String::from_utf8_lossy(browser.get(&url).await.body()).into_owned();
    let form = page.split("action=\"/pay/").nth(1).unwrap().split('"').next().unwrap();
    let form = world.service(&format!("/pay/{form}"));
    // Each form of that page, and each of the pages that it leads to, until the wallet's page is back.
    for what in ["do=confirm&channel=wx&lang=zh-CN", "do=confirm", "do=refresh&channel=wx", "do=refresh"] {
        let answer = browser.send(Method::POST, &form, what).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{what}");
        let mut next = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let mut pages = 0;
        while !next.starts_with("/app/payment/wpay/") {
            let answer = browser.get(&world.service(&next)).await;
            if answer.status() == StatusCode::FOUND {
                next = to(&answer);
                continue;
            }
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            assert!(text.contains("正在确认支付结果") && !text.contains("weixin://"), "{what}: {text}");
            let refresh = text.split("http-equiv=\"refresh\" content=\"").nth(1).unwrap();
            next = refresh.split("url=").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
            pages += 1;
            assert!(pages < 20, "{what}: it never ends");
        }
        let attempts = world.read("NOJS0001").await["attempts"].clone();
        assert_eq!(attempts.as_array().unwrap().len(), 1, "{what}: {attempts}");
        assert_eq!(params(&browser.get(&world.service(&next)).await)["package"], given["package"]);
    }
    // And it is told when the money is there.
    world.emulator(Method::POST, "/bridge", json!({ "params": given, "outcome": "ok" })).await;
    world.until("NOJS0001", |order| order["state"] == "paid").await;
    let answer = browser.send(Method::POST, &form, "do=confirm&channel=wx").await;
    let page = browser.get(&world.service(answer.headers()[header::LOCATION].to_str().unwrap())).await;
    assert!(String::from_utf8_lossy(page.body()).contains("支付成功"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_address_says_about_the_result_is_not_heard() {
    let world = World::start();
    let url = order(&world, "Order", "WORDS001").await;
    let mut browser = Browser::new();
    browser.arrived(&world, &url).await;
    for words in ["result=success", "err_msg=get_brand_wcpay_request:ok", "state_=paid&paid=1", "asked=1"] {
        let page = browser.get(&format!("{url}&{words}")).await;
        assert!(!String::from_utf8_lossy(page.body()).contains("支付成功"), "{words}");
        params(&page);
    }
    assert_eq!(world.read("WORDS001").await["state"], "pending");
    // Another person at the same browser, who says so: another attempt, for another openid.
    world.emulator(Method::POST, "/wechat", json!({ "user": "another" })).await;
    browser.arrived(&world, &format!("{url}&anew=1")).await;
    assert_eq!(world.read("WORDS001").await["attempts"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_where() {
    let world = World::start();
    let url = order(&world, "Order", "WHERE001").await;
    let checkout = to(&Browser { agent: "Mozilla/5.0 Chrome/130.0", ..Browser::new() }.get(&url).await);
    assert!(checkout.contains("/pay/"), "{checkout}");
    // Previews of links in chats ask nobody and place nothing.
    let previewer = "Mozilla/5.0 MicroMessenger/8.0 wechat-link-preview";
    let mut preview = Browser { agent: previewer, ..Browser::new() };
    assert_eq!(to(&preview.get(&url).await), checkout);
    assert_eq!(preview.get(&checkout).await.status(), StatusCode::OK);
    // The checkout page inside WeChat leads to this one, and keeps the language.
    let mut browser = Browser::new();
    for (query, location) in [
        ("", "/app/payment/wpay/WHERE001?order_type=Order"),
        ("?channel=wx&lang=en", "/app/payment/wpay/WHERE001?order_type=Order&lang=en"),
    ] {
        assert_eq!(to(&browser.get(&format!("{checkout}{query}")).await), location);
    }
    let back = browser.authorized(&format!("{url}&lang=en")).await;
    assert!(back.contains("order_type=Order&lang=en&code="), "{back}");
    // Alipay cannot be paid inside WeChat; the checkout page says how.
    let guide = browser.get(&format!("{checkout}?channel=ali")).await;
    assert!(String::from_utf8_lossy(guide.body()).contains("在浏览器打开"));
    assert_eq!(world.read("WHERE001").await["attempts"], json!([]), "and nobody was asked for a code");
}
