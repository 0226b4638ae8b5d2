//! Merchants with host names of their own: what the mall is told to open, and that it opens there. Over HTTP;
//! asks no gateway.

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shouyin::domain::id::UnixMillis;
use shouyin::runtime::clock::Clock;
use shouyin::server::limits::Limits;
use shouyin::server::router::{self, App};
use tower::ServiceExt as _;

use crate::malls::{Shop, api_key};

async fn send(shop: &Shop, request: http::request::Builder, body: String) -> http::Response<Body> {
    let app = router::service(App { checkout: shop.checkout.clone(), limits: Limits::none().into() });
    app.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
}

async fn order(shop: &Shop, merchant: &str) -> Value {
    let body = json!({ "order_type": "Wallet", "order_number": "1", "title": "Tea", "total_fee": 1234 });
    let request = Request::post("/rest/orders").header("authorization", api_key(merchant));
    let made = send(shop, request, body.to_string()).await;
    let bytes = made.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&bytes).unwrap()["data"].clone()
}

#[tokio::test]
async fn wpay_url_is_under_the_merchants_own_host_and_leads_to_its_order() {
    let shop =
        Shop::in_memory(Clock::frozen(UnixMillis(1_800_000_000_000)), &["left", "right", "base"]).await;
    let hosts = |words: &str| format!("hosts = [{words}]");
    shop.set(&[
        ("left", hosts("\"pay.left.example:8443\", \"old.left.example\"")),
        ("right", String::new()),
        ("base", hosts("\"pay.base.example\", \"127.0.0.1\"")),
    ]);
    let path = "/app/payment/wpay/1?order_type=Wallet";
    // Scheme and port are the service's; a merchant that also has the service's own host stays there.
    for (merchant, origin) in [
        ("left", "http://pay.left.example:1"),
        ("right", "http://127.0.0.1:1"),
        ("base", "http://127.0.0.1:1"),
    ] {
        let made = order(&shop, merchant).await;
        assert_eq!(made["wpay_url"], format!("{origin}{path}"), "{merchant}");
        assert!(made["checkout_url"].as_str().unwrap().starts_with("http://127.0.0.1:1/pay/"), "{made}");
        let host = origin.split_once("://").unwrap().1;
        let opened = send(&shop, Request::get(path).header("host", host), String::new()).await;
        let location = opened.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        if merchant == "right" {
            // It has no host: its number alone says nothing, and 127.0.0.1 is another's.
            assert_ne!(location.as_deref(), made["checkout_url"].as_str());
        } else {
            assert_eq!(opened.status(), StatusCode::FOUND);
            assert_eq!(location.as_deref(), made["checkout_url"].as_str(), "{merchant}");
        }
    }
}
