//! What must hold, I1 to I8 (reliability.md 1.2): the emulator's ledger is the truth, and what the service
//! and the malls say is compared with it. Pure: it is given values, and its tests give it wrong ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;

use super::mall::{Hash, Told};
use super::table::{Row, thousands};

/// The emulator's `GET /ledger`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ledger {
    /// What was placed.
    pub trades: Vec<Trade>,
    /// What was given back.
    pub refunds: Vec<GatewayRefund>,
    /// What the merchant was told.
    pub notices: Vec<Notice>,
}

/// One trade at a gateway.
#[derive(Clone, Debug, Deserialize)]
pub struct Trade {
    pub channel: String,
    pub out_trade_no: String,
    pub transaction_id: Option<String>,
    pub total_fee: i64,
    pub refunded_fee: i64,
    pub state: String,
}

/// One refund at a gateway.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayRefund {
    pub channel: String,
    pub out_trade_no: String,
    pub out_refund_no: String,
    pub refund_fee: i64,
}

/// One notice, with its deliveries.
#[derive(Clone, Debug, Deserialize)]
pub struct Notice {
    pub channel: String,
    pub event: String,
    pub out_trade_no: String,
    pub attempts: Vec<Delivery>,
}

/// One delivery.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    /// Whether the gateway takes it as received.
    pub accepted: bool,
}

/// An order as the mall reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    #[serde(rename = "order_number")]
    pub number: String,
    pub state: String,
    pub version: i64,
    pub paid_fee: i64,
    pub refunded_fee: i64,
    pub attempts: Vec<Attempt>,
    pub payments: Vec<Payment>,
    pub refunds: Vec<Refund>,
    #[serde(default)]
    pub anomalies: Vec<Anomaly>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub channel: String,
    pub out_trade_no: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Payment {
    pub channel: String,
    pub transaction_id: String,
    pub fee: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Refund {
    pub amount: i64,
    pub state: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Anomaly {
    pub kind: String,
    pub channel: String,
    pub transaction_id: String,
    pub fee: i64,
    pub refund_state: Option<String>,
}

/// An event as the mall can read it afterwards.
#[derive(Clone, Debug)]
pub struct Event {
    /// The `webhook-id`.
    pub id: String,
    /// `order.paid`, …
    pub kind: String,
    /// Of its payload.
    pub hash: Hash,
    /// The order as it then was.
    pub sighting: Sighting,
}

/// What somebody saw of an order at some time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sighting {
    pub order_number: String,
    pub version: i64,
    pub state: String,
    pub paid_fee: i64,
    pub refunded_fee: i64,
}

/// A stored notice: channel, `out_trade_no`, verdict.
pub type Stored = (String, String, String);

/// Everything that is compared.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The truth.
    pub ledger: Ledger,
    /// `GET /rest/orders`.
    pub orders: Vec<Order>,
    /// `GET /rest/events`.
    pub events: Vec<Event>,
    /// The inbox: how many rows of each.
    pub inbox: HashMap<Stored, usize>,
    /// The malls' books.
    pub told: BTreeMap<String, Told>,
    /// What each reader saw, in the order it saw it.
    pub sightings: Vec<Vec<Sighting>>,
}

/// One invariant: what was looked at, and what is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `I1`, …
    pub name: &'static str,
    /// What must hold.
    pub what: &'static str,
    /// How many things were looked at.
    pub looked: usize,
    /// Those that are wrong, in words.
    pub broken: Vec<String>,
}

impl Finding {
    /// A row of the report.
    pub fn row(&self, experiment: &str) -> Row {
        let what = format!("{experiment}: {} {}", self.name, self.what);
        if self.looked == 0 && self.broken.is_empty() {
            return Row::told(what, "nothing to look at in this experiment");
        }
        let mut row = Row::none(what, "0 broken", &self.broken);
        row.seen = format!("{} ({} looked at)", row.seen, thousands(self.looked));
        row
    }
}

/// All of them in one row.
pub fn row(experiment: &str, evidence: &Evidence) -> Row {
    let mut broken = Vec::new();
    for finding in judge(evidence) {
        broken.extend(finding.broken.iter().map(|what| format!("{}: {what}", finding.name)));
    }
    Row::none(format!("{experiment}: I1-I7"), "0 broken", &broken)
}

/// Channel and number.
type Money<'a> = (&'a str, &'a str);
/// Channel, the gateway's number of the payment, fen.
type GivenBack<'a> = (&'a str, &'a str, i64);

/// The invariants that can be told from what is left. I8 has an experiment of its own.
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let by_trade: HashMap<Money<'_>, &Order> = evidence
        .orders
        .iter()
        .flat_map(|order| {
            order.attempts.iter().map(move |a| ((a.channel.as_str(), a.out_trade_no.as_str()), order))
        })
        .collect();
    vec![
        stored(evidence, &by_trade),
        nothing_silent(evidence),
        paid_once(evidence),
        told(evidence),
        never_back(evidence),
        without_notice(evidence, &by_trade),
        refunds(evidence, &by_trade),
    ]
}

fn shows(order: &Order, channel: &str, transaction_id: &str) -> bool {
    order.payments.iter().any(|p| p.channel == channel && p.transaction_id == transaction_id)
        || order.anomalies.iter().any(|a| a.channel == channel && a.transaction_id == transaction_id)
}

fn stored(evidence: &Evidence, by_trade: &HashMap<Money<'_>, &Order>) -> Finding {
    let trades: HashMap<Money<'_>, &Trade> = evidence
        .ledger
        .trades
        .iter()
        .map(|trade| ((trade.channel.as_str(), trade.out_trade_no.as_str()), trade))
        .collect();
    let mut answered: BTreeMap<Money<'_>, (usize, bool)> = BTreeMap::new();
    for notice in &evidence.ledger.notices {
        let accepted = notice.attempts.iter().filter(|one| one.accepted).count();
        if accepted > 0 {
            let all = answered.entry((&notice.channel, &notice.out_trade_no)).or_default();
            *all = (all.0 + accepted, all.1 || notice.event == "paid");
        }
    }
    let (mut looked, mut broken) = (0, Vec::new());
    for ((channel, out_trade_no), (accepted, paid)) in answered {
        looked += accepted;
        let name = format!("{channel} {out_trade_no}");
        let rows = |verdict: &str| {
            let row = (channel.to_owned(), out_trade_no.to_owned(), verdict.to_owned());
            evidence.inbox.get(&row).copied().unwrap_or_default()
        };
        // More may be stored: an answer can be lost on its way.
        let stored = rows("applied") + rows("refused");
        if stored < accepted {
            broken.push(format!(
                "{accepted} notices of {name} were answered with success and {stored} are stored"
            ));
        }
        let key = (channel, out_trade_no);
        let number = trades.get(&key).and_then(|trade| trade.transaction_id.as_deref()).unwrap_or_default();
        if paid && !by_trade.get(&key).is_some_and(|order| shows(order, key.0, number)) {
            broken.push(format!("a notice of {name} was answered with success and its order shows nothing"));
        }
    }
    Finding { name: "I1", what: "what was acknowledged is stored", looked, broken }
}

fn nothing_silent(evidence: &Evidence) -> Finding {
    let mut ours: HashMap<Money<'_>, Vec<i64>> = HashMap::new();
    for order in &evidence.orders {
        for payment in &order.payments {
            ours.entry((&payment.channel, &payment.transaction_id)).or_default().push(payment.fee);
        }
        // A mismatch is what somebody said of money; the money itself stands beside it.
        for anomaly in order.anomalies.iter().filter(|anomaly| anomaly.kind != "mismatch") {
            ours.entry((&anomaly.channel, &anomaly.transaction_id)).or_default().push(anomaly.fee);
        }
    }
    let (mut looked, mut broken, mut there) = (0, Vec::new(), HashSet::new());
    for trade in evidence.ledger.trades.iter().filter(|trade| trade.state == "SUCCESS") {
        looked += 1;
        let name = format!("{} {} of {} fen", trade.channel, trade.out_trade_no, trade.total_fee);
        let Some(number) = &trade.transaction_id else { continue };
        there.insert((trade.channel.as_str(), number.as_str()));
        match ours.get(&(trade.channel.as_str(), number.as_str())).map(Vec::as_slice) {
            Some([fee]) if *fee == trade.total_fee => {}
            Some([fee]) => broken.push(format!("{name} stands here with {fee} fen")),
            Some(several) => broken.push(format!("{name} stands here {} times", several.len())),
            None => broken.push(format!("{name} is silent here")),
        }
    }
    for (channel, number) in ours.keys().filter(|key| !there.contains(*key)) {
        broken.push(format!("{channel} {number} stands here and not at the gateway"));
    }
    Finding { name: "I2", what: "no money is silent or invented", looked, broken }
}

fn paid_once(evidence: &Evidence) -> Finding {
    let mut broken = Vec::new();
    let mut events: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    let read = evidence.events.iter().map(|event| (&event.kind, &event.sighting.order_number, &event.id));
    let heard = evidence.told.iter().map(|(id, told)| (&told.kind, &told.number, id));
    for (kind, number, id) in read.chain(heard) {
        if kind == "order.paid" {
            events.entry(number).or_default().insert(id);
        }
    }
    for order in &evidence.orders {
        let (number, payments) = (&order.number, order.payments.len());
        let told = events.get(number.as_str()).map_or(0, BTreeSet::len);
        let wanted = usize::from(order.state == "paid");
        if payments != wanted {
            broken.push(format!("order {number} is {} with {payments} payments", order.state));
        }
        if told != wanted {
            broken.push(format!("order {number} is {} with {told} order.paid", order.state));
        }
    }
    Finding { name: "I3", what: "paid once, told once", looked: evidence.orders.len(), broken }
}

fn told(evidence: &Evidence) -> Finding {
    let mut broken = Vec::new();
    for event in &evidence.events {
        match evidence.told.get(&event.id) {
            Some(told) if told.altered > 0 => {
                broken.push(format!("{} came with other bytes {} times", event.id, told.altered));
            }
            Some(told) if told.times == 0 || told.hash != event.hash => {
                broken.push(format!("{} came with other bytes than /rest/events shows", event.id));
            }
            Some(_) => {}
            None => broken.push(format!("{} of {} never came", event.id, event.sighting.order_number)),
        }
    }
    let known: HashSet<&str> = evidence.events.iter().map(|event| event.id.as_str()).collect();
    for id in evidence.told.keys().filter(|id| !known.contains(id.as_str())) {
        broken.push(format!("{id} came and is in no list"));
    }
    let mut kinds: HashMap<(&str, &str), usize> = HashMap::new();
    for event in &evidence.events {
        *kinds.entry((&event.sighting.order_number, &event.kind)).or_default() += 1;
    }
    for order in &evidence.orders {
        for (kind, wanted) in deserved(order) {
            let there = kinds.get(&(order.number.as_str(), kind)).copied().unwrap_or_default();
            if there != wanted {
                broken.push(format!("order {} deserves {wanted} {kind}, there are {there}", order.number));
            }
        }
    }
    Finding {
        name: "I4",
        what: "every event there must be is there and reached its mall",
        looked: evidence.events.len(),
        broken,
    }
}

/// The events that must stand in the list, by how the order ended. Of `order.paid`, I3 speaks.
fn deserved(order: &Order) -> Vec<(&'static str, usize)> {
    let anomalies = |kind: &str| order.anomalies.iter().filter(|one| one.kind == kind).count();
    let own = order.refunds.iter().filter(|one| one.state == "succeeded").count();
    let given_back = order.anomalies.iter().filter(|one| one.refund_state.as_deref() == Some("succeeded"));
    let mut all = vec![
        ("payment.duplicate", anomalies("duplicate")),
        ("payment.late", anomalies("late")),
        ("payment.mismatch", anomalies("mismatch")),
        ("refund.succeeded", own + given_back.count()),
    ];
    // Late money may have paid one that was closed before.
    if order.state != "paid" {
        all.push(("order.closed", usize::from(order.state == "closed")));
    }
    all
}

fn rank(state: &str) -> u8 {
    match state {
        "pending" => 0,
        // Late money may pay a closed order, where the merchant wants that.
        "closed" => 1,
        _ => 2,
    }
}

fn never_back(evidence: &Evidence) -> Finding {
    let mut broken = Vec::new();
    let mut looked = 0;
    for reader in &evidence.sightings {
        let mut last: HashMap<&str, i64> = HashMap::new();
        for one in reader {
            let before = last.insert(&one.order_number, one.version).unwrap_or(0);
            if one.version < before {
                broken.push(format!("order {} was {before}, then {}", one.order_number, one.version));
            }
        }
    }
    let mut all: HashMap<&str, Vec<Sighting>> = HashMap::new();
    let told = evidence.events.iter().map(|event| &event.sighting);
    for one in evidence.sightings.iter().flatten().chain(told) {
        all.entry(&one.order_number).or_default().push(one.clone());
    }
    for order in &evidence.orders {
        let seen = all.entry(&order.number).or_default();
        seen.push(Sighting {
            order_number: order.number.clone(),
            version: order.version,
            state: order.state.clone(),
            paid_fee: order.paid_fee,
            refunded_fee: order.refunded_fee,
        });
        if let Some(newer) = seen.iter().find(|one| one.version > order.version) {
            broken.push(format!("order {} ends at {}, was {}", order.number, order.version, newer.version));
        }
    }
    for (number, mut seen) in all {
        looked += seen.len();
        seen.sort_by_key(|one| one.version);
        for (one, next) in seen.iter().zip(seen.iter().skip(1)) {
            let back = rank(&next.state) < rank(&one.state)
                || next.paid_fee < one.paid_fee
                || next.refunded_fee < one.refunded_fee
                || (next.version == one.version && next != one);
            if back {
                broken.push(format!("order {number} went from {one:?} to {next:?}"));
            }
        }
    }
    Finding { name: "I5", what: "no state goes backwards", looked, broken }
}

fn without_notice(evidence: &Evidence, by_trade: &HashMap<Money<'_>, &Order>) -> Finding {
    let heard: HashSet<Money<'_>> = evidence
        .ledger
        .notices
        .iter()
        .filter(|notice| notice.attempts.iter().any(|one| one.accepted))
        .map(|notice| (notice.channel.as_str(), notice.out_trade_no.as_str()))
        .collect();
    let (mut looked, mut broken) = (0, Vec::new());
    for trade in evidence.ledger.trades.iter().filter(|trade| trade.state == "SUCCESS") {
        let key = (trade.channel.as_str(), trade.out_trade_no.as_str());
        if heard.contains(&key) {
            continue;
        }
        looked += 1;
        let number = trade.transaction_id.as_deref().unwrap_or_default();
        if !by_trade.get(&key).is_some_and(|order| shows(order, key.0, number)) {
            broken.push(format!("{} {} was paid without a notice and is unknown", key.0, key.1));
        }
    }
    Finding { name: "I6", what: "paid without a notice is known", looked, broken }
}

fn refunds(evidence: &Evidence, by_trade: &HashMap<Money<'_>, &Order>) -> Finding {
    let mut broken = Vec::new();
    let transactions: HashMap<Money<'_>, &str> = evidence
        .ledger
        .trades
        .iter()
        .filter_map(|trade| {
            Some(((trade.channel.as_str(), trade.out_trade_no.as_str()), trade.transaction_id.as_deref()?))
        })
        .collect();
    let mut at_gateway: HashMap<&str, Vec<GivenBack<'_>>> = HashMap::new();
    let mut numbers = HashSet::new();
    for refund in &evidence.ledger.refunds {
        let name = format!("{} {}", refund.channel, refund.out_refund_no);
        if !numbers.insert((refund.channel.as_str(), refund.out_refund_no.as_str())) {
            broken.push(format!("{name} was refunded twice"));
        }
        let key = (refund.channel.as_str(), refund.out_trade_no.as_str());
        let of = transactions.get(&key).copied().unwrap_or_default();
        match by_trade.get(&key) {
            Some(order) => at_gateway.entry(&order.number).or_default().push((key.0, of, refund.refund_fee)),
            None => broken.push(format!("{name} is of no order")),
        }
    }
    for trade in evidence.ledger.trades.iter().filter(|trade| trade.refunded_fee > trade.total_fee) {
        broken.push(format!(
            "{} of {} fen: {} refunded",
            trade.out_trade_no, trade.total_fee, trade.refunded_fee
        ));
    }
    for order in &evidence.orders {
        let number = &order.number;
        let made = |state: &str| state == "succeeded" || state == "processing";
        let own: Vec<i64> =
            order.refunds.iter().filter(|one| made(&one.state)).map(|one| one.amount).collect();
        let own_sum: i64 = own.iter().sum();
        if own_sum > order.paid_fee || order.refunded_fee > order.paid_fee {
            broken.push(format!("order {number}: {own_sum} refunded of {}", order.paid_fee));
        }
        let paid = order.payments.first();
        let mut here: Vec<GivenBack<'_>> = own
            .iter()
            .filter_map(|amount| {
                paid.map(|paid| (paid.channel.as_str(), paid.transaction_id.as_str(), *amount))
            })
            .collect();
        let given_back = order.anomalies.iter().filter(|one| one.refund_state.as_deref().is_some_and(made));
        here.extend(given_back.map(|one| (one.channel.as_str(), one.transaction_id.as_str(), one.fee)));
        let mut there = at_gateway.remove(number.as_str()).unwrap_or_default();
        here.sort_unstable();
        there.sort_unstable();
        if here != there {
            broken.push(format!("order {number}: given back here {here:?}, at the gateway {there:?}"));
        }
    }
    Finding {
        name: "I7",
        what: "refunds: never more, never twice",
        looked: evidence.ledger.refunds.len(),
        broken,
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
