//! The oracle is awake: a right world passes, and one thing wrong is found, for each invariant.

use super::*;

fn sighting(version: i64, state: &str, paid: i64, refunded: i64) -> Sighting {
    Sighting {
        order_number: "A".to_owned(),
        version,
        state: state.to_owned(),
        paid_fee: paid,
        refunded_fee: refunded,
    }
}

fn event(id: &str, kind: &str, byte: u8, sighting: Sighting) -> Event {
    Event { id: id.to_owned(), kind: kind.to_owned(), hash: [byte; 32], sighting }
}

fn heard(kind: &str, byte: u8) -> Told {
    Told {
        kind: kind.to_owned(),
        number: "A".to_owned(),
        hash: [byte; 32],
        times: 2,
        altered: 0,
        first_at: crate::domain::id::UnixMillis(0),
    }
}

fn trade(channel: &str, number: &str, transaction: &str) -> Trade {
    Trade {
        channel: channel.to_owned(),
        out_trade_no: number.to_owned(),
        transaction_id: Some(transaction.to_owned()),
        total_fee: 100,
        refunded_fee: 0,
        state: "SUCCESS".to_owned(),
    }
}

/// An order paid at WeChat, paid again at Alipay without a notice, the second given back, and 30 fen of
/// the first.
fn right() -> Evidence {
    let refund = |channel: &str, number: &str, fee| GatewayRefund {
        channel: channel.to_owned(),
        out_trade_no: number.to_owned(),
        out_refund_no: format!("{number}_r1"),
        refund_fee: fee,
    };
    let attempt = |channel: &str, number: &str| Attempt {
        channel: channel.to_owned(),
        out_trade_no: number.to_owned(),
    };
    let order = Order {
        number: "A".to_owned(),
        state: "paid".to_owned(),
        version: 4,
        paid_fee: 100,
        refunded_fee: 30,
        attempts: vec![attempt("wx", "A"), attempt("ali", "A_1")],
        payments: vec![Payment { channel: "wx".to_owned(), transaction_id: "420".to_owned(), fee: 100 }],
        refunds: vec![Refund { amount: 30, state: "succeeded".to_owned() }],
        anomalies: vec![Anomaly {
            kind: "duplicate".to_owned(),
            channel: "ali".to_owned(),
            transaction_id: "2026".to_owned(),
            fee: 100,
            refund_state: Some("succeeded".to_owned()),
        }],
    };
    let notice = Notice {
        channel: "wx".to_owned(),
        event: "paid".to_owned(),
        out_trade_no: "A".to_owned(),
        attempts: vec![Delivery { accepted: false }, Delivery { accepted: true }],
    };
    Evidence {
        ledger: Ledger {
            trades: vec![trade("wx", "A", "420"), trade("ali", "A_1", "2026")],
            refunds: vec![refund("wx", "A", 30), refund("ali", "A_1", 100)],
            notices: vec![notice],
        },
        orders: vec![order],
        events: vec![
            event("e1", "order.paid", 1, sighting(2, "paid", 100, 0)),
            event("e2", "refund.succeeded", 2, sighting(4, "paid", 100, 30)),
            event("e3", "payment.duplicate", 3, sighting(4, "paid", 100, 30)),
            event("e4", "refund.succeeded", 4, sighting(4, "paid", 100, 30)),
        ],
        inbox: HashMap::from([(("wx".to_owned(), "A".to_owned(), "applied".to_owned()), 1)]),
        told: BTreeMap::from([
            ("e1".to_owned(), heard("order.paid", 1)),
            ("e2".to_owned(), heard("refund.succeeded", 2)),
            ("e3".to_owned(), heard("payment.duplicate", 3)),
            ("e4".to_owned(), heard("refund.succeeded", 4)),
        ]),
        sightings: vec![vec![sighting(1, "pending", 0, 0), sighting(2, "paid", 100, 0)]],
    }
}

#[test]
fn a_right_world_passes_and_everything_was_looked_at() {
    for finding in judge(&right()) {
        assert!(finding.broken.is_empty(), "{finding:?}");
        assert!(finding.looked > 0, "{finding:?}");
    }
}

#[test]
fn one_thing_wrong_is_found() {
    type Wrong = fn(&mut Evidence);
    let cases: [(&str, &str, Wrong); 28] = [
        ("I1", "1 notices of wx A were answered with success and 0", |e| e.inbox.clear()),
        ("I1", "2 notices of wx A were answered with success and 1", |e| {
            e.ledger.notices[0].attempts.push(Delivery { accepted: true });
        }),
        ("I1", "shows nothing", |e| e.orders[0].payments.clear()),
        ("I2", "is silent", |e| e.ledger.trades.push(trade("ali", "B", "77"))),
        ("I2", "stands here with 99", |e| e.orders[0].payments[0].fee = 99),
        ("I2", "2 times", |e| {
            let anomaly = e.orders[0].anomalies[0].clone();
            e.orders[0].anomalies.push(anomaly);
        }),
        ("I2", "not at the gateway", |e| e.ledger.trades[1].state = "NOTPAY".to_owned()),
        ("I3", "with 2 payments", |e| {
            let payment = e.orders[0].payments[0].clone();
            e.orders[0].payments.push(payment);
        }),
        ("I3", "with 2 order.paid", |e| {
            e.told.insert("e9".to_owned(), heard("order.paid", 1));
        }),
        ("I3", "with 0 order.paid", |e| {
            e.told.remove("e1");
            e.events.remove(0);
        }),
        ("I3", "is closed with 1 payments", |e| e.orders[0].state = "closed".to_owned()),
        ("I4", "never came", |e| drop(e.told.remove("e2"))),
        ("I4", "other bytes 1 times", |e| e.told.get_mut("e1").unwrap().altered = 1),
        ("I4", "/rest/events shows", |e| e.events[1].hash = [9; 32]),
        ("I4", "in no list", |e| drop(e.events.remove(1))),
        ("I4", "deserves 2 refund.succeeded, there are 1", |e| {
            e.events.pop();
            e.told.remove("e4");
        }),
        ("I4", "deserves 1 payment.duplicate, there are 0", |e| {
            e.events.remove(2);
            e.told.remove("e3");
        }),
        ("I4", "deserves 1 order.closed, there are 0", |e| e.orders[0].state = "closed".to_owned()),
        ("I5", "was 2, then 1", |e| e.sightings[0].reverse()),
        ("I5", "ends at 3", |e| e.orders[0].version = 3),
        ("I5", "went from", |e| e.sightings[0].push(sighting(3, "pending", 100, 0))),
        ("I5", "went from", |e| e.sightings[0].push(sighting(2, "paid", 100, 30))),
        ("I6", "is unknown", |e| e.orders[0].anomalies.clear()),
        ("I7", "refunded twice", |e| {
            let refund = e.ledger.refunds[0].clone();
            e.ledger.refunds.push(refund);
        }),
        ("I7", "given back here", |e| e.orders[0].anomalies[0].refund_state = None),
        ("I7", "given back here", |e| {
            (e.ledger.refunds[0].refund_fee, e.ledger.refunds[1].refund_fee) = (100, 30);
        }),
        ("I7", "is of no order", |e| e.ledger.refunds[0].out_trade_no = "B".to_owned()),
        ("I7", "130 refunded of 100", |e| {
            e.orders[0].refunds.push(Refund { amount: 100, state: "processing".to_owned() });
        }),
    ];
    for (name, words, wrong) in cases {
        let mut evidence = right();
        wrong(&mut evidence);
        let findings = judge(&evidence);
        let finding = findings.iter().find(|finding| finding.name == name).unwrap();
        assert!(finding.broken.iter().any(|text| text.contains(words)), "{name} {words}: {finding:?}");
    }
}
