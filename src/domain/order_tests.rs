//! The order's rules: the table of `order_rules.txt`, and every short sequence of events against the
//! invariants of money. Never tests through anything but `advance`.

use super::*;
use crate::domain::id::{MerchantId, OrderNumber, OrderType, OutRefundNo, RefundNumber};
use crate::domain::refund::{RefundStanding, RefundState, RefundWanted};

const CREATED: UnixMillis = UnixMillis(1_000_000);
const EXPIRES: UnixMillis = UnixMillis(2_000_000);
const LATER: UnixMillis = UnixMillis(3_000_000);

/// `wx1` and `ali1` are both number 1, each at its gateway: the order's attempts must not mix them up.
fn trade(name: &str) -> TradeId {
    attempt(name).trade()
}

fn attempt(name: &str) -> Attempt {
    let scene = if name.starts_with("wx") { Scene::Native } else { Scene::QrCode };
    Attempt {
        out_trade_no: OutTradeNo::new(name.trim_start_matches(char::is_alphabetic)).unwrap(),
        scene,
        payer: None,
        account: "app:mch".to_owned(),
        request: "{}".to_owned(),
        opened_at: CREATED,
        expires_at: EXPIRES,
        state: AttemptState::Opening,
    }
}

fn fresh() -> Order {
    Order {
        id: OrderId(1),
        key: OrderKey {
            merchant: MerchantId::new("m").unwrap(),
            order_type: OrderType::Order,
            number: OrderNumber::new("1").unwrap(),
        },
        terms: Terms {
            title: Title::new("T").unwrap(),
            total: Fen::new(100).unwrap(),
            expires_at: Some(EXPIRES),
            return_url: None,
            buyer: None,
            attach: None,
            locale: None,
        },
        created_at: CREATED,
        state: State::Pending,
        version: 1,
        attempts: vec![attempt("wx1"), attempt("ali1")],
        anomalies: vec![],
        refunds: vec![],
    }
}

fn code() -> Code {
    Code { content: "code".to_owned(), prepay_id: None, until: None }
}

const POLICY: Policy = Policy { late: LatePayment::Refund, duplicate: DuplicatePayment::Refund };

/// The policy that a phrase ends with, `under hold` or `under accept`; without, money goes back.
fn policy(phrase: &str) -> (&str, Policy) {
    match phrase.split_once(" under ") {
        None => (phrase, POLICY),
        Some((rest, "hold")) => (rest, Policy { late: LatePayment::Hold, duplicate: DuplicatePayment::Hold }),
        Some((rest, "accept")) => (rest, Policy { late: LatePayment::Accept, ..POLICY }),
        Some((_, other)) => panic!("no such policy: {other}"),
    }
}

/// The event a phrase of the table stands for, and when it happens.
fn event(phrase: &str) -> (Event, UnixMillis) {
    let words: Vec<&str> = phrase.split_whitespace().collect();
    let fen = |text: &str| Fen::new(text.parse().unwrap()).unwrap();
    let refund = |number: &str, amount: &str, of: Option<&str>| {
        Event::RefundAsked(RefundWanted {
            number: RefundNumber::new(number).unwrap(),
            amount: fen(amount),
            reason: None,
            transaction_id: of.map(|id| TransactionId::new(id).unwrap()),
        })
    };
    let event = match words.as_slice() {
        ["open", name] | ["open", name, "again"] => Event::Opened(attempt(name)),
        ["open", name, "with", "other", "terms"] => {
            Event::Opened(Attempt { request: "{\"other\":1}".to_owned(), ..attempt(name) })
        }
        ["open", name, "for", payer] => {
            Event::Opened(Attempt { payer: Payer::new(*payer).ok(), ..attempt(name) })
        }
        ["ready", name] => Event::Ready { trade: trade(name), code: code() },
        ["refuse", name] => Event::Refused { trade: trade(name), code: "NOAUTH".to_owned() },
        ["closed", name] => Event::AttemptClosed { trade: trade(name) },
        ["close", "by", "merchant"] => Event::CloseAsked { cause: CloseCause::Merchant },
        ["close", "by", "time,", "early"] => {
            return (Event::CloseAsked { cause: CloseCause::Expired }, EXPIRES.plus(-1));
        }
        ["close", "by", "time"] => Event::CloseAsked { cause: CloseCause::Expired },
        ["money", name, amount, transaction] => Event::Money(Payment {
            trade: trade(name),
            transaction_id: TransactionId::new(*transaction).unwrap(),
            fee: fen(amount),
            paid_at: LATER,
        }),
        ["refund", number, amount] => refund(number, amount, None),
        ["refund", number, amount, "of", transaction] => refund(number, amount, Some(transaction)),
        [number, "is", standing] => Event::RefundTold {
            out_refund_no: OutRefundNo::new(*number).unwrap(),
            standing: match *standing {
                "absent" => RefundStanding::Absent,
                "processing" => RefundStanding::Processing,
                "failed" => RefundStanding::Failed { code: "NOTENOUGH".to_owned() },
                "done" => RefundStanding::Succeeded { at: None },
                other => panic!("no such standing: {other}"),
            },
        },
        other => panic!("no such event: {other:?}"),
    };
    (event, LATER)
}

/// Applies several events, with all their effects.
fn run(order: &Order, phrases: &str) -> Result<Step, Refused> {
    let mut step = Step::unchanged(order);
    for phrase in phrases.split(", ").map(str::trim) {
        // "close by time, early" holds the separator; join it back.
        let phrase = if phrase == "early" { continue } else { phrase };
        let phrase = if phrases.contains(", early") { phrases } else { phrase };
        let (phrase, policy) = policy(phrase);
        let (event, now) = event(phrase);
        let next = advance(&step.order, event, policy, now)?;
        step.effects.extend(next.effects);
        step.order = next.order;
    }
    Ok(step)
}

/// The order in a state of the table, reached through events only.
fn reach(name: &str) -> Order {
    let path = match name {
        "pending" => return fresh(),
        "pending+mismatch" => "money wx1 99 T1",
        "closing" => "close by merchant",
        "closed" => "close by merchant, closed wx1, closed ali1",
        "closed+late" => "close by merchant, closed wx1, closed ali1, money wx1 100 T1",
        "closed+late held" => "close by merchant, closed wx1, closed ali1, money wx1 100 T1 under hold",
        "paid" => "money wx1 100 T1",
        "paid+duplicate" => "money wx1 100 T1, money ali1 100 T2",
        "paid+duplicate held" => "money wx1 100 T1, money ali1 100 T2 under hold",
        "paid, refund asked" => "money wx1 100 T1, refund A 60",
        "paid, refund processing" => "money wx1 100 T1, refund A 60, 1_r1 is processing",
        "paid, refund failed" => "money wx1 100 T1, refund A 60, 1_r1 is failed",
        "paid, refund done" => "money wx1 100 T1, refund A 60, 1_r1 is done",
        other => panic!("no such state: {other}"),
    };
    run(&fresh(), path).unwrap().order
}

fn name_of(order: &Order) -> String {
    let mut name = match &order.state {
        State::Pending => "pending",
        State::Closing { .. } => "closing",
        State::Paid { .. } => "paid",
        State::Closed { .. } => "closed",
    }
    .to_owned();
    for anomaly in &order.anomalies {
        name = name + "+" + anomaly.kind.as_str();
    }
    for refund in &order.refunds {
        let state = match refund.state {
            RefundState::Asked => "asked",
            RefundState::Processing => "processing",
            RefundState::Failed { .. } => "failed",
            RefundState::Succeeded { .. } => "done",
        };
        name = format!("{name}, {} {state}", refund.number);
    }
    name
}

fn effects_of(step: &Step) -> String {
    let words = step.effects.iter().map(|effect| match effect {
        Effect::Webhook(kind) => kind.to_string(),
        Effect::Query { trade, .. } => format!("query {}{}", trade.channel, trade.out_trade_no),
        Effect::Close { trade } => format!("close {}{}", trade.channel, trade.out_trade_no),
        Effect::Refund { out_refund_no } => format!("refund {out_refund_no}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_line_of_the_table() {
    let mut lines = 0;
    for line in include_str!("order_rules.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [from, phrase, to, effects] = cells[..] else { panic!("not four cells: {line}") };
        let before = reach(from);
        let (got_to, got_effects) = match run(&before, phrase) {
            Ok(step) if step.order == before => ("=".to_owned(), effects_of(&step)),
            Ok(step) => (name_of(&step.order), effects_of(&step)),
            Err(refused) => ("refused".to_owned(), format!("{refused:?}")),
        };
        assert_eq!((got_to.as_str(), got_effects.as_str()), (to, effects), "{line}");
        lines += 1;
    }
    assert!(lines >= 45, "the table has {lines} lines");
}

/// Every sequence of up to five of these events: no state goes backwards, no money is silent or counted
/// twice, a repeated event changes nothing.
#[test]
fn every_short_sequence_keeps_the_invariants() {
    let alphabet = [
        "open wx2",
        "ready wx1",
        "refuse ali1",
        "money wx1 100 T1",
        "money ali1 100 T2",
        "money wx1 99 T1",
        "close by merchant",
        "close by time",
        "closed wx1",
        "closed ali1",
    ];
    let mut visited = 0_u32;
    let mut open = vec![(fresh(), 0_u32)];
    while let Some((order, depth)) = open.pop() {
        if depth == 5 {
            continue;
        }
        for phrase in alphabet {
            visited += 1;
            let (event, now) = event(phrase);
            let Ok(step) = advance(&order, event.clone(), POLICY, now) else { continue };
            check(&order, &event, &step);
            // "open wx2" holds the same terms each time, so repeating it is a repetition too.
            let again = advance(&step.order, event, POLICY, now).unwrap();
            assert_eq!(again.order, step.order, "{phrase} repeated changes the order");
            assert!(again.effects.is_empty(), "{phrase} repeated has effects");
            open.push((step.order, depth + 1));
        }
    }
    assert!(visited > 50_000, "only {visited} steps");
}

fn check(before: &Order, event: &Event, step: &Step) {
    let after = &step.order;
    assert!(after.version >= before.version);
    let visible =
        |o: &Order| (crate::domain::snapshot::state_word(&o.state), o.payment().cloned(), o.anomalies.len());
    assert_eq!(after.version > before.version, visible(before) != visible(after), "{event:?}");
    match (&before.state, &after.state) {
        (State::Paid { payment: a }, State::Paid { payment: b }) => assert_eq!(a, b),
        (State::Paid { .. }, _) => panic!("a paid order changed its state"),
        (State::Closed { .. }, to) => assert_eq!(to, &before.state),
        (State::Closing { .. }, State::Pending) => panic!("closing went back to pending"),
        (State::Pending | State::Closing { .. }, _) => {}
    }
    if let Event::Money(payment) = event {
        let counted = usize::from(after.payment() == Some(payment))
            + after.anomalies.iter().filter(|anomaly| anomaly.payment == *payment).count();
        assert_eq!(counted, 1, "money is neither silent nor counted twice: {after:?}");
    }
    let paid = step.effects.iter().filter(|e| **e == Effect::Webhook(WebhookKind::OrderPaid)).count();
    let became_paid = before.payment().is_none() && after.payment().is_some();
    assert_eq!(paid, usize::from(became_paid));
}

/// Codes of many payers stand side by side, but not without end; and nobody's own closes another's.
#[test]
fn payers_have_attempts_of_their_own() {
    let open = |order: &Order, n: usize, now| {
        let number = OutTradeNo::new(format!("m{n}")).unwrap();
        let payer = Payer::new(format!("198.51.100.{n}")).ok();
        let wanted =
            Attempt { out_trade_no: number, scene: Scene::Mweb, payer, opened_at: now, ..attempt("wx1") };
        advance(order, Event::Opened(wanted), POLICY, now)
    };
    let closed = |step: &Step| step.effects.iter().filter(|e| matches!(e, Effect::Close { .. })).count();
    let mut order = fresh();
    for n in 0..PAYERS_LATELY {
        let step = open(&order, n, CREATED).unwrap();
        // Nothing is closed by itself here, so the oldest are named again and again.
        assert_eq!(closed(&step), (n + 1).saturating_sub(PAYERS_MAX), "attempt {n}");
        order = step.order;
    }
    assert_eq!(open(&order, 99, CREATED), Err(Refused::TooManyAttempts));
    assert!(open(&order, 99, CREATED.plus(LATELY_MS)).is_ok());
    // One's own new one replaces one's own old one.
    let again = Event::Opened(Attempt { scene: Scene::Mweb, ..attempt("wx7") });
    let first = advance(&fresh(), again, POLICY, CREATED).unwrap().order;
    let second = Event::Opened(Attempt { scene: Scene::Mweb, ..attempt("wx8") });
    assert_eq!(closed(&advance(&first, second, POLICY, CREATED).unwrap()), 1);
}

/// A link that ends before its attempt is replaced by the next one, never by an older.
#[test]
fn a_link_is_renewed() {
    let code = |content: &str, until| Code { until: Some(until), content: content.to_owned(), ..code() };
    let ready = |order: &Order, code: &Code| {
        let event = Event::Ready { trade: trade("wx1"), code: code.clone() };
        advance(order, event, POLICY, CREATED).unwrap().order
    };
    let (first, second) = (code("first", CREATED.plus(1)), code("second", CREATED.plus(2)));
    let shown = |order: &Order| order.attempt(&trade("wx1")).and_then(Attempt::code).cloned();
    let order = ready(&fresh(), &first);
    let order = ready(&order, &second);
    assert_eq!(shown(&order), Some(second.clone()));
    assert_eq!(shown(&ready(&order, &first)), Some(second.clone()));
    assert!(second.is_good(CREATED.plus(1)) && !second.is_good(CREATED.plus(2)));
}

/// Two payments and the end of the order; a refund and everything that can be said of it. In any order.
const TALES: [[&str; 6]; 2] = [
    [
        "money wx1 100 T1",
        "money ali1 100 T2",
        "close by merchant",
        "closed wx1",
        "closed ali1",
        "refund A 60",
    ],
    [
        "money wx1 100 T1",
        "refund A 60",
        "1_r1 is processing",
        "1_r1 is done",
        "1_r1 is failed",
        "close by merchant",
    ],
];

/// All sequences of up to six different events: 1,957 for each tale, under each policy.
#[test]
fn no_sequence_of_six_goes_backwards() {
    for tale in TALES {
        for late in LatePayment::ALL {
            for duplicate in DuplicatePayment::ALL {
                let policy = Policy { late: *late, duplicate: *duplicate };
                let mut sequences = 0_u32;
                permute(&tale, &[], &fresh(), policy, &mut sequences);
                println!(
                    "{sequences} sequences of {tale:?}, late {late}, duplicate {duplicate}: none backwards"
                );
                assert_eq!(sequences, 1_957);
            }
        }
    }
}

/// Goes on with every event that did not happen yet.
fn permute(tale: &[&str; 6], so_far: &[&str], order: &Order, policy: Policy, sequences: &mut u32) {
    *sequences += 1;
    let money = so_far.iter().filter(|phrase| phrase.starts_with("money")).count();
    assert_eq!(order.money().count(), money, "{so_far:?}: money is silent or counted twice");
    for phrase in tale.iter().filter(|phrase| !so_far.contains(phrase)) {
        let (event, now) = event(phrase);
        let next = advance(order, event, policy, now).map_or_else(|_| order.clone(), |step| step.order);
        let path = [so_far, &[*phrase]].concat();
        not_backwards(order, &next, &path);
        permute(tale, &path, &next, policy, sequences);
    }
}

fn not_backwards(before: &Order, after: &Order, path: &[&str]) {
    let rank = |order: &Order| match order.state {
        State::Pending => 0,
        State::Closing { .. } => 1,
        State::Closed { .. } => 2,
        // Late money may pay a closed order, where the merchant wants that; nothing unpays one.
        State::Paid { .. } => 3,
    };
    assert!(rank(after) >= rank(before), "{path:?}: {:?} after {:?}", after.state, before.state);
    assert!(after.version >= before.version, "{path:?}");
    let standing = |refund: &Refund| match refund.state {
        RefundState::Asked => 0,
        RefundState::Processing => 1,
        RefundState::Failed { .. } => 2,
        RefundState::Succeeded { .. } => 3,
    };
    for refund in &before.refunds {
        let now = after.refund(&refund.number).unwrap_or_else(|| panic!("{path:?}: a refund is gone"));
        assert!(standing(now) >= standing(refund), "{path:?}: {:?} after {:?}", now.state, refund.state);
    }
    for money in after.money() {
        let back: i64 = after
            .refunds
            .iter()
            .filter(|refund| refund.is_of(money) && !matches!(refund.state, RefundState::Failed { .. }))
            .map(|refund| refund.amount.get())
            .sum();
        assert!(back <= money.fee.get(), "{path:?}: {back} fen back of {}", money.fee.get());
    }
}
