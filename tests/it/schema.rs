//! The schema by itself: what it refuses, and how an older database is carried over. The only tests that
//! look into tables.

use rusqlite::Connection;
use shouyin::domain::id::{Channel, MerchantId, UnixMillis};
use shouyin::domain::order::{OrderId, State};
use shouyin::server::store::sqlite::SqliteStore;
use shouyin::server::store::{Find, InboxRow, Mall, Places, Store, TaskKind, Verdict};

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
    store.record_notice(notice, UnixMillis(1)).await.unwrap();
    let count = |verdict: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM inbox WHERE verdict {verdict}");
        direct.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("= 'applied'"), 12_000, "what is trusted stays");
    assert_eq!(count("IN ('untrusted', 'foreign')"), 90_000, "of the last 100,000 notices");
    let plan: String = direct
        .query_row(
            "EXPLAIN QUERY PLAN DELETE FROM inbox INDEXED BY untrusted_notices \
             WHERE verdict IN ('untrusted', 'foreign') AND id <= 5",
            [],
            |row| row.get("detail"),
        )
        .unwrap();
    assert!(plan.contains("untrusted_notices (rowid<?)") || plan.contains("id<?"), "no scan: {plan}");
}
