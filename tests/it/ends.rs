//! An order's time runs out: what its page says before and after, over HTTP. Asks no gateway.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shouyin::domain::id::UnixMillis;
use shouyin::runtime::clock::Clock;
use shouyin::server::limits::Limits;
use shouyin::server::router::{self, App};
use tower::ServiceExt as _;

use crate::malls::{Shop, api_key};

async fn text(shop: &Shop, request: Request<Body>) -> (StatusCode, String) {
    let app = router::service(App { checkout: shop.checkout.clone(), limits: Limits::none().into() });
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.into()).unwrap())
}

/// An order of this long, as the mall gets it back.
async fn order(shop: &Shop, number: &str, seconds: u32) -> Value {
    let body = json!({
        "order_type": "Order", "order_number": number, "title": "Tea", "total_fee": 1234,
        "expires_in": seconds, "return_url": "https://mall.example/back",
    });
    let request = Request::post("/rest/orders").header("authorization", api_key("left"));
    let (status, made) = text(shop, request.body(body.to_string().into()).unwrap()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    serde_json::from_str::<Value>(&made).unwrap()["data"].clone()
}

/// Its page, as somebody sees it who places no attempt.
async fn page(shop: &Shop, order: &Value, query: &str) -> String {
    let url = order["checkout_url"].as_str().unwrap().strip_prefix("http://127.0.0.1:1").unwrap();
    let request = Request::get(format!("{url}{query}")).header("user-agent", "a preview bot");
    text(shop, request.body(Body::empty()).unwrap()).await.1
}

#[tokio::test]
async fn the_page_warns_and_says_how_to_begin_again() {
    let shop = Shop::in_memory(Clock::frozen(UnixMillis(1_800_000_000_000)), &["left"]).await;
    let made = order(&shop, "1", 600).await;
    let words = [
        ("", "剩余支付时间", "超时后可返回商家重新下单", "没有发生扣款。请返回商家重新下单", "返回商家"),
        (
            "?lang=en",
            "Time left",
            "after that you can order again",
            "no money was taken. Please order again at the merchant",
            "Back to the merchant",
        ),
    ];
    for (lang, left, _, over, _) in words {
        let early = page(&shop, &made, lang).await;
        assert!(early.contains("data-state=\"pending\"") && early.contains(left), "{early}");
        assert!(!early.contains(over), "{early}");
    }
    shop.clock.advance(545_000);
    for (lang, left, warns, over, _) in words {
        let late = page(&shop, &made, lang).await;
        assert!(late.contains("data-state=\"expiring\""), "{late}");
        assert!(late.contains(left) && late.contains(warns), "{late}");
        assert!(!late.contains(over), "{late}");
    }
    // The moment it is over, and after it is closed: never a longer time.
    shop.clock.advance(55_000);
    shop.work().await;
    for (lang, _, _, over, back) in words {
        let page = page(&shop, &made, lang).await;
        assert!(page.contains("data-state=\"expired\"") && page.contains(over), "{page}");
        let to = "https://mall.example/back?order_type=Order&amp;order_number=1";
        let exits: Vec<_> =
            page.split("<a ").filter(|link| link.contains(&format!("href=\"{to}\""))).collect();
        assert_eq!(exits.len(), 1, "one way to begin again: {page}");
        assert!(exits[0].contains(&format!(">{back}</a>")), "{}", exits[0]);
    }
}
