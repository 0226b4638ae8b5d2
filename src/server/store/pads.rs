//! Pads as rows: made, paired, shown an order, seen, removed. Never touches an order.

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::columns::{PADS, Reader};
use super::rows::{load_orders, one_row};
use super::{FindPad, NewPad, OnPad, PadChange, StoreError};
use crate::domain::id::{Channel, MerchantId, PadId, UnixMillis};
use crate::domain::order::{Order, OrderId};
use crate::domain::pad::Pad;

/// The most pads of a merchant.
const PADS_MAX: i64 = 100;
/// What is remembered of the orders that were on a pad.
const ORDERS_KEPT: i64 = 20;

/// Makes a pad that waits to be paired, and forgets those whose code ran out. `None`: the merchant has as
/// many as it may.
pub fn create(connection: &Connection, new: &NewPad, now: UnixMillis) -> Result<Option<Pad>, StoreError> {
    let merchant = new.merchant.as_str();
    connection
        .prepare_cached("DELETE FROM pads WHERE merchant_id = ?1 AND code_until <= ?2")?
        .execute(params![merchant, now.0])?;
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM pads WHERE merchant_id = ?1")?
        .query_row([merchant], |row| row.get(0))?;
    if count >= PADS_MAX {
        return Ok(None);
    }
    connection
        .prepare_cached(
            "INSERT INTO pads (pad, merchant_id, code_hash, code_until, version) VALUES (?1, ?2, ?3, ?4, 1)",
        )?
        .execute(params![new.id.as_str(), merchant, new.code_hash, new.code_until.0])?;
    find(connection, &new.merchant, &FindPad::Id(new.id.clone()))
}

/// One pad of a merchant.
pub fn find(connection: &Connection, merchant: &MerchantId, by: &FindPad) -> Result<Option<Pad>, StoreError> {
    let (condition, value) = match by {
        FindPad::Id(pad) => ("WHERE merchant_id = ?1 AND pad = ?2", Value::Text(pad.to_string())),
        FindPad::Cookie(hash) => ("WHERE merchant_id = ?1 AND cookie_hash = ?2", Value::Blob(hash.to_vec())),
    };
    let values = [Value::Text(merchant.to_string()), value];
    Ok(load(connection, condition, &values)?.into_iter().next())
}

/// A merchant's pads with the orders that were put on them, oldest first.
pub fn list(connection: &Connection, merchant: &MerchantId) -> Result<Vec<OnPad>, StoreError> {
    let values = [Value::Text(merchant.to_string()), Value::Integer(PADS_MAX)];
    let pads = load(connection, "WHERE merchant_id = ?1 ORDER BY id LIMIT ?2", &values)?;
    // Two pads may show the same order.
    let on = "WHERE id IN (SELECT order_id FROM pads WHERE merchant_id = ?1)";
    let orders = load_orders(connection, on, &[Value::Text(merchant.to_string())])?;
    let with_order = |pad: Pad| {
        let order = orders.iter().find(|order| pad.order == Some(order.id)).cloned();
        OnPad { pad, order }
    };
    Ok(pads.into_iter().map(with_order).collect())
}

/// Pairs the pad whose code it is: the code is used up, the cookie is known from now on.
pub fn pair(
    connection: &Connection,
    merchant: &MerchantId,
    code_hash: [u8; 32],
    cookie_hash: [u8; 32],
    now: UnixMillis,
) -> Result<Option<Pad>, StoreError> {
    connection
        .prepare_cached(
            "UPDATE pads SET code_hash = NULL, code_until = NULL, cookie_hash = ?3, paired_at = ?4, \
               seen_at = ?4, version = version + 1 \
             WHERE merchant_id = ?1 AND code_hash = ?2 AND code_until > ?4",
        )?
        .execute(params![merchant.as_str(), code_hash, cookie_hash, now.0])?;
    find(connection, merchant, &FindPad::Cookie(cookie_hash))
}

/// Changes what a pad shows; with `seen` only if it still shows what was seen. The pad as it then is.
pub fn change(
    connection: &Connection,
    merchant: &MerchantId,
    id: &PadId,
    change: PadChange,
    seen: Option<i64>,
) -> Result<Option<Pad>, StoreError> {
    let Some(mut pad) = find(connection, merchant, &FindPad::Id(id.clone()))? else { return Ok(None) };
    let row = row_of(connection, id)?;
    match change {
        _ if seen.is_some_and(|version| version != pad.version) => return Ok(Some(pad)),
        // Said twice.
        PadChange::Show(order) if pad.order == Some(order) && pad.result_at.is_none() => {
            return Ok(Some(pad));
        }
        PadChange::Show(order) => {
            remember(connection, merchant, row, order)?;
            pad = Pad { order: Some(order), channel: None, result_at: None, ..pad };
        }
        PadChange::Clear => pad = Pad { order: None, channel: None, result_at: None, ..pad },
        PadChange::Choose(channel) => pad.channel = Some(channel),
    }
    pad.version += 1;
    let changed = connection
        .prepare_cached(
            "UPDATE pads SET order_id = ?2, channel = ?3, result_at = ?4, version = ?5 WHERE id = ?1",
        )?
        .execute(params![
            row,
            pad.order.map(|order| order.0),
            pad.channel.map(Channel::as_str),
            pad.result_at.map(|at| at.0),
            pad.version
        ])?;
    one_row(changed, "pads", row)?;
    Ok(Some(pad))
}

/// The pad was heard of; with `result`, it shows the end of the order of this version.
pub fn seen(
    connection: &Connection,
    id: &PadId,
    result: Option<i64>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE pads SET seen_at = ?2, \
               result_at = CASE WHEN version = ?3 THEN coalesce(result_at, ?2) ELSE result_at END \
             WHERE pad = ?1 AND cookie_hash IS NOT NULL",
        )?
        .execute(params![id.as_str(), now.0, result])?;
    Ok(())
}

/// Removes a merchant's pad: its cookie opens nothing any more. `false`: there is none.
pub fn remove(connection: &Connection, merchant: &MerchantId, id: &PadId) -> Result<bool, StoreError> {
    let removed = connection
        .prepare_cached("DELETE FROM pads WHERE merchant_id = ?1 AND pad = ?2")?
        .execute([merchant.as_str(), id.as_str()])?;
    Ok(removed == 1)
}

/// The orders that were on a pad last, newest first.
pub fn orders(connection: &Connection, id: &PadId, limit: u32) -> Result<Vec<Order>, StoreError> {
    let last = "JOIN (SELECT o.order_id AS was, o.id AS at FROM pad_orders o JOIN pads p ON p.id = o.pad_id \
                WHERE p.pad = ?1 ORDER BY o.id DESC LIMIT ?2) ON was = orders.id ORDER BY at DESC";
    load_orders(connection, last, &[Value::Text(id.to_string()), Value::Integer(limit.into())])
}

fn remember(
    connection: &Connection,
    merchant: &MerchantId,
    row: i64,
    order: OrderId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM pad_orders WHERE pad_id = ?1 AND order_id = ?2")?
        .execute([row, order.0])?;
    // Another merchant's order is not there.
    let added = connection
        .prepare_cached(
            "INSERT INTO pad_orders (pad_id, merchant_id, order_id) \
             SELECT ?1, merchant_id, id FROM orders WHERE id = ?2 AND merchant_id = ?3",
        )?
        .execute(params![row, order.0, merchant.as_str()])?;
    one_row(added, "pad_orders", order.0)?;
    connection
        .prepare_cached(
            "DELETE FROM pad_orders WHERE pad_id = ?1 AND id NOT IN \
             (SELECT id FROM pad_orders WHERE pad_id = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute([row, ORDERS_KEPT])?;
    Ok(())
}

fn row_of(connection: &Connection, id: &PadId) -> Result<i64, StoreError> {
    let mut query = connection.prepare_cached("SELECT id FROM pads WHERE pad = ?1")?;
    Ok(query.query_row([id.as_str()], |row| row.get(0))?)
}

fn load(connection: &Connection, condition: &str, values: &[Value]) -> Result<Vec<Pad>, StoreError> {
    let mut query = connection.prepare_cached(&PADS.select(condition))?;
    let mut rows = query.query(rusqlite::params_from_iter(values))?;
    let mut pads = Vec::new();
    while let Some(row) = rows.next()? {
        let r = Reader { row, columns: &PADS };
        let time = |column| Ok::<_, StoreError>(r.get::<Option<i64>>(column)?.map(UnixMillis));
        let channel = r.get::<Option<String>>("channel")?.map(|word| word.parse::<Channel>());
        pads.push(Pad {
            id: r.text("pad", PadId::new)?,
            merchant: r.text("merchant_id", MerchantId::new)?,
            code_until: time("code_until")?,
            paired_at: time("paired_at")?,
            order: r.get::<Option<i64>>("order_id")?.map(OrderId),
            channel: channel.transpose().map_err(|error| r.bad("channel", error))?,
            result_at: time("result_at")?,
            seen_at: time("seen_at")?,
            version: r.get("version")?,
        });
    }
    Ok(pads)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rusqlite::trace::{TraceEvent, TraceEventCodes};

    use super::*;

    mod embedded {
        refinery::embed_migrations!("src/server/store/migrations/sqlite");
    }

    thread_local! {
        static STATEMENTS: Cell<u32> = const { Cell::new(0) };
    }

    #[expect(clippy::needless_pass_by_value, reason = "SQLite's signature")]
    fn count(event: TraceEvent<'_>) {
        if let TraceEvent::Stmt(..) = event {
            STATEMENTS.set(STATEMENTS.get() + 1);
        }
    }

    /// A merchant with so many pads, each with an order of its own that somebody began to pay.
    fn shop(pads: u32) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        embedded::migrations::runner().run(&mut connection).unwrap();
        for n in 1..=pads {
            connection
                .execute_batch(&format!(
                    "INSERT INTO orders (id, merchant_id, order_type, order_number, title, total_fee, \
                       created_at, state, version, token_hash, page_hash) \
                     VALUES ({n}, 'm', 'Order', '{n}', 'Tea', 100, 1, 'pending', 1, x'01{n:04}', \
                       x'02{n:04}'); \
                     INSERT INTO attempts (order_id, merchant_id, channel, scene, account, out_trade_no, \
                       request, opened_at, expires_at, state) \
                     VALUES ({n}, 'm', 'wx', 'NATIVE', 'a', 'T{n:05}', '{{}}', 1, 9, 'opening'); \
                     INSERT INTO pads (id, pad, merchant_id, cookie_hash, paired_at, order_id, version) \
                     VALUES ({n}, 'pad{n:019}', 'm', x'03{n:04}', 1, {n}, 2); \
                     INSERT INTO pad_orders (pad_id, merchant_id, order_id) VALUES (1, 'm', {n});"
                ))
                .unwrap();
        }
        connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(count)).unwrap();
        connection
    }

    /// What it read, and how many statements that took.
    fn counted<T>(work: impl FnOnce() -> Result<Vec<T>, StoreError>) -> (Vec<T>, u32) {
        STATEMENTS.set(0);
        let read = work().unwrap();
        (read, STATEMENTS.get())
    }

    #[test]
    fn lists_take_as_many_queries_for_many_pads_as_for_few() {
        let merchant = MerchantId::new("m").unwrap();
        let pad = PadId::new(format!("pad{:019}", 1)).unwrap();
        for pads in [2, 40] {
            let connection = shop(pads);
            let (listed, queries) = counted(|| list(&connection, &merchant));
            assert_eq!(queries, 5, "pads, orders, attempts, payments, refunds");
            let numbers = (1..=pads).map(|n| (n.to_string(), format!("T{n:05}")));
            let seen = listed.iter().map(|on| {
                let order = on.order.as_ref().unwrap();
                (order.key.number.to_string(), order.attempts[0].out_trade_no.to_string())
            });
            assert!(seen.eq(numbers), "{listed:?}");
            let (last, queries) = counted(|| orders(&connection, &pad, 20));
            assert_eq!(queries, 4, "orders, attempts, payments, refunds");
            let newest = (1..=pads).rev().take(20).map(|n| n.to_string());
            assert!(last.iter().map(|order| order.key.number.to_string()).eq(newest), "{last:?}");
        }
    }
}
