//! How often gateways are asked: once for a thousand tabs, sooner for who watches, and not at all for a
//! while where they say that it is too often. The emulator's log is the truth.

use core::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use shouyin::runtime::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

/// How often the gateway was asked about the order.
async fn asked(world: &World, number: &str) -> usize {
    let log = world.emulator(Method::GET, "/log", Value::Null).await;
    let calls = log["calls"].as_array().unwrap();
    let about = |call: &&Value| {
        call["call"] == "wx.orderquery" && call["out_trade_no"].as_str().is_some_and(|no| no == number)
    };
    calls.iter().filter(about).count()
}

/// Waits until the gateway was asked so often at least.
async fn until_asked(world: &World, number: &str, times: usize) {
    for _ in 0..400 {
        if asked(world, number).await >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{number} was not asked about {times} times");
}

async fn advance(world: &World, ms: i64) {
    world.emulator(Method::POST, "/clock", json!({ "advance_ms": ms })).await;
}

/// A page that holds the stream of events open.
async fn tab(world: &World, page: &str) -> TcpStream {
    let host = world.service("").replace("http://", "");
    let path = page.strip_prefix(&world.service("")).unwrap();
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let request = format!("GET {path}/events HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tabs_cost_the_gateway_what_one_does() {
    let world = World::start();
    world.faults(json!([{ "on": "notify", "kind": "drop" }])).await;
    let began = Clock::real();
    let mut pages = Vec::new();
    let mut codes = Vec::new();
    for number in ["WATCHED1", "WATCHED2", "UNWATCHED"] {
        pages.push(world.order(number).await["checkout_url"].as_str().unwrap().to_owned());
        codes.push(world.code("wx", number).await);
    }
    let opened = (0..1_000).map(|_| tab(&world, &pages[0]));
    let tabs = futures_util::future::join_all(opened).await;
    // The other one is polled.
    let status = format!("{}/status", pages[1]);
    for round in 1..=5 {
        assert_eq!(world.send(Method::GET, &status, "", "").await.status, StatusCode::OK);
        advance(&world, 5_000).await;
        until_asked(&world, "WATCHED1", round).await;
        until_asked(&world, "WATCHED2", round).await;
    }
    let mut times = Vec::new();
    for number in ["WATCHED1", "WATCHED2", "UNWATCHED"] {
        times.push(asked(&world, number).await);
    }
    // Time also went by for real. From 30 s on the order's own task asks beside the page.
    let seconds = usize::try_from(25 + Clock::real().since(began) / 1_000).unwrap();
    println!(
        "{seconds} s of 1,000 open tabs: {} queries; of a poller: {}; of nobody: {}",
        times[0], times[1], times[2]
    );
    let own = if seconds < 30 { 0 } else { seconds / 15 };
    assert!(times[0] <= seconds / 5 + own && times[1] <= seconds / 5 + own, "{times:?}");
    assert!(times[2] <= own, "{times:?}");
    // Paid without any notice: the page knows with the next question.
    for code in &codes {
        world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
    }
    advance(&world, 5_000).await;
    world.until("WATCHED1", |order| order["state"] == "paid").await;
    world.until("UNWATCHED", |order| order["state"] == "paid").await;
    assert_eq!(tabs.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_too_often_nobody_asks_for_a_while_and_shoppers_push_on() {
    let world = World::start();
    let page = world.order("OFTEN001").await["checkout_url"].as_str().unwrap().to_owned();
    let code = world.code("wx", "OFTEN001").await;
    let tab = tab(&world, &page).await;
    world
        .faults(json!([
            { "on": "notify", "kind": "drop" },
            { "on": "wx.orderquery", "kind": "429" },
        ]))
        .await;
    world.emulator(Method::POST, "/pay", json!({ "code": code })).await;
    for _ in 0..20 {
        advance(&world, 3_000).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let during = asked(&world, "OFTEN001").await;
    // Each five seconds would be twelve times.
    assert!((1..=8).contains(&during), "{during}");
    world.order("OFTEN002").await;
    world.code("wx", "OFTEN002").await;
    world.faults(json!([])).await;
    advance(&world, 61_000).await;
    world.until("OFTEN001", |order| order["state"] == "paid").await;
    println!("60 s of \"too often\": {during} queries of a watched order, a shopper's push went through");
    drop(tab);
}
