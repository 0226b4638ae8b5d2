//! The bench: what is made once for many runs. The database is emptied for each of them, so that it need not
//! be migrated nor its statements be prepared again.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use super::oracle::Stored;
use super::wire::{Air, Half};
use crate::domain::id::{Channel, MerchantId, UnixMillis};
use crate::domain::order::OrderId;
use crate::domain::refund::Policy;
use crate::gateway::Merchant;
use crate::gateway::keys::Secret;
use crate::runtime::clock::Clock;
use crate::server::checkout::Checkout;
use crate::server::config::MerchantConfig;
use crate::server::merchants::{Member, Merchants};
use crate::server::store::StoreError;
use crate::server::store::sqlite::SqliteStore;

/// What is made once.
pub struct Bench {
    /// The database, in memory.
    pub store: Arc<SqliteStore>,
    merchant: MerchantId,
    /// Statements that empty the tables.
    wipes: Vec<String>,
}

impl Bench {
    /// Makes the database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new() -> Result<Self, StoreError> {
        let merchant = MerchantId::new("sim").map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let store = Arc::new(SqliteStore::in_memory()?);
        let wipes = store.examine(|connection| {
            // Everything of the store and of this file stays prepared.
            connection.set_prepared_statement_cache_capacity(256);
            // What refers to orders goes before them.
            let mut tables = connection.prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('meta', \
                 'refinery_schema_history') AND (name NOT LIKE 'sqlite_%' OR name = 'sqlite_sequence') \
                 ORDER BY name = 'orders'",
            )?;
            let wipes =
                tables.query_map([], |row| Ok(format!("DELETE FROM {}", row.get::<_, String>(0)?)))?;
            let wipes = wipes.collect::<Result<Vec<_>, _>>()?;
            let first = ["DROP TRIGGER IF EXISTS rig", "BEGIN IMMEDIATE"].map(str::to_owned);
            Ok(first.into_iter().chain(wipes).chain(["COMMIT".to_owned()]).collect())
        })?;
        Ok(Self { store, merchant, wipes })
    }

    /// Empties the database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn clear(&self) -> Result<(), StoreError> {
        self.store.examine(|connection| {
            for wipe in &self.wipes {
                connection.prepare_cached(wipe)?.execute([])?;
            }
            Ok(())
        })
    }

    /// The merchant of a run.
    pub fn config(&self, policy: Policy) -> MerchantConfig {
        MerchantConfig {
            id: self.merchant.clone(),
            name: "Simulated".to_owned(),
            support: None,
            locale: "en".to_owned(),
            hosts: Vec::new(),
            api_key_sha256: Vec::new(),
            webhook_url: url::Url::parse("http://mall.invalid/").ok(),
            webhook_secret: Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
            webhook_allow: Vec::new(),
            allowed_origins: Vec::new(),
            embed_origins: Vec::new(),
            return_after_s: None,
            anonymous_push_order: false,
            token_check_url: None,
            pad_pin: None,
            policy,
            wechat: None,
            alipay: None,
        }
    }

    /// Starts the service on the database as it is.
    pub fn open(&self, config: &Arc<MerchantConfig>, air: &Arc<Air>, clock: Clock) -> Checkout {
        let half = |channel| -> (Channel, Arc<dyn Merchant>) {
            (channel, Arc::new(Half::new(channel, air.clone())))
        };
        let halves = [half(Channel::Wx), half(Channel::Ali)];
        let member = Member::scripted(config.clone(), halves, air.clone(), air.clone());
        Checkout::new(
            self.store.clone(),
            Merchants::from_iter([member]),
            clock,
            b"simulation",
            "http://127.0.0.1".to_owned(),
        )
    }

    /// How many rows were changed since the database was made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn changes(&self) -> Result<u64, StoreError> {
        self.store.examine(|connection| Ok(connection.total_changes()))
    }

    /// The version of every order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn versions(&self) -> Result<Vec<(OrderId, i64)>, StoreError> {
        self.store.examine(|connection| {
            let mut query = connection.prepare_cached("SELECT id, version FROM orders ORDER BY id")?;
            let rows = query.query_map([], |row| Ok((OrderId(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// When the next task is due that is not done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_due(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.store.examine(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT min(max(due_at, coalesce(lease_until, due_at))) FROM tasks WHERE done_at IS NULL",
            )?;
            let due: Option<Option<i64>> = query.query_row([], |row| row.get(0)).optional()?;
            Ok(due.flatten().map(UnixMillis))
        })
    }

    /// Everything the mall is to be told, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events(&self) -> Result<Vec<Stored>, StoreError> {
        self.store.examine(|connection| {
            let mut query =
                connection.prepare_cached("SELECT event_id, order_id, kind, body FROM events ORDER BY id")?;
            let rows = query.query_map([], |row| {
                Ok(Stored { event_id: row.get(0)?, order: row.get(1)?, kind: row.get(2)?, body: row.get(3)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Does something to the database that the service would never do.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sabotage(&self, sql: &str) -> Result<(), StoreError> {
        self.store.examine(|connection: &Connection| Ok(connection.execute_batch(sql)?))
    }
}
