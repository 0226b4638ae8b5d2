//! What happens to orders when gateways, shoppers and networks misbehave: through the real binary, with
//! the emulator's ledger as the truth. Never waits for a fixed time.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

fn trades_of<'a>(ledger: &'a Value, number: &str) -> Vec<&'a Value> {
    let trades = ledger["trades"].as_array().unwrap();
    trades.iter().filter(|t| t["out_trade_no"].as_str().unwrap().starts_with(number)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_pushes_place_one_attempt() {
    let world = World::start();
    world.order("PUSH0001").await;
    for (channel, scene) in [("wx", "NATIVE"), ("ali", "QRCODE"), ("ali", "APP")] {
        let pushes = (0..20).map(|_| world.push(channel, "PUSH0001", scene));
        let replies = futures_util::future::join_all(pushes).await;
        let mut codes: Vec<String> = replies
            .iter()
            .map(|reply| {
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                let data = &reply.json["data"];
                let code = [&data["codeUrl"], &data["qr_code"], &data["order_string"]];
                code.into_iter().find_map(Value::as_str).unwrap().to_owned()
            })
            .collect();
        codes.dedup();
        assert_eq!(codes.len(), 1, "{channel} {scene}: one code for all");
    }
    let order = world.read("PUSH0001").await;
    assert_eq!(order["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(order["version"], 1, "attempts do not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_again_with_the_same_request() {
    let world = World::start();
    for (channel, call) in [("wx", "wx.unifiedorder"), ("ali", "alipay.trade.precreate")] {
        let number = format!("LOST-{channel}-1");
        world.order(&number).await;
        for kind in ["cut_after", "systemerror", "5xx", "cut_before"] {
            world.faults(json!([{ "on": call, "kind": kind, "count": 1 }])).await;
            let scene = if channel == "wx" { "NATIVE" } else { "QRCODE" };
            let reply = world.push(channel, &number, scene).await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{kind}: {}", reply.text);
            assert_eq!(reply.json["error"], "gateway_unavailable");
        }
        let code = world.code(channel, &number).await;
        let order = world.read(&number).await;
        assert_eq!(order["attempts"].as_array().unwrap().len(), 1, "the same attempt all the time: {order}");
        world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
        world.until(&number, |order| order["state"] == "paid").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_never_comes_is_made_up_for_by_the_query() {
    let world = World::start();
    world.faults(json!([{ "on": "notify", "kind": "drop" }])).await;
    for channel in ["wx", "ali"] {
        let number = format!("QUERY-{channel}");
        world.order(&number).await;
        let code = world.code(channel, &number).await;
        world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
        assert_eq!(world.read(&number).await["state"], "pending");
        // The first query is due 30 s after the push.
        world.emulator(Method::POST, "/clock", json!({ "advance_ms": 31_000 })).await;
        let order = world.until(&number, |order| order["state"] == "paid").await;
        assert_eq!(order["payments"][0]["channel"], channel);
        assert_eq!(order["paid_fee"], 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_that_must_not_be_believed() {
    let world = World::start();
    for channel in ["wx", "ali"] {
        for kind in ["forged", "unsigned", "other_merchant", "truncated"] {
            let number = format!("BAD-{channel}-{kind}");
            world.order(&number).await;
            let code = world.code(channel, &number).await;
            world.faults(json!([{ "on": "notify", "kind": kind, "count": 1 }])).await;
            world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
            let refused = |notice: &Value| {
                notice["attempts"].as_array().unwrap().first().is_some_and(|a| a["accepted"] == false)
            };
            until_notice(&world, &number, refused).await;
            let order = world.read(&number).await;
            assert_eq!((&order["state"], &order["version"]), (&json!("pending"), &json!(1)), "{number}");
            // It comes again, this time as it was: 15 s at WeChat, 4 min at Alipay.
            world.emulator(Method::POST, "/clock", json!({ "advance_ms": 241_000 })).await;
            world.until(&number, |order| order["state"] == "paid").await;
        }
    }
}

async fn until_notice(world: &World, number: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let number = number.replace('-', "_");
    for _ in 0..200 {
        let ledger = world.emulator(Method::GET, "/ledger", Value::Null).await;
        let notices = ledger["notices"].as_array().unwrap();
        let own = notices.iter().find(|notice| {
            notice["out_trade_no"].as_str().unwrap().replace('-', "_").starts_with(&number) && wanted(notice)
        });
        if let Some(own) = own {
            return own.clone();
        }
        tokio::time::sleep(core::time::Duration::from_millis(50)).await;
    }
    panic!("no such notice of {number}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_amount_is_recorded_and_never_paid() {
    let world = World::start();
    for channel in ["wx", "ali"] {
        let number = format!("AMOUNT-{channel}");
        let page = world.order(&number).await["checkout_url"].as_str().unwrap().to_owned() + "/status";
        let code = world.code(channel, &number).await;
        world.faults(json!([{ "on": "notify", "kind": "wrong_amount", "count": 1, "value": 1 }])).await;
        world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
        let order = world.until(&number, |o| o["anomalies"].as_array().is_some_and(|a| !a.is_empty())).await;
        assert_eq!((&order["state"], &order["paid_fee"]), (&json!("pending"), &json!(0)));
        assert_eq!(
            (&order["anomalies"][0]["kind"], &order["anomalies"][0]["fee"]),
            (&json!("mismatch"), &json!(1))
        );
        let taken = |notice: &Value| notice["attempts"][0]["accepted"] == true;
        until_notice(&world, &number, taken).await;
        assert!(world.events().await.contains(&("payment.mismatch".to_owned(), number.clone())));
        let shown = world.send(Method::GET, &page, "", "").await;
        assert_eq!(shown.json["data"]["state"], "amount_mismatch");
        // The query tells the right amount of the same money: paid, and no second payment is claimed.
        world.emulator(Method::POST, "/clock", json!({ "advance_ms": 31_000 })).await;
        world.until(&number, |order| order["state"] == "paid").await;
        let shown = world.send(Method::GET, &page, "", "").await;
        assert_eq!(shown.json["data"]["state"], "paid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_channels_one_order_and_money_after_the_close() {
    let world = World::start();
    world.order("TWICE001").await;
    let (wx, ali) = (world.code("wx", "TWICE001").await, world.code("ali", "TWICE001").await);
    // The shopper has scanned both before either is paid.
    world.emulator(Method::POST, "/scan", json!({ "code": ali })).await;
    world.faults(json!([{ "on": "alipay.trade.close", "kind": "5xx" }])).await;
    world.emulator(Method::POST, "/pay", json!({ "code": wx })).await;
    world.until("TWICE001", |order| order["state"] == "paid").await;
    world.emulator(Method::POST, "/pay", json!({ "code": ali })).await;
    let order = world.until("TWICE001", |o| !o["anomalies"].as_array().unwrap().is_empty()).await;
    assert_eq!(order["anomalies"][0]["kind"], "duplicate");
    assert_eq!(order["paid_fee"], 100, "a duplicate counts in neither sum");
    assert_eq!(order["payments"].as_array().unwrap().len(), 1);
    world.faults(json!([])).await;

    world.order("LATE0001").await;
    let ali = world.code("ali", "LATE0001").await;
    let closed = world.mall(Method::POST, "/rest/orders/Order/LATE0001/close", Value::Null).await;
    assert_eq!(closed.status, StatusCode::OK, "{}", closed.text);
    world.until("LATE0001", |order| order["state"] == "closed").await;
    // An Alipay code that nobody had scanned cannot be closed there; money through it is late, not silent.
    world.emulator(Method::POST, "/pay", json!({ "code": ali })).await;
    let order = world.until("LATE0001", |o| !o["anomalies"].as_array().unwrap().is_empty()).await;
    assert_eq!((&order["state"], &order["anomalies"][0]["kind"]), (&json!("closed"), &json!("late")));
    let push = world.push("wx", "LATE0001", "NATIVE").await;
    assert_eq!((push.status, &push.json["error"]), (StatusCode::CONFLICT, &json!("order_closed")));
    let told = world.events().await;
    for (kind, number) in [
        ("order.paid", "TWICE001"),
        ("payment.duplicate", "TWICE001"),
        ("order.closed", "LATE0001"),
        ("payment.late", "LATE0001"),
    ] {
        assert_eq!(told.iter().filter(|(k, n)| k == kind && n == number).count(), 1, "{kind} {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_ends_on_time_and_its_code_at_the_gateway_too() {
    let world = World::start();
    let body = json!({
        "order_type": "Order", "order_number": "ENDS0001", "title": "t", "total_fee": 100, "expires_in": 60,
    });
    world.mall(Method::POST, "/rest/orders", body).await;
    let code = world.code("wx", "ENDS0001").await;
    world.emulator(Method::POST, "/clock", json!({ "advance_ms": 61_000 })).await;
    world.until("ENDS0001", |order| order["state"] == "closed").await;
    let pay = world.send(Method::POST, &world.control("/pay"), "", json!({ "code": code }).to_string()).await;
    assert_eq!(pay.status, StatusCode::CONFLICT, "closed at the gateway: {}", pay.text);
    let ledger = world.emulator(Method::GET, "/ledger", Value::Null).await;
    assert_eq!(trades_of(&ledger, "ENDS0001")[0]["state"], "CLOSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_notice_and_webhook_loses_nothing() {
    let mut world = World::start();
    world.order("KILL0001").await;
    let code = world.code("wx", "KILL0001").await;
    world.emulator(Method::POST, "/pay", json!({ "code": code, "copies": 64 })).await;
    world.until("KILL0001", |order| order["state"] == "paid").await;
    world.kill_and_restart();
    let order = world.read("KILL0001").await;
    assert_eq!((&order["state"], &order["version"]), (&json!("paid"), &json!(2)));
    let told = world.events().await;
    assert_eq!(told, [("order.paid".to_owned(), "KILL0001".to_owned())]);
}
