//! The store's story, on a real file: what is created, pushed, paid and told stays so, once, also under
//! parallel writers and after a restart. Never looks into tables.

use std::sync::Arc;

use shouyin::domain::id::{
    Channel, MerchantId, OrderKey, OrderNumber, OrderType, OutRefundNo, RefundNumber, Scene, Title, TradeId,
    TransactionId, UnixMillis,
};
use shouyin::domain::money::Fen;
use shouyin::domain::order::{
    AnomalyKind, CloseCause, Code, Event, Order, OrderId, Payment, Refused, State, Terms,
};
use shouyin::domain::refund::{DuplicatePayment, LatePayment, Policy, RefundStanding, RefundWanted};
use shouyin::server::hub::Hub;
use shouyin::server::store::sqlite::SqliteStore;
use shouyin::server::store::{
    Change, Find, InboxRow, Mall, NewAttempt, NewOrder, Places, Policies, Settle, Store, StoreError,
    TaskKind, TaskOutcome, Verdict,
};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn new_order(number: &str) -> NewOrder {
    let mut hash = [0; 32];
    hash[..number.len()].copy_from_slice(number.as_bytes());
    let mut page_hash = hash;
    page_hash[31] = 1;
    NewOrder {
        key: OrderKey {
            merchant: MerchantId::new("mall").unwrap(),
            order_type: OrderType::Order,
            number: OrderNumber::new(number).unwrap(),
        },
        terms: Terms {
            title: Title::new("茶 🍵").unwrap(),
            total: Fen::new(100).unwrap(),
            expires_at: Some(NOW.plus(60_000)),
            return_url: Some("https://mall.example/done".to_owned()),
            buyer: None,
            attach: Some("a".to_owned()),
            locale: None,
        },
        token_hash: hash,
        page_hash,
    }
}

fn wanted(scene: Scene) -> NewAttempt {
    NewAttempt {
        scene,
        payer: None,
        account: "app:mch".to_owned(),
        request: "{}".to_owned(),
        expires_at: NOW.plus(50_000),
    }
}

fn money(trade: &TradeId, transaction: &str, fen: i64) -> Event {
    Event::Money(Payment {
        trade: trade.clone(),
        transaction_id: TransactionId::new(transaction).unwrap(),
        fee: Fen::new(fen).unwrap(),
        paid_at: NOW,
    })
}

fn notice(trade: &TradeId) -> InboxRow {
    InboxRow {
        channel: Channel::Wx,
        merchant: None,
        verdict: Verdict::Applied,
        out_trade_no: Some(trade.out_trade_no.clone()),
        delivery_id: None,
        note: None,
        headers: String::new(),
        raw: b"<xml/>".to_vec(),
    }
}

fn told(trade: &TradeId, transaction: &str) -> Settle {
    Settle {
        account: "app:mch".to_owned(),
        trade: trade.clone(),
        change: Change::Event(money(trade, transaction, 100)),
        notice: notice(trade),
    }
}

fn places(webhooks: u32, others: u32) -> Places {
    let (merchant, url) = (MerchantId::new("mall").unwrap(), "https://mall.example/hook".to_owned());
    Places { malls: vec![Mall { merchant, url, places: webhooks, sure: 0 }], webhooks, others }
}

/// Money that pays nothing goes back.
fn policies() -> Policies {
    let policy = Policy { late: LatePayment::Refund, duplicate: DuplicatePayment::Refund };
    Policies::new([(MerchantId::new("mall").unwrap(), policy)])
}

async fn pushed(store: &dyn Store, number: &str, scene: Scene) -> (Order, TradeId) {
    let (order, _) = store.create_order(new_order(number), NOW).await.unwrap();
    let opened = store.open_attempt(order.id, wanted(scene), policies(), NOW).await.unwrap().unwrap();
    let code = Code { content: "code".to_owned(), prepay_id: Some("p".to_owned()), until: None };
    let ready = Event::Ready { trade: opened.trade.clone(), code };
    let order = store.apply(order.id, ready, policies(), NOW).await.unwrap().order;
    (order, opened.trade)
}

#[tokio::test]
async fn an_order_is_created_once_and_found_by_each_of_its_names() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, created) = store.create_order(new_order("123456"), NOW).await.unwrap();
    assert!(created);
    let (again, created) = store.create_order(new_order("123456"), NOW.plus(5)).await.unwrap();
    assert!(!created);
    assert_eq!(again, order);
    let (order, number) = pushed(&store, "123456", Scene::Native).await;
    let new = new_order("123456");
    let trade = Find::Trade { account: "app:mch".to_owned(), trade: number };
    for by in [
        Find::Id(order.id),
        Find::Key(new.key),
        Find::Token(new.token_hash),
        Find::Page(new.page_hash),
        trade,
    ] {
        assert_eq!(store.find(by).await.unwrap().as_ref(), Some(&order));
    }
    assert_eq!(store.find(Find::Token(new.page_hash)).await.unwrap(), None);
}

#[tokio::test]
async fn numbers_clash_only_into_the_next_suffix() {
    let store = SqliteStore::in_memory().unwrap();
    let (first, number) = pushed(&store, "123456", Scene::Native).await;
    assert_eq!(number.out_trade_no.as_str(), "123456");
    let again = store.open_attempt(first.id, wanted(Scene::Native), policies(), NOW).await.unwrap().unwrap();
    assert_eq!(again.trade, number, "a live attempt is used again");
    let mut other = new_order("123456");
    other.key.merchant = MerchantId::new("other-mall").unwrap();
    (other.token_hash[31], other.page_hash[31]) = (2, 3);
    let (other, _) = store.create_order(other, NOW).await.unwrap();
    let opened = store.open_attempt(other.id, wanted(Scene::Native), policies(), NOW).await.unwrap().unwrap();
    assert_eq!(opened.trade.out_trade_no.as_str(), "123456_o001", "the same account under two merchants");
    let late = NOW.plus(45_000);
    let renewed =
        store.open_attempt(first.id, wanted(Scene::Native), policies(), late).await.unwrap().unwrap();
    assert_eq!(renewed.trade.out_trade_no.as_str(), "123456_o002", "an old code makes room for the next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_parallel_notices_settle_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shouyin.db");
    let store = Arc::new(SqliteStore::open(&path, "test").unwrap());
    let (order, number) = pushed(store.as_ref(), "123456", Scene::Native).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (store, number) = (store.clone(), number.clone());
        tasks.spawn(async move { store.settle(told(&number, "T1"), policies(), NOW).await });
    }
    while let Some(settled) = tasks.join_next().await {
        assert_eq!(settled.unwrap().unwrap().unwrap().outcome, Ok(()));
    }
    let merchant = MerchantId::new("mall").unwrap();
    let events = store.events(merchant.clone(), 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["order.paid"]);
    let paid = store.find(Find::Id(order.id)).await.unwrap().unwrap();
    assert_eq!((paid.version, paid.anomalies.len()), (2, 0));

    // The same file after a restart, while a second process is refused.
    assert!(matches!(SqliteStore::open(&path, "x"), Err(StoreError::Unavailable(_))));
    drop(Arc::into_inner(store).unwrap());
    let store = SqliteStore::open(&path, "another start").unwrap();
    assert_eq!(store.find(Find::Id(order.id)).await.unwrap().unwrap(), paid);
    let again = store.events(merchant, 0, 100).await.unwrap();
    assert_eq!(again[0].event_id, events[0].event_id);
    assert_eq!(again[0].body, events[0].body);
}

#[tokio::test]
async fn money_of_the_wrong_kind_is_recorded_once_and_told() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, wx) = pushed(&store, "123456", Scene::Native).await;
    let (_, ali) = pushed(&store, "123456", Scene::QrCode).await;
    for _ in 0..3 {
        for event in [money(&wx, "T1", 99), money(&wx, "T1", 100), money(&ali, "T2", 100)] {
            store.apply(order.id, event, policies(), NOW).await.unwrap();
        }
    }
    let order = store.find(Find::Id(order.id)).await.unwrap().unwrap();
    let kinds: Vec<_> = order.anomalies.iter().map(|anomaly| anomaly.kind).collect();
    assert_eq!(kinds, [AnomalyKind::Mismatch, AnomalyKind::Duplicate]);
    assert!(matches!(order.state, State::Paid { .. }));
    let events = store.events(MerchantId::new("mall").unwrap(), 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(told, ["payment.mismatch", "order.paid", "payment.duplicate"]);
    let last: serde_json::Value = serde_json::from_slice(&events[2].body).unwrap();
    assert_eq!(last["data"]["version"], 4);
    assert_eq!(last["data"]["paid_fee"], 100);
    assert_eq!(last["data"]["anomalies"][1]["kind"], "duplicate");
}

#[tokio::test]
async fn a_refused_event_changes_nothing_and_its_batch_stands() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, number) = pushed(&store, "123456", Scene::Native).await;
    let unknown: TradeId = "ali:123456".parse().unwrap();
    let before = store.find(Find::Id(order.id)).await.unwrap();
    let applied = store.apply(order.id, money(&unknown, "T", 100), policies(), NOW).await.unwrap();
    assert_eq!(applied.outcome, Err(Refused::UnknownAttempt));
    assert_eq!(store.find(Find::Id(order.id)).await.unwrap(), before);
    let close = Event::CloseAsked { cause: CloseCause::Merchant };
    let (good, bad, good_too) = tokio::join!(
        store.apply(order.id, money(&number, "T1", 100), policies(), NOW),
        store.apply(OrderId(999), close, policies(), NOW),
        store.create_order(new_order("654321"), NOW),
    );
    assert!(matches!(good.unwrap().order.state, State::Paid { .. }));
    assert!(matches!(bad, Err(StoreError::Inconsistent { .. })));
    assert!(good_too.unwrap().1);
}

#[tokio::test]
async fn tasks_are_leased_fenced_and_resumed() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, number) = pushed(&store, "123456", Scene::Native).await;
    store.apply(order.id, money(&number, "T1", 100), policies(), NOW).await.unwrap();
    let claimed = store.claim_tasks(NOW, 60_000, places(10, 10)).await.unwrap();
    assert_eq!(claimed.iter().map(|task| task.kind).collect::<Vec<_>>(), [TaskKind::Webhook]);
    assert!(store.claim_tasks(NOW, 60_000, places(10, 10)).await.unwrap().is_empty(), "leased to somebody");
    let again = store.claim_tasks(NOW.plus(60_000), 60_000, places(10, 10)).await.unwrap();
    let webhook = again.into_iter().find(|task| task.kind == TaskKind::Webhook).unwrap();
    assert_eq!(webhook.tries, 2, "the lease ran out");
    let late = claimed.into_iter().next().unwrap();
    store.finish_task(late, TaskOutcome::Done(None), NOW).await.unwrap();
    let now = NOW.plus(130_000);
    assert!(
        store
            .claim_tasks(now, 1, places(10, 10))
            .await
            .unwrap()
            .iter()
            .any(|task| task.kind == TaskKind::Webhook),
        "a result after the lease ran out is fenced off"
    );
    store.resume(now).await.unwrap();
    let resumed = store.claim_tasks(now, 60_000, places(10, 10)).await.unwrap();
    let kinds: Vec<_> = resumed.iter().map(|task| task.kind).collect();
    assert_eq!(kinds.len(), 3, "webhook, query and expiry are all due: {kinds:?}");
    for task in resumed {
        store.finish_task(task, TaskOutcome::Done(None), now).await.unwrap();
    }
    assert!(store.claim_tasks(now.plus(600_000), 1, places(10, 10)).await.unwrap().is_empty());
}

/// The gateways are asked at a measured pace, so a start does not get through what is open. The next one must
/// go on with those that were not asked yet.
#[tokio::test]
async fn starts_in_quick_succession_get_round_to_every_open_attempt() {
    let store = SqliteStore::in_memory().unwrap();
    let mut unasked = std::collections::BTreeSet::new();
    for number in 0..30 {
        let (_, trade) = pushed(&store, &format!("F{number:05}"), Scene::Native).await;
        unasked.insert(trade.to_string());
    }
    let mut starts = 0;
    while !unasked.is_empty() {
        starts += 1;
        assert!(starts <= 3, "after three starts with ten questions each: {unasked:?}");
        let now = NOW.plus(starts * 1_700);
        store.resume(now).await.unwrap();
        let soon = now.plus(1_000);
        for asked in store.claim_tasks(soon, 60_000, places(0, 10)).await.unwrap() {
            unasked.remove(&asked.subject);
            store.finish_task(asked, TaskOutcome::Again(soon.plus(15_000), None), soon).await.unwrap();
        }
        for (place, waits) in (1..).zip(store.claim_tasks(soon, 60_000, places(0, 100)).await.unwrap()) {
            let later = TaskOutcome::Postponed(soon.plus(place * 25));
            store.finish_task(waits, later, soon).await.unwrap();
        }
    }
}

/// Ten days back: nothing waits for the time before to come again.
#[tokio::test]
async fn a_clock_that_is_set_back_keeps_no_question_waiting() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, _) = pushed(&store, "123456", Scene::Native).await;
    let now = NOW.plus(-10 * 86_400_000);
    store.resume(now).await.unwrap();
    let due = store.claim_tasks(now.plus(1_000), 60_000, places(10, 10)).await.unwrap();
    assert_eq!(due.iter().map(|task| task.kind).collect::<Vec<_>>(), [TaskKind::Query]);

    let (hub, order) = (Hub::default(), Arc::new(order));
    let _watcher = hub.watch(order.clone(), NOW);
    hub.asked(order.id, NOW.plus(5_000));
    assert!(hub.due(NOW.plus(9_000)).is_empty(), "asked four seconds ago");
    assert_eq!(hub.due(NOW.plus(10_000)).len(), 1);
    assert_eq!(hub.due(now).len(), 1, "neither the code nor the question is of the future");
    hub.asked(order.id, now);
    assert!(hub.due(now.plus(4_000)).is_empty());
    assert_eq!(hub.due(now.plus(5_000)).len(), 1);
}

/// Malls that do not answer must not keep the gateways from being asked.
#[tokio::test]
async fn webhooks_and_gateways_have_places_of_their_own() {
    let store = SqliteStore::in_memory().unwrap();
    for number in ["123456", "123457", "123458"] {
        let (order, trade) = pushed(&store, number, Scene::Native).await;
        store.apply(order.id, money(&trade, number, 100), policies(), NOW).await.unwrap();
    }
    let now = NOW.plus(120_000);
    let kinds = async |webhooks, others| {
        let tasks = store.claim_tasks(now, 60_000, places(webhooks, others)).await.unwrap();
        let sent = tasks.iter().filter(|task| task.kind == TaskKind::Webhook).count();
        (sent, tasks.len() - sent)
    };
    assert_eq!(kinds(0, 1).await, (0, 1));
    assert_eq!(kinds(1, 0).await, (1, 0));
    assert_eq!(kinds(1, 1).await, (1, 1));
    let (webhooks, others) = kinds(10, 10).await;
    assert!(webhooks == 1 && others >= 1, "{webhooks} {others}");
}

#[tokio::test]
async fn a_transaction_counts_for_one_order_only() {
    let store = SqliteStore::in_memory().unwrap();
    let (_, first) = pushed(&store, "123456", Scene::Native).await;
    let (other, second) = pushed(&store, "654321", Scene::Native).await;
    assert!(store.settle(told(&first, "T1"), policies(), NOW).await.unwrap().is_some());
    let strange = store.settle(told(&second, "T1"), policies(), NOW).await.unwrap();
    assert!(strange.is_none(), "the gateway took T1 once and cannot have taken it twice");
    let other = store.find(Find::Id(other.id)).await.unwrap().unwrap();
    assert_eq!((&other.state, other.version), (&State::Pending, 1));
    assert!(store.settle(told(&second, "T2"), policies(), NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn refunds_are_kept_and_never_more_than_was_paid() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, wx) = pushed(&store, "123456", Scene::Native).await;
    let (_, ali) = pushed(&store, "123456", Scene::QrCode).await;
    let asked = |number: &str, amount| {
        Event::RefundAsked(RefundWanted {
            number: RefundNumber::new(number).unwrap(),
            amount: Fen::new(amount).unwrap(),
            reason: Some("退货".to_owned()),
            transaction_id: None,
        })
    };
    let done = |number: &str| Event::RefundTold {
        out_refund_no: OutRefundNo::new(number).unwrap(),
        standing: RefundStanding::Succeeded { at: Some(NOW.plus(7)) },
    };
    let mut refused = Vec::new();
    for event in [
        money(&wx, "T1", 100),
        asked("A", 60),
        asked("B", 41),
        money(&ali, "T2", 100),
        done("123456_r1"),
        done("123456_r2"),
        asked("C", 40),
        asked("D", 1),
    ] {
        let applied = store.apply(order.id, event, policies(), NOW).await.unwrap();
        refused.extend(applied.outcome.err());
        assert_eq!(store.find(Find::Id(order.id)).await.unwrap().unwrap(), applied.order, "as saved");
    }
    assert_eq!(refused, [Refused::RefundTooMuch; 2]);
    let events = store.events(MerchantId::new("mall").unwrap(), 0, 100).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["order.paid", "payment.duplicate", "refund.succeeded", "refund.succeeded"]);
    let last: serde_json::Value = serde_json::from_slice(&events[3].body).unwrap();
    assert_eq!(last["data"]["refunded_fee"], 60);
    assert_eq!(
        last["data"]["refunds"],
        serde_json::json!([
            { "refund_number": "A", "amount": 60, "state": "succeeded" },
        ])
    );
    assert_eq!(last["data"]["anomalies"][0]["refund_state"], "succeeded");
    let due = store.claim_tasks(NOW, 1, places(10, 10)).await.unwrap();
    let refunds: Vec<_> = due.iter().filter(|task| task.kind == TaskKind::Refund).collect();
    assert_eq!(refunds.len(), 3, "each has a task: {due:?}");
    // A notice about one makes it due at once, and is kept.
    let moved =
        Settle { change: Change::RefundMoved(OutRefundNo::new("123456_r3").unwrap()), ..told(&wx, "T1") };
    assert!(store.settle(moved, policies(), NOW).await.unwrap().is_some());
    let unknown =
        Settle { change: Change::RefundMoved(OutRefundNo::new("123456_r9").unwrap()), ..told(&wx, "T1") };
    assert!(store.settle(unknown, policies(), NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn a_code_that_cannot_be_closed_is_looked_at_twice_more() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, wx) = pushed(&store, "123456", Scene::Native).await;
    let (_, ali) = pushed(&store, "123456", Scene::QrCode).await;
    for trade in [&wx, &ali] {
        let closed = Event::AttemptClosed { trade: trade.clone() };
        store.apply(order.id, closed, policies(), NOW).await.unwrap();
    }
    let order = store.find(Find::Id(order.id)).await.unwrap().unwrap();
    let look = |trade| order.attempt(trade).unwrap().looks();
    assert_eq!(look(&wx), None, "WeChat closes for good");
    // A code nobody scanned ends by itself only; and our clock may be an hour ahead.
    let first = NOW.plus(50_000 + 360_000);
    assert_eq!(look(&ali), Some([first, first.plus(4_500_000)]));
}

/// A mall that has seen an id does not look at it again, so ids must not come twice with other content.
#[tokio::test]
async fn a_database_put_back_from_a_copy_makes_new_ids() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("shouyin.db"), folder.path().join("copy.db"));
    let store = SqliteStore::open(&path, "one").unwrap();
    let (order, wx) = pushed(&store, "123456", Scene::Native).await;
    drop(store);
    std::fs::copy(&path, &copy).unwrap();
    let mut ids = Vec::new();
    for (path, start) in [(&path, "two"), (&copy, "three")] {
        let store = SqliteStore::open(path, start).unwrap();
        store.apply(order.id, money(&wx, "T1", 100), policies(), NOW).await.unwrap();
        let events = store.events(MerchantId::new("mall").unwrap(), 0, 10).await.unwrap();
        ids.extend(events.into_iter().map(|event| event.event_id));
    }
    assert_eq!(ids, ["evt_two_1", "evt_three_1"]);
}

/// A refund that failed may be mended by a person at the gateway, whose notice then says so.
#[tokio::test]
async fn a_notice_about_a_failed_refund_makes_it_asked_about_again() {
    let store = SqliteStore::in_memory().unwrap();
    let (order, wx) = pushed(&store, "123456", Scene::Native).await;
    let asked = Event::RefundAsked(RefundWanted {
        number: RefundNumber::new("A").unwrap(),
        amount: Fen::new(60).unwrap(),
        reason: None,
        transaction_id: None,
    });
    let number = OutRefundNo::new("123456_r1").unwrap();
    let failed = Event::RefundTold {
        out_refund_no: number.clone(),
        standing: RefundStanding::Failed { code: "CHANGE".to_owned() },
    };
    for event in [money(&wx, "T1", 100), asked, failed] {
        store.apply(order.id, event, policies(), NOW).await.unwrap();
    }
    let refunds = async || {
        let places = shouyin::server::store::Places { others: 100, ..Default::default() };
        let due = store.claim_tasks(NOW, 1, places).await.unwrap();
        let mine: Vec<_> = due.into_iter().filter(|task| task.kind == TaskKind::Refund).collect();
        let count = mine.len();
        for task in mine {
            store.finish_task(task, TaskOutcome::Done(None), NOW).await.unwrap();
        }
        count
    };
    assert_eq!(refunds().await, 1, "the one that ended in the failure");
    let moved = Settle { change: Change::RefundMoved(number), ..told(&wx, "T1") };
    assert!(store.settle(moved, policies(), NOW).await.unwrap().is_some());
    assert_eq!(refunds().await, 1, "asked about again");
}
