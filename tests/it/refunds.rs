//! Refunds as a mall asks for them: through the real binary. What the gateways make of them is judged in
//! end2end. Never looks inside the process.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Reply, World};

async fn ask(world: &World, number: &str, body: Value) -> Reply {
    world.mall(Method::POST, &format!("/rest/orders/Order/{number}/refunds"), body).await
}

async fn paid(world: &World, channel: &str, number: &str) -> Value {
    world.order(number).await;
    let code = world.code(channel, number).await;
    world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
    world.until(number, |order| order["state"] == "paid").await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_is_one_refund_however_often_it_is_asked_for() {
    let world = World::start();
    for channel in ["wx", "ali"] {
        let number = format!("BACK-{channel}-1");
        let order = paid(&world, channel, &number).await;
        let body = json!({ "refund_number": "R-1", "amount": 40, "reason": "缺货" });
        let first = ask(&world, &number, body.clone()).await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
        let data = &first.json["data"];
        for (field, wanted) in [
            ("refund_number", json!("R-1")),
            ("amount", json!(40)),
            ("reason", json!("缺货")),
            ("channel", json!(channel)),
            ("transaction_id", order["payments"][0]["transaction_id"].clone()),
        ] {
            assert_eq!(data[field], wanted, "{field}: {data}");
        }
        let asked = (0..8).map(|_| ask(&world, &number, body.clone()));
        for again in futures_util::future::join_all(asked).await {
            assert_eq!(again.status, StatusCode::OK, "{}", again.text);
            assert_eq!(again.json["data"]["out_refund_no"], data["out_refund_no"]);
        }
        let path = format!("/rest/orders/Order/{number}/refunds/R-1");
        let read = world.mall(Method::GET, &path, Value::Null).await;
        assert_eq!(read.json["data"]["out_refund_no"], data["out_refund_no"], "{}", read.text);
        let order = world.read(&number).await;
        assert_eq!(order["refunds"].as_array().unwrap().len(), 1, "{order}");
        assert_eq!((&order["refunds"][0]["amount"], &order["state"]), (&json!(40), &json!("paid")));
        for (body, error) in [
            (json!({ "refund_number": "R-1", "amount": 41 }), "refund_different"),
            (json!({ "refund_number": "R-1", "amount": 40, "reason": "坏了" }), "refund_different"),
            (json!({ "refund_number": "R-2", "amount": 61 }), "refund_too_much"),
        ] {
            let refused = ask(&world, &number, body).await;
            assert_eq!((refused.status, &refused.json["error"]), (StatusCode::CONFLICT, &json!(error)));
        }
        let rest = ask(&world, &number, json!({ "refund_number": "R-2", "amount": 60 })).await;
        assert_eq!(rest.status, StatusCode::CREATED, "{}", rest.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_refunds() {
    let world = World::start();
    let order = paid(&world, "wx", "NOBACK01").await;
    let open = world.order("NOBACK02").await;
    let body = |field: &str, value: Value| {
        let mut body = json!({ "refund_number": "R-1", "amount": 1 });
        body[field] = value;
        body
    };
    for (body, error, field) in [
        (body("refund_number", json!("")), "invalid_value", "refund_number"),
        (body("refund_number", json!("a b")), "invalid_value", "refund_number"),
        (body("refund_number", json!("x".repeat(65))), "invalid_value", "refund_number"),
        (body("amount", json!(0)), "out_of_range", "amount"),
        (body("amount", json!(1.5)), "wrong_type", "amount"),
        (body("reason", json!("字".repeat(27))), "invalid_value", "reason"),
        (body("reason", json!("a\u{7}")), "invalid_value", "reason"),
        (body("transaction_id", json!("")), "invalid_value", "transaction_id"),
        (body("total", json!(1)), "unknown_field", "total"),
        (json!({ "amount": 1 }), "missing_field", "refund_number"),
    ] {
        let refused = ask(&world, "NOBACK01", body).await;
        assert_eq!((refused.status, &refused.json["error"]), (StatusCode::BAD_REQUEST, &json!(error)));
        assert!(refused.json["message"].as_str().unwrap().contains(field), "{}", refused.text);
    }
    for (number, body, status, error) in [
        ("NOBACK02", body("amount", json!(1)), StatusCode::CONFLICT, "order_not_paid"),
        ("NOBACK03", body("amount", json!(1)), StatusCode::NOT_FOUND, "order_not_found"),
        ("NOBACK01", body("transaction_id", json!("nobody")), StatusCode::NOT_FOUND, "payment_not_found"),
    ] {
        let refused = ask(&world, number, body).await;
        assert_eq!((refused.status, &refused.json["error"]), (status, &json!(error)), "{}", refused.text);
    }
    let path = world.service("/rest/orders/Order/NOBACK02/refunds");
    let token = open["token"].as_str().unwrap();
    let refused = world.send(Method::POST, &path, token, "{}").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "a token gives nothing back: {}", refused.text);
    let unknown = world.mall(Method::GET, "/rest/orders/Order/NOBACK01/refunds/R-1", Value::Null).await;
    assert_eq!((unknown.status, &unknown.json["error"]), (StatusCode::NOT_FOUND, &json!("refund_not_found")));
    assert_eq!(world.read("NOBACK01").await, order, "nothing changed");
}
