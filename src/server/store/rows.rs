//! Orders as rows: loading one whole, and saving what `advance` made of it. Never decides anything:
//! a row that does not fit the types is an error that names table, row and column.

use std::collections::HashMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{ATTEMPTS, Columns, ORDERS, PAYMENTS, REFUNDS, Reader};
use super::{NewOrder, StoreError, TaskKind};
use crate::domain::id::{
    Channel, MerchantId, OrderKey, OrderNumber, OrderType, OutRefundNo, OutTradeNo, Payer, RefundNumber,
    Scene, Title, TradeId, TransactionId, UnixMillis,
};
use crate::domain::order::{
    Anomaly, AnomalyKind, Attempt, AttemptState, CloseCause, Code, Effect, Order, OrderId, Payment, State,
    Step, Terms, WebhookKind,
};
use crate::domain::refund::{Refund, RefundState};
use crate::domain::snapshot::{Snapshot, state_word};
use crate::domain::time::rfc3339;

/// The orders that `condition` selects, each whole: in four queries, however many they are.
pub fn load_orders(
    connection: &Connection,
    condition: &str,
    values: &[Value],
) -> Result<Vec<Order>, StoreError> {
    let mut query = connection.prepare_cached(&ORDERS.select(condition))?;
    let mut rows = query.query(rusqlite::params_from_iter(values))?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        orders.push(load_order(&Reader { row, columns: &ORDERS })?);
    }
    let ids: Vec<i64> = orders.iter().map(|(order, _)| order.id.0).collect();
    let mut attempts = load_parts(connection, &ATTEMPTS, &ids, load_attempt)?;
    let mut payments = load_parts(connection, &PAYMENTS, &ids, load_payment)?;
    let mut refunds = load_parts(connection, &REFUNDS, &ids, load_refund)?;
    let whole = |(order, state): (Order, Loading)| {
        let id = order.id.0;
        let (mut paid, mut anomalies) = (None, Vec::new());
        for (kind, payment) in payments.remove(&id).unwrap_or_default() {
            match kind {
                None => paid = Some(payment),
                Some(kind) => anomalies.push(Anomaly { kind, payment }),
            }
        }
        Ok(Order {
            state: state.with(paid, id)?,
            attempts: attempts.remove(&id).unwrap_or_default(),
            anomalies,
            refunds: refunds.remove(&id).unwrap_or_default(),
            ..order
        })
    };
    orders.into_iter().map(whole).collect()
}

/// What belongs to these orders, by order, each in the order in which it came.
fn load_parts<T>(
    connection: &Connection,
    columns: &'static Columns,
    orders: &[i64],
    load: fn(&Reader<'_>) -> Result<T, StoreError>,
) -> Result<HashMap<i64, Vec<T>>, StoreError> {
    let mut parts = HashMap::<i64, Vec<T>>::new();
    // One is the rule, and is found without a list.
    let (condition, of) = match orders {
        [] => return Ok(parts),
        [one] => ("WHERE order_id = ?1 ORDER BY id", Value::Integer(*one)),
        many => {
            let list = many.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
            (
                "WHERE order_id IN (SELECT value FROM json_each(?1)) ORDER BY id",
                Value::Text(format!("[{list}]")),
            )
        }
    };
    let mut query = connection.prepare_cached(&columns.select(condition))?;
    let mut rows = query.query([of])?;
    while let Some(row) = rows.next()? {
        let r = Reader { row, columns };
        parts.entry(r.get("order_id")?).or_default().push(load(&r)?);
    }
    Ok(parts)
}

/// The order with this number.
pub fn load_order_by_id(connection: &Connection, id: OrderId) -> Result<Order, StoreError> {
    let found = load_orders(connection, "WHERE id = ?1", &[Value::Integer(id.0)])?;
    found.into_iter().next().ok_or_else(|| StoreError::Inconsistent {
        table: "orders",
        row: id.0.to_string(),
        what: "missing".to_owned(),
    })
}

/// What `orders` says of a state, before its payment is known.
enum Loading {
    Pending,
    Closing(CloseCause),
    Paid,
    Closed(UnixMillis, CloseCause),
}

impl Loading {
    fn of(r: &Reader<'_>) -> Result<Self, StoreError> {
        let cause = || r.word::<CloseCause>("close_cause");
        Ok(match r.get::<String>("state")?.as_str() {
            "pending" => Self::Pending,
            "closing" => Self::Closing(cause()?),
            "paid" => Self::Paid,
            "closed" => Self::Closed(UnixMillis(r.get("closed_at")?), cause()?),
            word => return Err(r.bad("state", word)),
        })
    }

    fn with(self, payment: Option<Payment>, order: i64) -> Result<State, StoreError> {
        let (word, payment) = match (self, payment) {
            (Self::Pending, None) => return Ok(State::Pending),
            (Self::Closing(cause), None) => return Ok(State::Closing { cause }),
            (Self::Paid, Some(payment)) => return Ok(State::Paid { payment }),
            (Self::Closed(at, cause), None) => return Ok(State::Closed { at, cause }),
            (Self::Pending, payment) => ("pending", payment),
            (Self::Closing(_), payment) => ("closing", payment),
            (Self::Paid, payment) => ("paid", payment),
            (Self::Closed(..), payment) => ("closed", payment),
        };
        let what = format!("state: {word} with payment {payment:?}");
        Err(StoreError::Inconsistent { table: "orders", row: order.to_string(), what })
    }
}

/// Without what stands in other tables.
fn load_order(r: &Reader<'_>) -> Result<(Order, Loading), StoreError> {
    let order = Order {
        id: OrderId(r.get("id")?),
        key: OrderKey {
            merchant: r.text("merchant_id", MerchantId::new)?,
            order_type: r.word::<OrderType>("order_type")?,
            number: r.text("order_number", OrderNumber::new)?,
        },
        terms: Terms {
            title: r.text("title", Title::new)?,
            total: r.fen("total_fee")?,
            expires_at: r.get::<Option<i64>>("expires_at")?.map(UnixMillis),
            return_url: r.get("return_url")?,
            buyer: r.get("buyer")?,
            attach: r.get("attach")?,
            locale: r.get("locale")?,
        },
        created_at: UnixMillis(r.get("created_at")?),
        state: State::Pending,
        version: r.get("version")?,
        attempts: Vec::new(),
        anomalies: Vec::new(),
        refunds: Vec::new(),
    };
    Ok((order, Loading::of(r)?))
}

fn load_attempt(r: &Reader<'_>) -> Result<Attempt, StoreError> {
    let state = match r.get::<String>("state")?.as_str() {
        "opening" => AttemptState::Opening,
        "ready" => AttemptState::Ready(r.text("code", |code| serde_json::from_str::<Code>(&code))?),
        "refused" => AttemptState::Refused { code: r.get("refused_code")? },
        "closed" => AttemptState::Closed,
        "paid" => AttemptState::Paid,
        word => return Err(r.bad("state", word)),
    };
    Ok(Attempt {
        out_trade_no: r.text("out_trade_no", OutTradeNo::new)?,
        scene: r.word::<Scene>("scene")?,
        payer: match r.get::<Option<String>>("payer")? {
            Some(text) => Some(Payer::new(text).map_err(|error| r.bad("payer", error))?),
            None => None,
        },
        account: r.get("account")?,
        request: r.get("request")?,
        opened_at: UnixMillis(r.get("opened_at")?),
        expires_at: UnixMillis(r.get("expires_at")?),
        state,
    })
}

/// Money; what is wrong with it, unless it paid the order.
fn load_payment(r: &Reader<'_>) -> Result<(Option<AnomalyKind>, Payment), StoreError> {
    let kind = match r.get::<String>("kind")?.as_str() {
        "paid" => None,
        _ => Some(r.word::<AnomalyKind>("kind")?),
    };
    let payment = Payment {
        trade: TradeId {
            channel: r.word::<Channel>("channel")?,
            out_trade_no: r.text("out_trade_no", OutTradeNo::new)?,
        },
        transaction_id: r.text("transaction_id", TransactionId::new)?,
        fee: r.fen("fee")?,
        paid_at: UnixMillis(r.get("paid_at")?),
    };
    Ok((kind, payment))
}

fn load_refund(r: &Reader<'_>) -> Result<Refund, StoreError> {
    let state = match r.get::<String>("state")?.as_str() {
        "asked" => RefundState::Asked,
        "processing" => RefundState::Processing,
        "failed" => RefundState::Failed { code: r.get("failed_code")? },
        "succeeded" => RefundState::Succeeded { at: UnixMillis(r.get("succeeded_at")?) },
        word => return Err(r.bad("state", word)),
    };
    Ok(Refund {
        number: r.text("refund_number", RefundNumber::new)?,
        out_refund_no: r.text("out_refund_no", OutRefundNo::new)?,
        trade: TradeId {
            channel: r.word::<Channel>("channel")?,
            out_trade_no: r.text("out_trade_no", OutTradeNo::new)?,
        },
        transaction_id: r.text("transaction_id", TransactionId::new)?,
        amount: r.fen("amount")?,
        reason: r.get("reason")?,
        asked_at: UnixMillis(r.get("asked_at")?),
        state,
    })
}

/// Inserts a new order unless its key is taken; says whether it did.
pub fn insert_order(connection: &Connection, new: &NewOrder, now: UnixMillis) -> Result<bool, StoreError> {
    let (key, terms) = (&new.key, &new.terms);
    let inserted = connection
        .prepare_cached(
            "INSERT INTO orders (merchant_id, order_type, order_number, title, total_fee, expires_at, \
             return_url, buyer, attach, locale, created_at, state, version, token_hash, page_hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending', 1, ?12, ?13) \
             ON CONFLICT (merchant_id, order_type, order_number) DO NOTHING",
        )?
        .execute(params![
            key.merchant.as_str(),
            key.order_type.as_str(),
            key.number.as_str(),
            terms.title.as_str(),
            terms.total.get(),
            terms.expires_at.map(|at| at.0),
            terms.return_url,
            terms.buyer,
            terms.attach,
            terms.locale,
            now.0,
            new.token_hash,
            new.page_hash,
        ])?;
    if inserted == 1
        && let Some(due) = terms.expires_at
    {
        insert_task(connection, TaskKind::Expire, &key.merchant, connection.last_insert_rowid(), "", due)?;
    }
    Ok(inserted == 1)
}

/// Saves what an event made of an order, with its effects; `before` is what was loaded.
pub fn save_step(
    connection: &Connection,
    before: &Order,
    step: &Step,
    instance: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let order = &step.order;
    if order.version < before.version {
        let what = format!("version {} after {}", order.version, before.version);
        return Err(StoreError::Inconsistent { table: "orders", row: order.id.0.to_string(), what });
    }
    save_state(connection, before, order)?;
    save_attempts(connection, before, order)?;
    if let Some(payment) = order.payment()
        && before.payment() != Some(payment)
    {
        insert_payment(connection, order, payment, "paid", now)?;
    }
    for anomaly in order.anomalies.iter().skip(before.anomalies.len()) {
        insert_payment(connection, order, &anomaly.payment, anomaly.kind.as_str(), now)?;
    }
    save_refunds(connection, before, order)?;
    for effect in &step.effects {
        save_effect(connection, order, effect, instance, now)?;
    }
    Ok(())
}

fn save_state(connection: &Connection, before: &Order, order: &Order) -> Result<(), StoreError> {
    if before.state == order.state && before.version == order.version {
        return Ok(());
    }
    let (word, cause, closed_at) = match &order.state {
        State::Closing { cause } => ("closing", Some(cause.as_str()), None),
        State::Closed { at, cause } => ("closed", Some(cause.as_str()), Some(at.0)),
        State::Pending | State::Paid { .. } => (state_word(&order.state), None, None),
    };
    let changed = connection
        .prepare_cached(
            "UPDATE orders SET state = ?1, close_cause = ?2, closed_at = ?3, version = ?4 \
             WHERE id = ?5 AND version = ?6",
        )?
        .execute(params![word, cause, closed_at, order.version, order.id.0, before.version])?;
    one_row(changed, "orders", order.id.0)
}

fn save_attempts(connection: &Connection, before: &Order, order: &Order) -> Result<(), StoreError> {
    for attempt in &order.attempts {
        let (word, code, refused) = match &attempt.state {
            AttemptState::Opening => ("opening", None, None),
            AttemptState::Ready(code) => ("ready", Some(json(code)?), None),
            AttemptState::Refused { code } => ("refused", None, Some(code)),
            AttemptState::Closed => ("closed", None, None),
            AttemptState::Paid => ("paid", None, None),
        };
        match before.attempt(&attempt.trade()) {
            Some(old) if old == attempt => {}
            Some(_) => {
                let changed = connection
                    .prepare_cached(
                        "UPDATE attempts SET state = ?1, code = coalesce(?2, code), refused_code = ?3 \
                         WHERE order_id = ?4 AND channel = ?5 AND out_trade_no = ?6 AND account = ?7",
                    )?
                    .execute(params![
                        word,
                        code,
                        refused,
                        order.id.0,
                        attempt.scene.channel().as_str(),
                        attempt.out_trade_no.as_str(),
                        attempt.account
                    ])?;
                one_row(changed, "attempts", order.id.0)?;
            }
            None => insert_attempt(connection, order, attempt, word)?,
        }
    }
    Ok(())
}

fn insert_attempt(
    connection: &Connection,
    order: &Order,
    attempt: &Attempt,
    word: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO attempts (order_id, merchant_id, channel, scene, account, out_trade_no, request, \
             opened_at, expires_at, state, payer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            order.id.0,
            order.key.merchant.as_str(),
            attempt.scene.channel().as_str(),
            attempt.scene.as_str(),
            attempt.account,
            attempt.out_trade_no.as_str(),
            attempt.request,
            attempt.opened_at.0,
            attempt.expires_at.0,
            word,
            attempt.payer.as_ref().map(Payer::as_str),
        ])?;
    Ok(())
}

fn insert_payment(
    connection: &Connection,
    order: &Order,
    payment: &Payment,
    kind: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let account = order.attempt(&payment.trade).map_or("", |attempt| attempt.account.as_str());
    connection
        .prepare_cached(
            "INSERT INTO payments (order_id, merchant_id, channel, account, out_trade_no, transaction_id, \
             kind, fee, paid_at, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            order.id.0,
            order.key.merchant.as_str(),
            payment.trade.channel.as_str(),
            account,
            payment.trade.out_trade_no.as_str(),
            payment.transaction_id.as_str(),
            kind,
            payment.fee.get(),
            payment.paid_at.0,
            now.0,
        ])?;
    Ok(())
}

fn save_refunds(connection: &Connection, before: &Order, order: &Order) -> Result<(), StoreError> {
    if order.refunds.is_empty() {
        return Ok(());
    }
    for refund in &order.refunds {
        let (word, failed_code, succeeded_at) = match &refund.state {
            RefundState::Asked => ("asked", None, None),
            RefundState::Processing => ("processing", None, None),
            RefundState::Failed { code } => ("failed", Some(code), None),
            RefundState::Succeeded { at } => ("succeeded", None, Some(at.0)),
        };
        match before.refund(&refund.number) {
            Some(old) if old == refund => {}
            Some(_) => {
                let changed = connection
                    .prepare_cached(
                        "UPDATE refunds SET state = ?1, failed_code = ?2, succeeded_at = ?3 \
                         WHERE order_id = ?4 AND refund_number = ?5",
                    )?
                    .execute(params![word, failed_code, succeeded_at, order.id.0, refund.number.as_str()])?;
                one_row(changed, "refunds", order.id.0)?;
            }
            None => insert_refund(connection, order, refund)?,
        }
    }
    // The sum stands beside the payment, so that the database itself refuses to give back more.
    for payment in order.money() {
        // More than the money can only stand there if it was told with a greater amount first; recording what
        // came in must not fail for that.
        let given_back = order.given_back(payment).min(payment.fee);
        let known = before.money().any(|money| money == payment);
        if given_back != before.given_back(payment).min(payment.fee) || !known {
            let kind = order.anomaly_of(payment).map_or("paid", AnomalyKind::as_str);
            let changed = connection
                .prepare_cached(
                    "UPDATE payments SET refunded_fee = ?1 \
                     WHERE order_id = ?2 AND channel = ?3 AND transaction_id = ?4 AND kind = ?5",
                )?
                .execute(params![
                    given_back.get(),
                    order.id.0,
                    payment.trade.channel.as_str(),
                    payment.transaction_id.as_str(),
                    kind,
                ])?;
            one_row(changed, "payments", order.id.0)?;
        }
    }
    Ok(())
}

fn insert_refund(connection: &Connection, order: &Order, refund: &Refund) -> Result<(), StoreError> {
    let account = order.attempt(&refund.trade).map_or("", |attempt| attempt.account.as_str());
    connection
        .prepare_cached(
            "INSERT INTO refunds (order_id, merchant_id, channel, account, out_trade_no, transaction_id, \
             refund_number, out_refund_no, amount, reason, asked_at, state) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'asked')",
        )?
        .execute(params![
            order.id.0,
            order.key.merchant.as_str(),
            refund.trade.channel.as_str(),
            account,
            refund.trade.out_trade_no.as_str(),
            refund.transaction_id.as_str(),
            refund.number.as_str(),
            refund.out_refund_no.as_str(),
            refund.amount.get(),
            refund.reason,
            refund.asked_at.0,
        ])?;
    Ok(())
}

fn save_effect(
    connection: &Connection,
    order: &Order,
    effect: &Effect,
    instance: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let merchant = &order.key.merchant;
    match effect {
        Effect::Webhook(kind) => {
            let event_id = insert_event(connection, order, *kind, instance, now)?;
            insert_task(connection, TaskKind::Webhook, merchant, order.id.0, &event_id, now)
        }
        Effect::Query { trade, due } => {
            insert_task(connection, TaskKind::Query, merchant, order.id.0, &trade.to_string(), *due)
        }
        Effect::Close { trade } => {
            insert_task(connection, TaskKind::Close, merchant, order.id.0, &trade.to_string(), now)
        }
        Effect::Refund { out_refund_no } => {
            insert_task(connection, TaskKind::Refund, merchant, order.id.0, out_refund_no.as_str(), now)
        }
    }
}

/// Writes the webhook's bytes once and for all: every try sends these.
fn insert_event(
    connection: &Connection,
    order: &Order,
    kind: WebhookKind,
    instance: &str,
    now: UnixMillis,
) -> Result<String, StoreError> {
    #[derive(serde::Serialize)]
    struct Body {
        r#type: &'static str,
        timestamp: String,
        data: Snapshot,
    }
    let body = Body { r#type: kind.as_str(), timestamp: rfc3339(now), data: Snapshot::for_merchant(order) };
    let next: i64 = connection
        .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM events")?
        .query_row([], |r| r.get(0))?;
    let event_id = format!("evt_{instance}_{next}");
    connection
        .prepare_cached(
            "INSERT INTO events (id, event_id, merchant_id, order_id, kind, version, body, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            next,
            event_id,
            order.key.merchant.as_str(),
            order.id.0,
            kind.as_str(),
            order.version,
            json(&body)?.into_bytes(),
            now.0,
        ])?;
    Ok(event_id)
}

/// One open task of a kind and subject is enough; a second one changes nothing.
pub fn insert_task(
    connection: &Connection,
    kind: TaskKind,
    merchant: &MerchantId,
    order: i64,
    subject: &str,
    due: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (kind, merchant_id, order_id, subject, due_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (kind, order_id, subject) WHERE done_at IS NULL DO NOTHING",
        )?
        .execute(params![kind.as_str(), merchant.as_str(), order, subject, due.0])?;
    Ok(())
}

/// Whether a number is taken at a gateway account.
pub fn number_taken(
    connection: &Connection,
    channel: Channel,
    account: &str,
    out_trade_no: &OutTradeNo,
) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM attempts WHERE channel = ?1 AND account = ?2 AND out_trade_no = ?3")?
        .query_row(params![channel.as_str(), account, out_trade_no.as_str()], |_| Ok(()))
        .optional()?
        .is_some())
}

/// A write that must have changed exactly one row.
pub fn one_row(changed: usize, table: &'static str, row: i64) -> Result<(), StoreError> {
    if changed == 1 {
        return Ok(());
    }
    Err(StoreError::Inconsistent { table, row: row.to_string(), what: format!("{changed} rows changed") })
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}
