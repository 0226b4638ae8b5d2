//! What somebody who means no good, or a bad moment, does to the payment core: through the real binary.
//! Never reaches into the process.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// Every refusal is an envelope in the asker's language that names the field.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_field_in_the_askers_language() {
    let world = World::start();
    let key = world.credentials["merchant"]["api_key"].as_str().unwrap().to_owned();
    let order = |field: &str, value: Value| {
        let mut body = json!({
            "order_type": "Order", "order_number": "A1", "title": "t", "total_fee": 100,
        });
        body[field] = value;
        (Method::POST, "/rest/orders".to_owned(), body, field.to_owned())
    };
    let mut cases = vec![
        order("order_type", json!("order")),
        order("title", json!("a\u{1b}b")),
        order("total_fee", json!(0)),
        order("expires_in", json!(59)),
        order("locale", json!("fr")),
        order("attach", json!("x".repeat(128))),
    ];
    // The parser of addresses drops line ends and white space at the ends without a word.
    for url in ["/x", "http://mall.example/\nx", " http://mall.example/", "http://mall.example/a\tb"] {
        cases.push(order("return_url", json!(url)));
    }
    let push = json!({ "order_type": "Orders", "order_number": "12346", "type": "NATIVE" });
    cases.push((Method::POST, "/rest/wx/push_order".to_owned(), push, "order_type".to_owned()));
    for (method, path, body, field) in cases {
        for language in ["zh-CN", "en"] {
            let request = Request::builder()
                .method(method.clone())
                .uri(world.service(&path))
                .header("authorization", &key)
                .header("accept-language", language)
                .body(Bytes::from(body.to_string()))
                .unwrap();
            let reply = world.send_request(request).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {}", reply.text);
            let message = reply.json["message"].as_str().unwrap();
            assert!(message.contains(&field), "{message}");
            let foreign = message.replace(&field, "");
            let chinese = !foreign.contains(" be ") && !foreign.contains(" of ") && !foreign.is_ascii();
            assert_eq!(chinese, language == "zh-CN", "{message}");
        }
    }
    for path in ["/rest/orders/Order/%ff", "/rest/orders/%ff/1", "/app/payment/wpay/%ff"] {
        let reply = world.mall(Method::GET, path, Value::Null).await;
        assert_eq!((reply.status, &reply.json["error"]), (StatusCode::NOT_FOUND, &json!("unknown_route")));
    }
    let orders = world.mall(Method::GET, "/rest/orders", Value::Null).await;
    assert!(!orders.text.contains("\"A1\""), "nothing was created: {}", orders.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_one_order_and_nothing_that_is_the_malls() {
    let world = World::start();
    let own = world.order("TOKEN001").await;
    world.order("TOKEN002").await;
    let token = own["token"].as_str().unwrap();
    let page = own["checkout_url"].as_str().unwrap().rsplit('/').next().unwrap();
    for (method, path) in [
        (Method::GET, "/rest/orders/Order/TOKEN002"),
        (Method::POST, "/rest/orders"),
        (Method::GET, "/rest/orders"),
        (Method::GET, "/rest/events"),
        (Method::POST, "/rest/orders/Order/TOKEN001/close"),
    ] {
        for (capability, status) in [(token, StatusCode::FORBIDDEN), (page, StatusCode::UNAUTHORIZED)] {
            let reply = world.send(method.clone(), &world.service(path), capability, "{}").await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        }
    }
    assert_eq!(world.read("TOKEN001").await["state"], "pending");
}

/// A gateway's code is good for two hours. What is handed out is good for five minutes more, and the one
/// before it cannot be paid any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_five_minutes_before_its_gateway_would_end_it() {
    let world = World::start();
    for (channel, number) in [("wx", "RENEW001"), ("ali", "RENEW002")] {
        let body = json!({
            "order_type": "Order", "order_number": number, "title": "t", "total_fee": 100,
            "expires_in": 604_800,
        });
        world.mall(Method::POST, "/rest/orders", body).await;
        let first = world.code(channel, number).await;
        world.emulator(Method::POST, "/clock", json!({ "advance_ms": (115 * 60 - 20) * 1_000 })).await;
        assert_eq!(world.code(channel, number).await, first, "{channel}: still good");
        world.emulator(Method::POST, "/clock", json!({ "advance_ms": 20_000 })).await;
        assert_ne!(world.code(channel, number).await, first, "{channel}: renewed");
        world.until(number, |order| order["attempts"][0]["state"] == "closed").await;
        let order = world.read(number).await;
        assert_eq!(order["attempts"].as_array().unwrap().len(), 2, "{order}");
    }
}

/// However often it is asked, an order about to end has one code.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_in_the_last_seconds_of_an_order_share_one_code() {
    let world = World::start();
    let body = json!({
        "order_type": "Order", "order_number": "LAST0001", "title": "t", "total_fee": 100,
        "expires_in": 604_800,
    });
    world.mall(Method::POST, "/rest/orders", body).await;
    world.emulator(Method::POST, "/clock", json!({ "advance_ms": 604_793_000 })).await;
    let code = world.code("wx", "LAST0001").await;
    assert_eq!(world.code("wx", "LAST0001").await, code);
    let order = world.read("LAST0001").await;
    assert_eq!(order["attempts"].as_array().unwrap().len(), 1, "{order}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_the_owners() {
    let world = World::start();
    world.order("MODE0001").await;
    let mut seen = 0;
    for file in std::fs::read_dir(world.data()).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_str().unwrap().starts_with("shouyin.db") {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.file_name());
            seen += 1;
        }
    }
    assert!(seen >= 2, "the database and its log");
}
