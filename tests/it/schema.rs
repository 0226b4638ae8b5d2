//! The schema by itself: what it refuses, and how an older database is carried over. The only tests that
//! look into tables.

use rusqlite::Connection;
use shouyin::domain::id::UnixMillis;
use shouyin::domain::order::{OrderId, State};
use shouyin::server::store::sqlite::SqliteStore;
use shouyin::server::store::{Find, Store, TaskKind};

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
    let tasks = store.claim_tasks(UnixMillis(10), 1, 10, 10).await.unwrap();
    assert_eq!(tasks.iter().map(|task| (task.id, task.kind)).collect::<Vec<_>>(), [(41, TaskKind::Close)]);
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
