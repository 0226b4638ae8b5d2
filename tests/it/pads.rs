//! The tablets in the shop, over HTTP: who may pair one, who may show what on it, and that it keeps showing
//! it after kill -9. Never looks into tables.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shouyin::domain::id::UnixMillis;
use shouyin::runtime::clock::Clock;
use shouyin::runtime::listen::PeerAddr;
use shouyin::server::limits::Limits;
use shouyin::server::router::{self, App};
use shouyin::server::store::Store as _;
use shouyin::server::store::sqlite::SqliteStore;
use tower::ServiceExt as _;

use crate::malls::{Shop, api_key, id};
use crate::world::World;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Two merchants' shops, `left` and `right`, in one service with rate limits.
struct Shops {
    shop: Shop,
    app: Router,
}

/// What came back.
struct Reply {
    status: StatusCode,
    cookie: String,
    text: String,
    json: Value,
}

impl Shops {
    async fn open() -> Self {
        Self::of(Shop::in_memory(Clock::frozen(NOW), &["left", "right"]).await)
    }

    fn of(shop: Shop) -> Self {
        let limits = Limits::new(shop.clock.clone(), Vec::new());
        let app = router::service(App { checkout: shop.checkout.clone(), limits: limits.into() });
        Self { shop, app }
    }

    /// One request; `who` goes into `Authorization`, or into `Cookie` if it is one.
    async fn send(&self, method: Method, path: &str, who: &str, body: impl Into<Body>) -> Reply {
        let header = if who.contains('=') { "cookie" } else { "authorization" };
        let mut request = Request::builder().method(method).uri(path);
        if !who.is_empty() {
            request = request.header(header, who);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(PeerAddr("192.0.2.1:5".parse().unwrap()));
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let cookie = response.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.into()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Reply { status, cookie: cookie.unwrap_or_default(), text, json }
    }

    /// The merchant's till calls.
    async fn till(&self, merchant: &str, method: Method, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &api_key(merchant), body).await
    }

    /// A pad's name and its code.
    async fn pad(&self, merchant: &str) -> (String, String) {
        let made = self.till(merchant, Method::POST, "/rest/pads", Value::Null).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let word = |name: &str| made.json["data"][name].as_str().unwrap().to_owned();
        (word("pad"), word("pairing_code"))
    }

    async fn type_code(&self, merchant: &str, code: &str) -> Reply {
        self.send(Method::POST, &format!("/pad/{merchant}"), "", format!("do=pair&code={code}")).await
    }

    /// A pad's name, and the cookie of the tablet that is paired with it.
    async fn tablet(&self, merchant: &str) -> (String, String) {
        let (pad, code) = self.pad(merchant).await;
        let paired = self.type_code(merchant, &code).await;
        assert_eq!(paired.status, StatusCode::SEE_OTHER, "{}", paired.text);
        (pad, paired.cookie.split(';').next().unwrap().to_owned())
    }

    async fn order(&self, merchant: &str, number: &str) -> Value {
        let body = json!({
            "order_type": "Order", "order_number": number, "title": "Tea", "total_fee": 1234, "buyer": "me",
        });
        let made = self.till(merchant, Method::POST, "/rest/orders", body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        made.json["data"].clone()
    }

    async fn show(&self, merchant: &str, pad: &str, number: &str) -> Reply {
        let body = json!({ "order_type": "Order", "order_number": number });
        self.till(merchant, Method::PUT, &format!("/rest/pads/{pad}/order"), body).await
    }

    /// The only pad of the merchant, as its till sees it.
    async fn listed(&self, merchant: &str) -> Value {
        let list = self.till(merchant, Method::GET, "/rest/pads", Value::Null).await;
        assert_eq!(list.json["data"]["pads"].as_array().unwrap().len(), 1, "{}", list.text);
        list.json["data"]["pads"][0].clone()
    }
}

fn refused(reply: &Reply, status: u16, error: &str) {
    assert_eq!(
        (reply.status.as_u16(), reply.json["error"].as_str()),
        (status, Some(error)),
        "{}",
        reply.text
    );
}

const FORM: &str = "name=\"code\"";

#[tokio::test]
async fn a_code_pairs_one_tablet_of_its_merchant_once() {
    let shops = Shops::open().await;
    let (pad, code) = shops.pad("left").await;
    let order = shops.order("left", "1").await;
    assert_eq!(order["pad_url"], "http://127.0.0.1:1/pad/left");
    let waiting = shops.listed("left").await;
    assert_eq!((&waiting["pad"], &waiting["paired"]), (&json!(pad), &json!(false)));
    assert_eq!(waiting["pairing_expires_at"], "2027-01-15T16:10:00+08:00");

    for (merchant, typed) in [("right", code.as_str()), ("left", "0000-0000"), ("left", ""), ("left", &pad)] {
        let wrong = shops.type_code(merchant, typed).await;
        assert_eq!((wrong.status, wrong.cookie.as_str()), (StatusCode::NOT_FOUND, ""), "{merchant} {typed}");
        assert!(wrong.text.contains(FORM) && wrong.text.contains("配对码不正确"), "{}", wrong.text);
    }
    let typed = code.to_lowercase().replace('-', "+");
    let paired = shops.type_code("left", &typed).await;
    assert_eq!(paired.status, StatusCode::SEE_OTHER);
    assert!(
        paired.cookie.ends_with("; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"),
        "{}",
        paired.cookie
    );
    let again = shops.type_code("left", &code).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "a code works once");

    let cookie = paired.cookie.split(';').next().unwrap();
    let page = shops.send(Method::GET, "/pad/left", cookie, "").await;
    assert!(page.text.contains("等待收款") && !page.text.contains(FORM), "{}", page.text);
    // Another merchant's page, no cookie, and one that somebody made up: the form, and nothing else.
    for (path, who) in
        [("/pad/right", cookie), ("/pad/left", ""), ("/pad/left", "shouyin_pad=AAAAAAAAAAAAAAAAAAAAAA")]
    {
        let page = shops.send(Method::GET, path, who, "").await;
        assert_eq!((page.status, page.cookie.as_str()), (StatusCode::OK, ""), "{path} {who}");
        assert!(page.text.contains(FORM) && !page.text.contains("等待收款"), "{path} {who}");
        let status = shops.send(Method::GET, &format!("{path}/status"), who, "").await;
        assert_eq!(status.json["data"]["key"], "unpaired");
        refused(&shops.send(Method::GET, &format!("{path}/events"), who, "").await, 404, "pad_not_found");
    }
    let listed = shops.listed("left").await;
    assert_eq!((&listed["paired"], &listed["pairing_expires_at"]), (&json!(true), &Value::Null));
    assert_eq!(listed["last_seen"], "2027-01-15T16:00:00+08:00");
    assert_eq!(shops.send(Method::GET, "/pad/nobody", "", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_code_is_good_for_ten_minutes_and_guesses_come_to_an_end() {
    let shops = Shops::open().await;
    let (_, old) = shops.pad("left").await;
    shops.shop.clock.advance(600_000);
    assert_eq!(shops.type_code("left", &old).await.status, StatusCode::NOT_FOUND);
    let (_, code) = shops.pad("left").await;
    shops.listed("left").await; // the one that ran out is forgotten
    for _ in 0..9 {
        assert_eq!(shops.type_code("left", "0000-0000").await.status, StatusCode::NOT_FOUND);
    }
    let later = shops.type_code("left", &code).await;
    assert_eq!(later.status, StatusCode::TOO_MANY_REQUESTS, "a right one is not looked at either");
    assert!(later.text.contains(FORM) && later.text.contains("尝试次数过多"), "{}", later.text);
    shops.shop.clock.advance(30_000);
    assert_eq!(shops.type_code("left", &code).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn other_sites_cannot_use_the_forms() {
    let shops = Shops::open().await;
    let (pad, cookie) = shops.tablet("left").await;
    shops.order("left", "1").await;
    shops.show("left", &pad, "1").await;
    let request = Request::post("/pad/left").header("cookie", &cookie).header("sec-fetch-site", "cross-site");
    let answer = shops.app.clone().oneshot(request.body(Body::from("do=clear")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(shops.listed("left").await["order"]["order_number"], "1");
}

#[tokio::test]
async fn a_pad_shows_orders_of_its_merchant_that_can_be_paid() {
    let shops = Shops::open().await;
    let (pad, _) = shops.tablet("left").await;
    let token = shops.order("left", "1").await["token"].as_str().unwrap().to_owned();
    shops.order("left", "2").await;
    shops.order("right", "3").await;
    let close = shops.till("left", Method::POST, "/rest/orders/Order/2/close", Value::Null).await;
    assert_eq!(close.status, StatusCode::OK, "{}", close.text);

    let (order, one) = (format!("/rest/pads/{pad}/order"), format!("/rest/pads/{pad}"));
    refused(&shops.show("right", &pad, "3").await, 404, "pad_not_found");
    refused(&shops.show("right", &pad, "1").await, 404, "order_not_found");
    refused(&shops.till("right", Method::DELETE, &order, Value::Null).await, 404, "pad_not_found");
    refused(&shops.till("right", Method::DELETE, &one, Value::Null).await, 404, "pad_not_found");
    refused(&shops.show("left", &pad, "3").await, 404, "order_not_found");
    refused(&shops.show("left", "no-pad", "1").await, 404, "pad_not_found");
    refused(&shops.show("left", &"A".repeat(22), "1").await, 404, "pad_not_found");
    refused(&shops.show("left", &pad, "2").await, 409, "order_closed");
    refused(
        &shops.till("left", Method::PUT, &order, json!({ "order_number": "1" })).await,
        400,
        "missing_field",
    );
    refused(&shops.till("left", Method::POST, "/rest/pads", json!({ "x": 1 })).await, 400, "unknown_field");
    for who in ["", "wrong"] {
        let status = shops.send(Method::GET, "/rest/pads", who, "").await.status;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{who}");
    }
    refused(&shops.send(Method::PUT, &order, &token, "{}").await, 403, "foreign_capability");

    let shown = shops.show("left", &pad, "1").await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let wanted = json!({ "order_type": "Order", "order_number": "1", "state": "pending" });
    assert_eq!((&shown.json["data"]["order"], &shops.listed("left").await["order"]), (&wanted, &wanted));
    for _ in 0..2 {
        let cleared = shops.till("left", Method::DELETE, &order, Value::Null).await;
        assert_eq!((cleared.status, &cleared.json["data"]["order"]), (StatusCode::OK, &Value::Null));
    }
    assert_eq!(shops.listed("left").await["order"], Value::Null);
    assert_eq!(shops.till("left", Method::DELETE, &one, Value::Null).await.json["data"]["pad"], json!(pad));
    refused(&shops.till("left", Method::DELETE, &one, Value::Null).await, 404, "pad_not_found");
}

/// The next event of a stream; `None` at its end.
async fn event(body: &mut Body) -> Option<Value> {
    let frame = tokio::time::timeout(core::time::Duration::from_secs(5), body.frame()).await.unwrap()?;
    let text = String::from_utf8(frame.unwrap().into_data().unwrap().into()).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    Some(serde_json::from_str::<Value>(data).unwrap()["key"].clone())
}

#[tokio::test]
async fn the_stream_tells_of_each_change_at_once() {
    let shops = Shops::open().await;
    let (pad, cookie) = shops.tablet("left").await;
    shops.order("left", "1").await;
    let request = Request::get("/pad/left/events").header("cookie", &cookie).body(Body::empty()).unwrap();
    let mut body = shops.app.clone().oneshot(request).await.unwrap().into_body();
    assert_eq!(event(&mut body).await.unwrap(), "2-idle");
    shops.show("left", &pad, "1").await;
    assert_eq!(event(&mut body).await.unwrap(), "3-pending-1");
    shops.till("left", Method::POST, "/rest/orders/Order/1/close", Value::Null).await;
    assert_eq!(event(&mut body).await.unwrap(), "3-closed-2");
    shops.till("left", Method::DELETE, &format!("/rest/pads/{pad}/order"), Value::Null).await;
    assert_eq!(event(&mut body).await.unwrap(), "4-idle");
    shops.till("left", Method::DELETE, &format!("/rest/pads/{pad}"), Value::Null).await;
    assert_eq!(event(&mut body).await.unwrap(), "unpaired");
    assert_eq!(event(&mut body).await, None);
    let page = shops.send(Method::GET, "/pad/left", &cookie, "").await;
    assert!(page.text.contains(FORM));
}

#[tokio::test]
async fn staff_take_off_only_what_they_saw() {
    let shops = Shops::open().await;
    let (pad, cookie) = shops.tablet("left").await;
    for number in ["1", "2"] {
        shops.order("left", number).await;
        shops.show("left", &pad, number).await;
    }
    let clear = async |seen: &str| {
        let answer = shops.send(Method::POST, "/pad/left", &cookie, format!("do=clear&seen={seen}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        shops.listed("left").await["order"]["order_number"].clone()
    };
    assert_eq!(clear("3").await, "2", "the till has put another order on it since");
    assert_eq!(clear("4").await, Value::Null);
    let order = shops.till("left", Method::GET, "/rest/orders/Order/2", Value::Null).await;
    assert_eq!(order.json["data"]["state"], "pending", "the order itself stays");
    refused(&shops.send(Method::POST, "/pad/left", &cookie, "do=pay").await, 400, "not_allowed");
}

#[tokio::test]
async fn who_only_looks_writes_nothing_and_what_was_seen_is_written_down_later() {
    let shops = Shops::of(Shop::on_disk(Clock::frozen(NOW), &["left", "right"]).await);
    let (pad, cookie) = shops.tablet("left").await;
    // Another connection's view: its number changes with every transaction that writes.
    let other = rusqlite::Connection::open(shops.shop.database()).unwrap();
    let version = || other.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let paths = ["", "?part=screen", "?view=staff", "?view=receipt", "/status"];
    let look = async || {
        let before = version();
        let mut seen = String::new();
        for path in paths {
            let page = shops.send(Method::GET, &format!("/pad/left{path}"), &cookie, "").await;
            assert_eq!(page.status, StatusCode::OK, "{path}");
            seen.push_str(&page.text);
        }
        let request = Request::get("/pad/left/events").header("cookie", &cookie).body(Body::empty()).unwrap();
        event(&mut shops.app.clone().oneshot(request).await.unwrap().into_body()).await.unwrap();
        let listed = shops.listed("left").await;
        assert_eq!(version(), before, "somebody wrote");
        (seen, listed)
    };
    shops.shop.clock.advance(60_000);
    let (seen, listed) = look().await;
    assert!(seen.contains("等待收款"), "{seen}");
    assert_eq!(listed["last_seen"], "2027-01-15T16:01:00+08:00");

    // The end of an order is shown for eight seconds from when it was first seen, not from when it was.
    shops.order("left", "1").await;
    shops.show("left", &pad, "1").await;
    shops.till("left", Method::POST, "/rest/orders/Order/1/close", Value::Null).await;
    shops.shop.clock.advance(60_000);
    for (advance, shown) in [(0, true), (7_999, true), (1, false)] {
        shops.shop.clock.advance(advance);
        let (seen, listed) = look().await;
        assert_eq!(seen.contains("订单已关闭</h1>"), shown, "after {advance} ms: {seen}");
        assert_eq!(listed["order"].is_null(), !shown, "{listed}");
    }

    // Written down: the next process knows it, too. Once; and nothing is written when there is nothing new.
    for writes in [true, false] {
        let before = version();
        shops.shop.checkout.write_pads_down().await.unwrap();
        assert_eq!(version() != before, writes);
    }
    let path = shops.shop.database();
    drop(shops.app);
    let _folder = shops.shop.close();
    let store = SqliteStore::open(&path, "next").unwrap();
    let kept = store.pads(id("left")).await.unwrap().remove(0).pad;
    assert_eq!((kept.result_at, kept.seen_at), (Some(NOW.plus(120_000)), Some(NOW.plus(120_000))));
}

/// What stands on the tablet for who has not typed the PIN, and for who has.
const LOCKED: &str = "name=\"pin\"";
const OPEN: &str = "最近五笔";

fn pin(shops: &Shops, merchant: &str, pin: &str) {
    let line = |name: &str| if name == merchant { format!("pad_pin = \"{pin}\"") } else { String::new() };
    shops.shop.set(&["left", "right"].map(|name| (name, line(name))));
}

impl Shops {
    /// Staff do something at the tablet; the cookies with which they go on.
    async fn staff(&self, cookies: &str, form: &str) -> (Reply, String) {
        let reply = self.send(Method::POST, "/pad/left", cookies, form.to_owned()).await;
        let pad = cookies.split("; ").next().unwrap();
        let cookies = match reply.cookie.split(';').next().unwrap() {
            "" => cookies.to_owned(),
            own => format!("{pad}; {own}"),
        };
        (reply, cookies)
    }

    /// What staff see.
    async fn strip(&self, cookies: &str) -> String {
        self.send(Method::GET, "/pad/left?view=staff", cookies, "").await.text
    }
}

#[tokio::test]
async fn with_a_pin_staff_have_to_type_it_and_are_let_in_for_two_minutes_at_that_tablet() {
    let shops = Shops::open().await;
    pin(&shops, "left", "2580");
    let (pad, tablet) = shops.tablet("left").await;
    let (_, another) = shops.tablet("left").await;
    shops.order("left", "1").await;
    shops.show("left", &pad, "1").await;
    let shown = async || shops.show("left", &pad, "1").await.json["data"]["order"].clone();

    // Without it nothing happens, in whatever way it is asked; the customer's switch stays the customer's.
    for view in ["staff", "receipt", "staff&part=screen"] {
        let page = shops.send(Method::GET, &format!("/pad/left?view={view}"), &tablet, "").await.text;
        assert!(page.contains(LOCKED) && !page.contains(OPEN) && !page.contains("…1</td>"), "{page}");
    }
    for what in ["clear", "refresh", "unlock&pin=2581", "unlock&pin=", "unlock", "unlock&pin=02580"] {
        let (reply, cookies) = shops.staff(&tablet, &format!("do={what}")).await;
        assert_eq!((reply.status, &cookies), (StatusCode::FORBIDDEN, &tablet), "{what}");
        assert!(reply.text.contains(LOCKED) && reply.text.contains("12.34"), "{}", reply.text);
        assert_eq!(reply.text.contains("PIN 码不正确"), what.starts_with("unlock"), "{what}");
        assert!(!reply.text.contains("2580") && !reply.text.contains("2581"), "{}", reply.text);
    }
    let list = shops.till("left", Method::GET, "/rest/pads", Value::Null).await;
    assert_eq!(list.json["data"]["pads"][0]["order"]["order_number"], "1", "it was not taken off");
    assert_eq!(shops.staff(&tablet, "do=choose&channel=wx").await.0.status, StatusCode::SEE_OTHER);

    // With it, here and for two minutes.
    let (reply, open) = shops.staff(&tablet, "do=unlock&pin=2580").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
    assert!(reply.cookie.ends_with("; Path=/; Max-Age=120; HttpOnly; SameSite=Strict"), "{}", reply.cookie);
    assert!(!reply.cookie.contains("2580"));
    assert!(shops.strip(&open).await.contains(OPEN));
    let stolen = format!("{another}; {}", open.split("; ").nth(1).unwrap());
    assert!(shops.strip(&stolen).await.contains(LOCKED), "another tablet is another lock");
    shops.shop.clock.advance(119_999);
    assert!(shops.strip(&open).await.contains(OPEN));
    let (reply, _) = shops.staff(&open, "do=clear").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    let list = shops.till("left", Method::GET, "/rest/pads", Value::Null).await;
    assert_eq!(list.json["data"]["pads"][0]["order"], Value::Null);
    assert_eq!(shown().await["order_number"], "1");
    shops.shop.clock.advance(1);
    assert!(shops.strip(&open).await.contains(LOCKED));
    assert_eq!(shops.staff(&open, "do=clear").await.0.status, StatusCode::FORBIDDEN);

    // Until staff say that they are done, or the PIN is changed; without one nothing is asked.
    let (_, open) = shops.staff(&tablet, "do=unlock&pin=2580").await;
    let (reply, closed) = shops.staff(&open, "do=lock").await;
    assert!(reply.cookie.contains("shouyin_staff=; Path=/; Max-Age=0"), "{}", reply.cookie);
    assert!(shops.strip(&closed).await.contains(LOCKED));
    pin(&shops, "left", "25801");
    assert!(shops.strip(&open).await.contains(LOCKED));
    pin(&shops, "right", "2580");
    assert!(shops.strip(&tablet).await.contains(OPEN));
    assert_eq!(shops.staff(&tablet, "do=clear").await.0.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn five_wrong_pins_and_that_tablet_waits() {
    let shops = Shops::open().await;
    pin(&shops, "left", "2580");
    let (_, tablet) = shops.tablet("left").await;
    let (_, another) = shops.tablet("left").await;
    let typed =
        async |cookies: &str, pin: &str| shops.staff(cookies, &format!("do=unlock&pin={pin}")).await.0;
    // The right one in between: what was wrong before does not count any more.
    for _ in 0..4 {
        assert_eq!(typed(&tablet, "0000").await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(typed(&tablet, "2580").await.status, StatusCode::SEE_OTHER);
    for _ in 0..5 {
        assert_eq!(typed(&tablet, "0000").await.status, StatusCode::FORBIDDEN);
    }
    let later = typed(&tablet, "2580").await;
    assert_eq!(later.status, StatusCode::TOO_MANY_REQUESTS, "a right one is not looked at either");
    assert!(later.text.contains(LOCKED) && later.text.contains("尝试次数过多"), "{}", later.text);
    assert_eq!(typed(&another, "2580").await.status, StatusCode::SEE_OTHER, "other tablets go on");
    shops.shop.clock.advance(60_000);
    assert_eq!(typed(&tablet, "0000").await.status, StatusCode::FORBIDDEN, "one more each minute");
    assert_eq!(typed(&tablet, "2580").await.status, StatusCode::TOO_MANY_REQUESTS);
    shops.shop.clock.advance(60_000);
    assert_eq!(typed(&tablet, "2580").await.status, StatusCode::SEE_OTHER);
}

/// The page of the demo's only merchant, as its tablet sees it.
async fn screen(world: &World, cookie: &str, path: &str) -> String {
    let request = Request::get(world.service(path)).header("cookie", cookie);
    world.send_request(request.body(Bytes::new()).unwrap()).await.text
}

#[tokio::test]
async fn an_order_stays_on_its_pad_through_a_crash_until_its_end_was_shown() {
    let mut world = World::start();
    let made = world.mall(Method::POST, "/rest/pads", Value::Null).await.json["data"].clone();
    let request = Request::post(world.service("/pad/demo"));
    let typed = format!("do=pair&code={}", made["pairing_code"].as_str().unwrap());
    let cookie = world.cookie_of(request.body(typed.into()).unwrap()).await;
    let cookie = cookie.split(';').next().unwrap();
    world.order("123456").await;
    let path = format!("/rest/pads/{}/order", made["pad"].as_str().unwrap());
    let body = json!({ "order_type": "Order", "order_number": "123456" });
    assert_eq!(world.mall(Method::PUT, &path, body).await.status, StatusCode::OK);

    world.kill_and_restart();
    let page = screen(&world, cookie, "/pad/demo").await;
    for shown in ["class=\"qr\"", "1.00", "…3456", "请使用微信扫一扫付款"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    // No capability, no link into an app, nothing of the order that is not for shoppers.
    for hidden in ["/pay/", "weixin:", "alipay.com", "茶", "123456"] {
        assert!(!page.contains(hidden), "{hidden}: {page}");
    }
    let code = world.code("wx", "123456").await;
    world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
    world.until("123456", |order| order["state"] == "paid").await;
    let shown = async |text: &str| screen(&world, cookie, "/pad/demo?part=screen").await.contains(text);
    assert!(shown("支付成功").await);
    world.emulator(Method::POST, "/clock", json!({ "advance_ms": 3_000 })).await;
    assert!(shown("等待收款").await);
    let listed = world.mall(Method::GET, "/rest/pads", Value::Null).await;
    assert_eq!(listed.json["data"]["pads"][0]["order"], Value::Null);
    // For staff it is still there, to be printed.
    let staff = screen(&world, cookie, "/pad/demo?view=staff").await;
    for shown in ["…3456", "收款凭证", "<dd>123456</dd>", "<dd>¥ 1.00</dd>"] {
        assert!(staff.contains(shown), "{shown}: {staff}");
    }
}
