//! What happened, saved: an event given to its order, with the notice that brought it, in one transaction.
//! Never decides what an event does (`advance` does), never answers for what is not saved.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{insert_task, load_order_by_id, save_step};
use super::{Applied, Change, InboxRow, Policies, Settle, StoreError, TaskKind, Verdict};
use crate::domain::id::{Channel, MerchantId, OutRefundNo, OutTradeNo, TradeId, UnixMillis};
use crate::domain::order::{Event, Order, OrderId, Payment, Refused, advance};
use crate::domain::refund::{Refund, RefundState};
use crate::runtime::crash::{self, Point};

/// Gives an event to an order.
pub fn apply(
    connection: &Connection,
    id: OrderId,
    event: Event,
    policies: &Policies,
    instance: &str,
    now: UnixMillis,
) -> Result<Applied, StoreError> {
    let before = load_order_by_id(connection, id)?;
    if let Event::Money(payment) = &event
        && counted_elsewhere(connection, &before, payment)?
    {
        return Ok(Applied { order: before, outcome: Err(Refused::CountedElsewhere) });
    }
    let policy = policies.of(&before.key.merchant);
    match advance(&before, event, policy, now) {
        Ok(step) => {
            save_step(connection, &before, &step, instance, now)?;
            Ok(Applied { order: step.order, outcome: Ok(()) })
        }
        Err(refused) => Ok(Applied { order: before, outcome: Err(refused) }),
    }
}

/// Gives a trusted notice to the order it names, and keeps it with its verdict.
pub fn settle(
    connection: &Connection,
    told: Settle,
    policies: &Policies,
    instance: &str,
    now: UnixMillis,
) -> Result<Option<Applied>, StoreError> {
    let Settle { account, trade, change, notice } = told;
    let found = match &change {
        Change::RefundMoved(number) => order_of_refund(connection, trade.channel, &account, number)?,
        Change::Event(_) | Change::Nothing => order_of_trade(connection, &account, &trade)?,
    };
    let Some(id) = found else {
        let note = Some("nothing of ours has this number".to_owned());
        insert_notice(connection, &InboxRow { verdict: Verdict::Unmatched, note, ..notice }, now)?;
        return Ok(None);
    };
    let applied = match change {
        Change::Event(event) => apply(connection, id, event, policies, instance, now)?,
        Change::RefundMoved(number) => {
            let order = load_order_by_id(connection, id)?;
            // What failed may have been mended by a person at the gateway; what succeeded is over.
            let failed = |refund: &Refund| matches!(refund.state, RefundState::Failed { .. });
            if order.refund_by_no(&number).is_some_and(failed) {
                let merchant = &order.key.merchant;
                insert_task(connection, TaskKind::Refund, merchant, id.0, number.as_str(), now)?;
            }
            connection
                .prepare_cached(
                    "UPDATE tasks SET due_at = min(due_at, ?1) WHERE order_id = ?2 AND kind = 'refund' \
                     AND subject = ?3 AND done_at IS NULL",
                )?
                .execute(params![now.0, id.0, number.as_str()])?;
            Applied { order, outcome: Ok(()) }
        }
        Change::Nothing => Applied { order: load_order_by_id(connection, id)?, outcome: Ok(()) },
    };
    if applied.outcome == Err(Refused::CountedElsewhere) {
        let note = Some(Refused::CountedElsewhere.to_string());
        insert_notice(connection, &InboxRow { verdict: Verdict::Unmatched, note, ..notice }, now)?;
        return Ok(None);
    }
    let row = InboxRow {
        verdict: if applied.outcome.is_ok() { Verdict::Applied } else { Verdict::Refused },
        note: applied.outcome.err().map(|refused| refused.to_string()),
        // Merchants may share an account: the row is its order's.
        merchant: Some(applied.order.key.merchant.clone()),
        ..notice
    };
    insert_notice(connection, &row, now)?;
    crash::point(Point::AcceptBeforeCommit);
    Ok(Some(applied))
}

fn order_of_trade(
    connection: &Connection,
    account: &str,
    trade: &TradeId,
) -> Result<Option<OrderId>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT order_id FROM attempts WHERE channel = ?1 AND account = ?2 AND out_trade_no = ?3",
    )?;
    let key = params![trade.channel.as_str(), account, trade.out_trade_no.as_str()];
    Ok(query.query_row(key, |row| row.get(0).map(OrderId)).optional()?)
}

fn order_of_refund(
    connection: &Connection,
    channel: Channel,
    account: &str,
    number: &OutRefundNo,
) -> Result<Option<OrderId>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT order_id FROM refunds WHERE channel = ?1 AND account = ?2 AND out_refund_no = ?3",
    )?;
    let key = params![channel.as_str(), account, number.as_str()];
    Ok(query.query_row(key, |row| row.get(0).map(OrderId)).optional()?)
}

/// Whether money was already counted for another order: no gateway takes it once for two. The unique key of
/// `payments` would refuse it anyway, but by failing the whole change, for ever.
fn counted_elsewhere(connection: &Connection, order: &Order, payment: &Payment) -> Result<bool, StoreError> {
    let account = order.attempt(&payment.trade).map_or("", |attempt| attempt.account.as_str());
    let mut query = connection.prepare_cached(
        "SELECT 1 FROM payments WHERE channel = ?1 AND account = ?2 AND transaction_id = ?3 \
         AND order_id <> ?4 LIMIT 1",
    )?;
    let channel = payment.trade.channel.as_str();
    let key = params![channel, account, payment.transaction_id.as_str(), order.id.0];
    Ok(query.query_row(key, |_| Ok(())).optional()?.is_some())
}

/// Keeps a notice with its verdict.
pub fn insert_notice(connection: &Connection, notice: &InboxRow, now: UnixMillis) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO inbox (at, channel, merchant_id, verdict, out_trade_no, delivery_id, note, headers, \
             raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            now.0,
            notice.channel.as_str(),
            notice.merchant.as_ref().map(MerchantId::as_str),
            notice.verdict.as_str(),
            notice.out_trade_no.as_ref().map(OutTradeNo::as_str),
            notice.delivery_id,
            notice.note,
            notice.headers,
            notice.raw,
        ])?;
    match notice.verdict {
        Verdict::Untrusted | Verdict::Foreign => make_room(connection),
        Verdict::Applied | Verdict::Refused | Verdict::Unmatched => Ok(()),
    }
}

/// Strangers may fill the table only so far: theirs that are older than the last so many notices go, a few
/// with each that comes, for the money waits meanwhile.
fn make_room(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM inbox WHERE id IN (SELECT id FROM inbox INDEXED BY untrusted_notices \
             WHERE verdict IN ('untrusted', 'foreign') AND id <= ?1 LIMIT 64)",
        )?
        .execute([connection.last_insert_rowid() - UNTRUSTED_KEPT])?;
    Ok(())
}

/// Of so many last notices the untrusted ones are kept, so that there are never more.
const UNTRUSTED_KEPT: i64 = 100_000;
