//! The schema by itself: what it refuses, and how an older database is carried over. The only tests that
//! look into tables.

use rusqlite::Connection;
use shouyin::domain::id::{Channel, MerchantId, UnixMillis};
use shouyin::domain::order::{OrderId, State};
use shouyin::runtime::clock::Clock;
use shouyin::server::store::sqlite::SqliteStore;
use shouyin::server::store::{
    Find, InboxRow, Mall, Outage, Places, Sent, Store, TaskKind, TaskOutcome, Then, Verdict,
};

mod embedded {
    refinery::embed_migrations!("src/server/store/migrations/sqlite");
}

/// A paid order of 100 fen with an open task, as the first schema had it.
const PAID: &str = "
    INSERT INTO orders VALUES (7, 'mall', 'Order', '123456', 'Tea', 100, NULL, NULL, NULL, NULL, NULL,
        1, 'paid', NULL, NULL, 2, x'01', x'02');
    INSERT INTO attempts VALUES (1, 7, 'mall', 'wx', 'NATIVE', 'app:mch', '123456', '{}', 1, 9, 'paid',
        NULL, NULL);
    INSERT INTO payments VALUES (1, 7, 'mall', 'wx', 'app:mch', '123456', 'T1', 'paid', 100, 3, 3);
    INSERT INTO tasks (id, kind, merchant_id, order_id, subject, due_at)
        VALUES (41, 'close', 'mall', 7, 'ali:123456', 5);
    INSERT INTO events VALUES (1, 'evt_a_1', 'mall', 7, 'order.paid', 2, x'7b7d', 3);
    INSERT INTO tasks (id, kind, merchant_id, order_id, subject, due_at, tries, lease, done_at, note)
        VALUES (42, 'webhook', 'mall', 7, 'evt_a_1', 5, 12, 12, 9, 'given up: the mall answered 500');
";

fn first_schema(path: &std::path::Path) {
    let mut direct = Connection::open(path).unwrap();
    let runner = embedded::migrations::runner().set_target(refinery::Target::Version(1));
    runner.run(&mut direct).unwrap();
    direct.execute_batch(PAID).unwrap();
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shouyin.db");
    first_schema(&path);
    let store = SqliteStore::open(&path, "test").unwrap();
    let order = store.find(Find::Id(OrderId(7))).await.unwrap().unwrap();
    assert!(matches!(order.state, State::Paid { .. }));
    assert!(order.refunds.is_empty());
    let merchant = MerchantId::new("mall").unwrap();
    let malls = vec![Mall { merchant, url: "https://mall.example/hook".to_owned(), places: 10, sure: 0 }];
    let places = Places { malls, webhooks: 10, others: 10 };
    let tasks = store.claim_tasks(UnixMillis(10), 1, places).await.unwrap();
    // What was given up then is never dropped now.
    assert_eq!(
        tasks.iter().map(|task| (task.id, task.kind)).collect::<Vec<_>>(),
        [(41, TaskKind::Close), (42, TaskKind::Webhook)]
    );
}

#[test]
fn no_more_goes_back_than_came_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shouyin.db");
    first_schema(&path);
    drop(SqliteStore::open(&path, "test").unwrap());
    let direct = Connection::open(&path).unwrap();
    for (refunded, fine) in [(100, true), (101, false), (-1, false), (0, true)] {
        let done = direct.execute("UPDATE payments SET refunded_fee = ?1", [refunded]);
        assert_eq!(done.is_ok(), fine, "{refunded}: {done:?}");
    }
}

#[tokio::test]
async fn what_strangers_send_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shouyin.db");
    let store = SqliteStore::open(&path, "test").unwrap();
    let direct = Connection::open(&path).unwrap();
    // Every tenth one is trusted.
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000) \
         INSERT INTO inbox (at, channel, verdict, raw) \
         SELECT i, 'wx', iif(i % 10 = 0, 'applied', iif(i % 2, 'untrusted', 'foreign')), x'00' FROM n";
    direct.execute(many, []).unwrap();
    let notice = InboxRow {
        channel: Channel::Ali,
        merchant: None,
        verdict: Verdict::Untrusted,
        out_trade_no: None,
        delivery_id: None,
        note: None,
        headers: String::new(),
        raw: Vec::new(),
    };
    store.record_notice(notice.clone(), UnixMillis(1)).await.unwrap();
    let count = |verdict: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM inbox WHERE verdict {verdict}");
        direct.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("IN ('untrusted', 'foreign')"), 108_001 - 64, "a few at a time");
    for _ in 0..300 {
        store.record_notice(notice.clone(), UnixMillis(1)).await.unwrap();
    }
    assert_eq!(count("= 'applied'"), 12_000, "what is trusted stays");
    let last = "IN ('untrusted', 'foreign') AND id > (SELECT max(id) FROM inbox) - 100000";
    assert_eq!(count("IN ('untrusted', 'foreign')"), count(last), "of the last 100,000 notices");
    let plan: String = direct
        .query_row(
            "EXPLAIN QUERY PLAN SELECT id FROM inbox INDEXED BY untrusted_notices \
             WHERE verdict IN ('untrusted', 'foreign') AND id <= 5 LIMIT 64",
            [],
            |row| row.get("detail"),
        )
        .unwrap();
    assert!(plan.contains("rowid<?") || plan.contains("id<?"), "no scan: {plan}");
}

/// 100,000 events that wait for a dead mall, and one each for 99 others, all due at 2,000,000.
const BACKLOG: &str = "
    BEGIN;
    INSERT INTO orders VALUES (1, 'mall', 'Order', '123456', 'Tea', 100, NULL, NULL, NULL, NULL, NULL,
        1, 'pending', NULL, NULL, 1, x'01', x'02');
    CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100099)
        SELECT i, CASE WHEN i <= 100000 THEN 'dead' ELSE printf('mall%02d', i - 100000) END AS mall FROM n;
    INSERT INTO events (id, event_id, merchant_id, order_id, kind, version, body, created_at)
        SELECT i, 'evt_' || i, mall, 1, 'order.closed', i, x'7b7d', i FROM n;
    INSERT INTO tasks (kind, merchant_id, order_id, subject, due_at, tries, lease)
        SELECT 'webhook', mall, 1, 'evt_' || i, 1000000 + i, 3, 3 FROM n;
    INSERT INTO endpoints VALUES ('dead', 'https://dead.example/', 500000, NULL);
    COMMIT;
";

/// What a big backlog costs everybody else: nothing that grows with it, until it is delivered.
#[tokio::test]
async fn a_backlog_of_a_hundred_thousand_is_not_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shouyin.db");
    drop(SqliteStore::open(&path, "test").unwrap());
    Connection::open(&path).unwrap().execute_batch(BACKLOG).unwrap();
    let store = SqliteStore::open(&path, "test").unwrap();
    let now = UnixMillis(2_000_000);
    let places = |each: u32| {
        let names = (1..100).map(|n| format!("mall{n:02}")).chain(["dead".to_owned()]);
        let mall = |name: String| {
            let url = format!("https://{name}.example/");
            Mall { merchant: MerchantId::new(name).unwrap(), url, places: each, sure: 0 }
        };
        Places { malls: names.map(mall).collect(), webhooks: 512, others: 10 }
    };
    let began = Clock::real();
    let claimed = store.claim_tasks(now, 60_000, places(1)).await.unwrap();
    println!("a task each of 100 malls claimed in {} ms", Clock::real().since(began));
    assert_eq!(claimed.len(), 100);
    let began = Clock::real();
    for _ in 0..200 {
        assert!(store.claim_tasks(now, 60_000, places(0)).await.unwrap().is_empty());
    }
    let each = Clock::real().since(began) / 200;
    println!("100,000 due behind a mall without places: {each} ms a claim");
    assert!(each < 20, "{each} ms");
    // The first sign of life, while the rest waits for another day.
    drop(store);
    Connection::open(&path).unwrap().execute("UPDATE tasks SET due_at = 90000000", []).unwrap();
    let store = SqliteStore::open(&path, "test").unwrap();
    let task = claimed.into_iter().find(|task| task.merchant.as_str() == "dead").unwrap();
    let sent = Sent {
        at: now,
        latency_ms: 1,
        url: "https://dead.example/".to_owned(),
        status: Ok(200),
        answer: String::new(),
        then: Then::Delivered { ends: Some(Outage { since: UnixMillis(500_000), frees: 3 }) },
    };
    let began = Clock::real();
    store.finish_task(task, TaskOutcome::Sent(sent), now).await.unwrap();
    let took = Clock::real().since(began);
    println!("99,999 waiting events made due by one update: {took} ms");
    assert!(took < 10_000, "{took} ms");
    assert_eq!(store.claim_tasks(now, 60_000, places(16)).await.unwrap().len(), 16);
    let began = Clock::real();
    let page = store.events(MerchantId::new("dead").unwrap(), 50_000, 100).await.unwrap();
    println!("a page of 100 events with their deliveries: {} ms", Clock::real().since(began));
    assert_eq!((page.len(), page[0].delivery.tries), (100, 3));
}
