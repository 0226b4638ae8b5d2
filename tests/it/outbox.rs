//! The outbox: what malls are told, when, how often, and what becomes of it when they are dead, slow or
//! rude. Time is virtual except where malls wait for each other.

use core::time::Duration;

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use shouyin::domain::id::UnixMillis;
use shouyin::runtime::clock::Clock;
use shouyin::runtime::transport::{Timeouts, Transport};
use shouyin::server::limits::Limits;
use shouyin::server::store::{Sent, TaskOutcome, Then};
use shouyin::server::{service, worker};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::malls::{Answer, Shop, api_key, id};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOUR: i64 = 3_600_000;
/// The waits of the schedule in seconds; daily from then on.
const WAITS_S: [i64; 13] =
    [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400, 86_400];

async fn frozen(merchants: &[&str]) -> Shop {
    Shop::in_memory(Clock::frozen(NOW), merchants).await
}

#[tokio::test]
async fn a_webhook_keeps_its_schedule_and_is_never_dropped() {
    let shop = frozen(&["mall"]).await;
    shop.answers("mall", Answer::Say(500, None, "x".repeat(2_000)));
    shop.happen("mall", "123456").await;
    assert_eq!(shop.work().await, 1, "at once");
    let mut waits = Vec::new();
    for (tries, wait_s) in WAITS_S.iter().enumerate().map(|(n, wait)| (u32::try_from(n + 1).unwrap(), wait)) {
        let event = &shop.events("mall").await[0];
        assert_eq!((event.delivery.tries, event.delivery.last_status), (tries, Some(500)));
        let wait = event.delivery.due_at.since(shop.checkout.now());
        assert!((wait_s * 800..=wait_s * 1_200).contains(&wait), "try {tries}: {wait} ms");
        waits.push(wait / 1_000);
        shop.clock.advance(wait - 1);
        assert_eq!(shop.work().await, 0, "not a moment earlier");
        shop.clock.advance(1);
        assert_eq!(shop.work().await, 1);
    }
    println!("waits between the tries of one event, in s: {waits:?}");
    shop.says("mall", 200);
    shop.clock.advance(29 * HOUR);
    assert_eq!(shop.work().await, 1);
    shop.clock.advance(1_000 * HOUR);
    assert_eq!(shop.work().await, 0, "delivered is delivered");
    let sent = shop.sent("mall");
    assert_eq!(sent.len(), 15);
    assert!(sent.iter().all(|one| one.id() == sent[0].id() && one.body == sent[0].body));
    let (event, tries) = shop.checkout.event(&id("mall"), sent[0].id()).await.unwrap().unwrap();
    assert!(event.delivery.delivered_at.is_some());
    assert_eq!(event.body, sent[0].body);
    assert_eq!(tries.len(), 15);
    assert_eq!((tries[0].status.clone(), tries[0].answer.len()), (Ok(500), 1_024));
    assert_eq!((tries[14].status.clone(), tries[14].answer.as_str()), (Ok(200), ""));
}

#[tokio::test]
async fn a_mall_may_say_when_and_is_not_followed_elsewhere() {
    let shop = frozen(&["mall", "elsewhere"]).await;
    let date = "Fri, 15 Jan 2027 08:00:08 GMT".to_owned();
    for (number, status, header, expected) in [
        ("123451", 429, Some(("retry-after", "1".to_owned())), 5_000..=5_000),
        ("123452", 503, Some(("retry-after", "7".to_owned())), 7_000..=7_000),
        ("123453", 503, Some(("retry-after", "3600".to_owned())), 10_000..=10_000),
        ("123454", 503, Some(("retry-after", date)), 8_000..=8_000),
        ("123455", 500, Some(("retry-after", "9".to_owned())), 4_000..=6_000),
        ("123456", 429, None, 4_000..=6_000),
        ("123457", 307, Some(("location", shop.url("elsewhere"))), 4_000..=6_000),
        ("123458", 404, None, 4_000..=6_000),
    ] {
        shop.answers("mall", Answer::Say(status, header, String::new()));
        shop.happen("mall", number).await;
        assert_eq!(shop.work().await, 1);
        let event = shop.events("mall").await.pop().unwrap();
        let wait = event.delivery.due_at.since(NOW);
        assert!(expected.contains(&wait), "{number}: {status} and {wait} ms");
        assert_eq!(event.delivery.last_status, Some(status));
    }
    assert!(shop.sent("elsewhere").is_empty());
}

/// 80 hours in which one mall takes nothing while another takes everything.
#[tokio::test]
async fn after_eighty_hours_everything_is_delivered_at_the_first_sign_of_life() {
    let shop = frozen(&["dead", "other"]).await;
    shop.says("dead", 502);
    let (mut tries, mut slowest) = (0, 0);
    for hour in 0..80 {
        let end = NOW.plus((hour + 1) * HOUR);
        for n in 0..2 {
            shop.happen("dead", &format!("dead-{hour:02}-{n}")).await;
        }
        shop.happen("other", &format!("other-{hour:02}")).await;
        loop {
            tries += shop.work().await;
            let told = shop.events("other").await;
            let late =
                told.iter().filter_map(|event| Some(event.delivery.delivered_at?.since(event.created_at)));
            slowest = slowest.max(late.max().unwrap());
            assert!(told.iter().all(|event| event.delivery.delivered_at.is_some()), "hour {hour}");
            let next = shop.events("dead").await.iter().map(|event| event.delivery.due_at).min().unwrap();
            if next > end {
                break;
            }
            shop.clock.advance(next.since(shop.checkout.now()));
        }
        shop.clock.advance(end.since(shop.checkout.now()));
    }
    assert!(slowest < 5_000, "the other mall waited {slowest} ms");
    shop.says("dead", 204);
    let before = shop.sent("dead").len();
    let waiting = shop.events("dead").await;
    let next = waiting.iter().map(|event| event.delivery.due_at).min().unwrap();
    let until_next = next.since(shop.checkout.now());
    shop.clock.advance(until_next);
    shop.work().await;
    let events = shop.events("dead").await;
    assert_eq!(events.len(), 160);
    assert!(events.iter().all(|event| event.delivery.delivered_at == Some(shop.checkout.now())));
    assert_eq!(shop.sent("dead").len() - before, 160, "each once");
    println!(
        "80 h dead: 160 events, {tries} tries in all; back: the next try came after {} s and all 160 were \
         delivered in the same instant; the other mall waited {slowest} ms at most",
        until_next / 1_000
    );
}

/// A mall that takes others, but not this one, does not get it again with each of them.
#[tokio::test]
async fn one_event_that_a_mall_refuses_keeps_its_own_rhythm() {
    let shop = frozen(&["mall"]).await;
    shop.answers("mall", Answer::Refuse("refused"));
    shop.happen("mall", "refused").await;
    for n in 0..600 {
        shop.happen("mall", &format!("fine-{n}")).await;
        shop.work().await;
        shop.clock.advance(6_000);
    }
    let sent = shop.sent("mall");
    let tries = sent.iter().filter(|one| one.id() == sent[0].id()).count();
    println!("one event refused for an hour while 600 others were taken: {tries} tries");
    assert_eq!(sent.len() - tries, 600);
    assert!((5..=30).contains(&tries), "{tries}");
}

#[tokio::test]
async fn gone_switches_an_address_off_until_somebody_wants_it() {
    let shop = frozen(&["mall", "moved", "other"]).await;
    let malls = |url: String| [("mall", url), ("other", shop.url("other"))];
    shop.says("mall", 410);
    shop.happen("mall", "123451").await;
    assert_eq!(shop.work().await, 1);
    for number in ["123452", "123453"] {
        shop.happen("mall", number).await;
        shop.happen("other", number).await;
    }
    shop.clock.advance(500 * HOUR);
    assert_eq!((shop.work().await, shop.sent("mall").len()), (2, 1), "only the other mall is told");
    let merchant = id("mall");
    let known = shop.checkout.endpoint(merchant).await.unwrap().unwrap();
    assert_eq!((known.url, known.disabled_at), (shop.url("mall"), Some(NOW)));

    // The mall asks for one event: it is tried, and so is what waits beside it.
    let event_id = shop.events("mall").await[1].event_id.clone();
    assert!(shop.checkout.resend(id("mall"), event_id).await.unwrap());
    shop.says("mall", 410);
    let tasks = worker::claim(&shop.checkout, worker::every_place(&shop.checkout)).await.unwrap();
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        worker::perform(&shop.checkout, task).await;
    }
    assert_eq!((shop.work().await, shop.sent("mall").len()), (0, 4), "off again");

    // A new address is a new chance, once the configuration has it.
    shop.configure(&malls(shop.url("mall")));
    assert_eq!(shop.work().await, 0, "the same address");
    shop.configure(&malls(shop.url("moved")));
    assert_eq!(shop.work().await, 3);
    assert_eq!(shop.sent("moved").len(), 3);
    assert_eq!(shop.checkout.endpoint(id("mall")).await.unwrap(), None);
    assert!(shop.events("mall").await.iter().all(|event| event.delivery.delivered_at.is_some()));
}

#[tokio::test]
async fn without_an_address_events_wait_and_a_new_one_gets_them() {
    let shop = frozen(&["mall"]).await;
    shop.configure(&[("mall", String::new())]);
    shop.happen("mall", "123451").await;
    shop.clock.advance(500 * HOUR);
    assert_eq!(shop.work().await, 0);
    shop.configure(&[("other", shop.url("other"))]);
    assert_eq!(shop.work().await, 0, "nor is a merchant told that is not configured");
    shop.configure(&[("mall", shop.url("mall"))]);
    assert_eq!((shop.work().await, shop.sent("mall").len()), (1, 1));
}

#[tokio::test]
async fn a_result_whose_lease_is_old_changes_nothing() {
    let shop = frozen(&["mall"]).await;
    shop.happen("mall", "123456").await;
    let claim = async || worker::claim(&shop.checkout, worker::every_place(&shop.checkout)).await.unwrap();
    let old = claim().await.remove(0);
    assert!(claim().await.is_empty(), "leased");
    shop.clock.advance(60_000);
    let new = claim().await.remove(0);
    assert_eq!((old.id, old.lease + 1, new.tries), (new.id, new.lease, 2));
    let store = shop.checkout.store();
    for then in [Then::Delivered { ends: None }, Then::Again(NOW.plus(HOUR)), Then::Gone] {
        let sent = Sent {
            at: NOW,
            latency_ms: 1,
            url: shop.url("mall"),
            status: Ok(200),
            answer: String::new(),
            then,
        };
        store.finish_task(old.clone(), TaskOutcome::Sent(sent), shop.checkout.now()).await.unwrap();
    }
    let event_id = new.subject.clone();
    let (event, tries) = shop.checkout.event(&id("mall"), &event_id).await.unwrap().unwrap();
    assert_eq!((event.delivery.delivered_at, tries.len()), (None, 0));
    assert_eq!(shop.checkout.endpoint(id("mall")).await.unwrap(), None);
    // A resend fences off the try under way too.
    assert!(shop.checkout.resend(id("mall"), event_id.clone()).await.unwrap());
    worker::perform(&shop.checkout, new).await;
    assert_eq!(shop.events("mall").await[0].delivery.delivered_at, None);
    assert_eq!(shop.work().await, 1);
    let (event, tries) = shop.checkout.event(&id("mall"), &event_id).await.unwrap().unwrap();
    assert_eq!((event.delivery.delivered_at, tries.len()), (Some(shop.checkout.now()), 1));
    // The last twenty tries are kept.
    for _ in 0..30 {
        assert!(shop.checkout.resend(id("mall"), event_id.clone()).await.unwrap());
        assert_eq!(shop.work().await, 1);
    }
    let (_, tries) = shop.checkout.event(&id("mall"), &event_id).await.unwrap().unwrap();
    assert!((10..=20).contains(&tries.len()), "{}", tries.len());
}

async fn call(method: Method, url: String, key: &str) -> (StatusCode, Value) {
    let caller = Transport::anywhere(Timeouts::GATEWAYS).unwrap();
    let request = Request::builder().method(method).uri(url).header("authorization", key);
    let reply = caller.send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    (reply.status(), serde_json::from_slice(reply.body()).unwrap())
}

/// A service that listens.
struct Service {
    end: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn stop(self) {
        self.end.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }
}

/// Serves, workers and all. The address of its events.
async fn serve(shop: &Shop) -> (String, Service) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/rest/events", listener.local_addr().unwrap());
    let (end, ended) = oneshot::channel::<()>();
    let ended = async { ended.await.unwrap() };
    let running = service::run(shop.checkout.clone(), Limits::none(), listener, axum::Router::new(), ended);
    (base, Service { end, running: tokio::spawn(running) })
}

/// Reads the mall's events until they look as wanted.
async fn until(base: &str, key: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..1_000 {
        last = call(Method::GET, base.to_owned(), key).await.1["data"].clone();
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mall_reads_its_deliveries_and_asks_for_them_again() {
    let shop = Shop::in_memory(Clock::frozen(NOW), &["mall", "other"]).await;
    shop.answers("mall", Answer::Say(500, None, "<p>down</p>".to_owned()));
    shop.happen("mall", "123456").await;
    shop.work().await;
    let (base, service) = serve(&shop).await;
    let key = api_key("mall");

    let (status, list) = call(Method::GET, base.clone(), &key).await;
    let event = &list["data"]["events"][0];
    assert_eq!(status, StatusCode::OK);
    let due = shop.events("mall").await[0].delivery.due_at;
    let next_at = shouyin::domain::time::rfc3339(due);
    assert_eq!(
        event["delivery"],
        json!({
            "state": "waiting", "tries": 1, "next_at": next_at, "delivered_at": null, "last_status": 500,
        })
    );
    assert_eq!(list["data"]["endpoint"]["state"], "failing");
    let one = format!("{base}/{}", event["id"].as_str().unwrap());
    let (_, detail) = call(Method::GET, one.clone(), &key).await;
    assert_eq!(detail["data"]["payload"], event["payload"]);
    assert_eq!(
        detail["data"]["deliveries"],
        json!([{ "at": "2027-01-15T16:00:00+08:00", "status": 500, "error": null, "answer": "<p>down</p>",
            "latency_ms": 0 }])
    );

    let resend = format!("{one}/resend");
    for (key, url, expected, error) in [
        (api_key("other"), &resend, 404, "event_not_found"),
        (api_key("other"), &one, 404, "event_not_found"),
        (key.clone(), &format!("{base}/evt_x_1/resend"), 404, "event_not_found"),
        (key.clone(), &format!("{base}/%ff/resend"), 404, "event_not_found"),
        ("nobody".to_owned(), &resend, 401, "key_wrong"),
    ] {
        let method = if *url == one { Method::GET } else { Method::POST };
        let (status, reply) = call(method, url.clone(), &key).await;
        assert_eq!((status.as_u16(), reply["error"].as_str().unwrap()), (expected, error), "{url}");
    }
    assert_eq!(shop.sent("mall").len(), 1);

    shop.says("mall", 200);
    for n in 1..=2 {
        let (status, reply) = call(Method::POST, resend.clone(), &key).await;
        assert_eq!(status, StatusCode::OK, "{reply}");
        assert_eq!(reply["data"]["payload"], event["payload"]);
        let mut read = Value::Null;
        for _ in 0..400 {
            read = call(Method::GET, one.clone(), &key).await.1;
            if read["data"]["deliveries"].as_array().unwrap().len() == 1 + n {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(read["data"]["delivery"]["state"], "delivered", "{read}");
    }
    let sent = shop.sent("mall");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|one| one.id() == sent[0].id() && one.body == sent[0].body));
    service.stop().await;
}

/// An event whose schedule is used up, and an address that is switched off.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_must_look_at_is_said() {
    let shop = Shop::in_memory(Clock::frozen(NOW), &["mall"]).await;
    let (base, service) = serve(&shop).await;
    let key = api_key("mall");
    shop.happen("mall", "123456").await;
    until(&base, &key, |list| list["events"][0]["delivery"]["state"] == "delivered").await;
    shop.says("mall", 500);
    shop.happen("mall", "777777").await;
    until(&base, &key, |list| list["endpoint"]["state"] == "failing").await;
    shop.clock.advance(100 * HOUR);
    until(&base, &key, |list| list["events"][1]["delivery"]["state"] == "overdue").await;
    shop.says("mall", 410);
    shop.clock.advance(30 * HOUR);
    let list = until(&base, &key, |list| list["endpoint"]["state"] == "disabled").await;
    let delivery = &list["events"][1]["delivery"];
    assert_eq!((&delivery["state"], &delivery["next_at"]), (&json!("disabled"), &Value::Null));
    assert_eq!(list["endpoint"]["url"], shop.url("mall"));
    assert_eq!(list["events"][0]["delivery"]["state"], "delivered");
    shop.configure(&[("mall", String::new())]);
    let list = until(&base, &key, |list| list["endpoint"]["state"] == "none").await;
    assert_eq!(list["events"][1]["delivery"]["state"], "no_webhook_url");
    service.stop().await;
}

/// A mall that lets everybody wait for 15 s, a mall that nobody can reach, 40 more slow ones, and one that
/// is well: nobody stands in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_slow_malls_delay_nobody_else() {
    let many: Vec<String> = (0..40).map(|n| format!("slow{n:02}")).collect();
    let mut names = vec!["slow", "gone", "well"];
    names.extend(many.iter().map(String::as_str));
    let shop = Shop::on_disk(Clock::system(0), &names).await;
    let unbound = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut urls: Vec<(&str, String)> = names.iter().map(|name| (*name, shop.url(name))).collect();
    urls[1].1 = format!("http://{unbound}/gone");
    shop.configure(&urls);
    for name in ["slow"].into_iter().chain(many.iter().map(String::as_str)) {
        shop.answers(name, Answer::Hang);
    }
    let all: Vec<_> = (0..1_000)
        .map(|n| ("slow".to_owned(), format!("slow-{n}")))
        .chain((0..100).map(|n| ("gone".to_owned(), format!("gone-{n}"))))
        .chain(many.iter().flat_map(|name| (0..5).map(move |n| (name.clone(), format!("{name}-{n}")))))
        .collect();
    let told = all.iter().map(|(name, number)| shop.happen(name, number));
    futures_util::future::join_all(told).await;

    let (end, ended) = oneshot::channel::<()>();
    let worker = tokio::spawn(worker::run(shop.checkout.clone(), async { ended.await.unwrap_or(()) }));
    let mut happened = Vec::new();
    for n in 0..400 {
        let number = format!("well-{n}");
        shop.happen("well", &number).await;
        happened.push((number, Clock::real()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3_000 {
        if shop.sent("well").len() == happened.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sent = shop.sent("well");
    let mut delays: Vec<i64> = happened
        .iter()
        .map(|(number, at)| {
            let told = |one: &&crate::malls::Sent| {
                let body: Value = serde_json::from_slice(&one.body).unwrap();
                body["data"]["order_number"] == **number
            };
            sent.iter().find(told).unwrap().at.since(*at)
        })
        .collect();
    delays.sort_unstable();
    println!(
        "beside 1,000 events of a mall that hangs, 100 of one that is gone and 200 of 40 that hang: 400 of \
         another delivered, p50 {} ms, p99 {} ms, slowest {} ms; the hanging ones held {} requests, the one \
         that is gone had {} tries",
        delays[199],
        delays[395],
        delays[399],
        shop.sent("slow").len() + many.iter().map(|name| shop.sent(name).len()).sum::<usize>(),
        shop.events("gone").await.iter().map(|event| event.delivery.tries).sum::<u32>(),
    );
    assert!(delays[395] < 5_000, "p99 {} ms", delays[395]);
    worker.abort();
    drop(end);
}
