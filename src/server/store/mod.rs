//! What can be asked of storage: a few whole transactions, nothing smaller. Never lets a connection,
//! a closure or a half-done change out. Implementation: `sqlite`; schema: `migrations/`.

mod columns;
mod pads;
mod rows;
mod settle;
pub mod sqlite;
mod tasks;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use tasks::{Delivery, Endpoint, Mall, Outage, Places, Sent, StoredEvent, Then, Try};

use crate::domain::id::{
    Channel, MerchantId, OrderKey, OutRefundNo, OutTradeNo, PadId, Payer, Scene, TradeId, UnixMillis,
};
use crate::domain::order::{Event, Order, OrderId, Refused, Terms};
use crate::domain::pad::Pad;
use crate::domain::refund::{DuplicatePayment, LatePayment, Policy};

/// Why storage did not do what was asked. Nothing was changed, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Locked, full, closing or broken; the same request may work later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It cannot be opened as it is, and waiting does not help: only at the start.
    #[error("the store {problem}. {cure}")]
    Unusable {
        /// What is wrong; continues a sentence that begins with the key of the configuration.
        problem: String,
        /// What to do, without the full stop.
        cure: String,
    },
    /// A row contradicts itself or the code. Needs a human.
    #[error("inconsistent row: {table} {row}: {what}")]
    Inconsistent {
        /// Which table.
        table: &'static str,
        /// Which row.
        row: String,
        /// What is wrong with it.
        what: String,
    },
}

/// An order to be created.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Merchant, type and number.
    pub key: OrderKey,
    /// What the mall asks for.
    pub terms: Terms,
    /// SHA-256 of the order's API token.
    pub token_hash: [u8; 32],
    /// SHA-256 of the order's page capability.
    pub page_hash: [u8; 32],
}

/// How an order is looked up.
#[derive(Clone, Debug)]
pub enum Find {
    /// By our number.
    Id(OrderId),
    /// By the mall's.
    Key(OrderKey),
    /// By the SHA-256 of its API token.
    Token([u8; 32]),
    /// By the SHA-256 of its page capability.
    Page([u8; 32]),
    /// By one of its attempts.
    Trade {
        /// Which account at its gateway.
        account: String,
        /// Gateway and number.
        trade: TradeId,
    },
}

/// An attempt wanted by a push; its number is chosen in the transaction.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// How the shopper meets the gateway.
    pub scene: Scene,
    /// Whom it is for; `None`: whoever has its code.
    pub payer: Option<Payer>,
    /// The account at the gateway.
    pub account: String,
    /// The exact request, as the gateway layer wrote it.
    pub request: String,
    /// Until when its code may be shown.
    pub expires_at: UnixMillis,
}

/// What came of a push.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The order with the attempt.
    pub order: Order,
    /// The attempt.
    pub trade: TradeId,
}

/// What each merchant wants done with money that pays nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policies(Arc<BTreeMap<MerchantId, Policy>>);

impl Policies {
    /// Of these merchants.
    pub fn new(policies: impl IntoIterator<Item = (MerchantId, Policy)>) -> Self {
        Self(Arc::new(policies.into_iter().collect()))
    }

    /// A merchant's policy; of one that is no longer configured, everything waits for a person.
    pub fn of(&self, merchant: &MerchantId) -> Policy {
        let hold = Policy { late: LatePayment::Hold, duplicate: DuplicatePayment::Hold };
        self.0.get(merchant).copied().unwrap_or(hold)
    }
}

/// A trusted notice, and whose order it names.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The account at the gateway.
    pub account: String,
    /// Gateway and number.
    pub trade: TradeId,
    /// What it tells.
    pub change: Change,
    /// The notice itself. Verdict and note are written by the store.
    pub notice: InboxRow,
}

/// What a trusted notice tells.
#[derive(Clone, Debug)]
pub enum Change {
    /// Something that happened to the order.
    Event(Event),
    /// Something happened to a refund: its gateway is asked at once.
    RefundMoved(OutRefundNo),
    /// Nothing that we act on.
    Nothing,
}

/// What came of an event.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The order as it now is.
    pub order: Order,
    /// Whether the event contradicted it, in which case it is as it was.
    pub outcome: Result<(), Refused>,
}

/// A notice as it came, with what was thought of it.
#[derive(Clone, Debug)]
pub struct InboxRow {
    /// Which gateway's address it came to.
    pub channel: Channel,
    /// Whose it is, if known.
    pub merchant: Option<MerchantId>,
    /// What was thought of it. `settle` writes `applied`, `refused` or `unmatched` itself.
    pub verdict: Verdict,
    /// Our number in it, if read.
    pub out_trade_no: Option<OutTradeNo>,
    /// The gateway's id of the delivery: audit data.
    pub delivery_id: Option<String>,
    /// Why, in words.
    pub note: Option<String>,
    /// The headers, one a line; of an untrusted one only the beginning.
    pub headers: String,
    /// The body, byte for byte; of an untrusted one only the beginning.
    pub raw: Vec<u8>,
}

crate::domain::id::word_enum!(
    /// What was thought of a notice.
    Verdict {
        /// Trusted and given to the order (also when it changed nothing).
        Applied = "applied",
        /// Trusted, but it contradicts the order.
        Refused = "refused",
        /// Not to be trusted.
        Untrusted = "untrusted",
        /// Another merchant's or app's.
        Foreign = "foreign",
        /// Trusted, but no attempt has its number.
        Unmatched = "unmatched",
    }
);

crate::domain::id::word_enum!(
    /// What a worker must do.
    TaskKind {
        /// Send an event to the mall; subject: the event's id.
        Webhook = "webhook",
        /// Ask a gateway about an attempt; subject: its [`TradeId`].
        Query = "query",
        /// Query, close, query an attempt; subject: its [`TradeId`].
        Close = "close",
        /// Close the order if its time is up; no subject.
        Expire = "expire",
        /// Have a refund made and follow it to its end; subject: our number of it.
        Refund = "refund",
    }
);

/// An effect, claimed by a worker for a while.
#[derive(Clone, Debug)]
pub struct Task {
    /// The row.
    pub id: i64,
    /// What to do.
    pub kind: TaskKind,
    /// For whom.
    pub merchant: MerchantId,
    /// About which order.
    pub order: OrderId,
    /// About what; see [`TaskKind`].
    pub subject: String,
    /// How often it was claimed, this time included.
    pub tries: u32,
    /// Fences a result that comes after the lease ran out.
    pub lease: i64,
}

/// What became of a claimed task.
#[derive(Clone, Debug)]
pub enum TaskOutcome {
    /// Done, or given up with a note.
    Done(Option<String>),
    /// Again, not before then.
    Again(UnixMillis, Option<String>),
    /// Not tried at all: later, as if it had not been claimed.
    Postponed(UnixMillis),
    /// The mall was told, or could not be.
    Sent(Sent),
}

/// A pad to be made.
#[derive(Clone, Debug)]
pub struct NewPad {
    /// Its name.
    pub id: PadId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Hash of the code that pairs it.
    pub code_hash: [u8; 32],
    /// Until when that code is good.
    pub code_until: UnixMillis,
}

/// How a merchant's pad is looked up.
#[derive(Clone, Debug)]
pub enum FindPad {
    /// By its name.
    Id(PadId),
    /// By the hash of its cookie.
    Cookie([u8; 32]),
}

/// A pad, and the order that was put on it.
#[derive(Clone, Debug)]
pub struct OnPad {
    /// The pad.
    pub pad: Pad,
    /// The order, whether or not it is still shown.
    pub order: Option<Order>,
}

/// What is changed of what a pad shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadChange {
    /// This order of its merchant.
    Show(OrderId),
    /// Nothing.
    Clear,
    /// The same order, to be paid this way.
    Choose(Channel),
}

/// The storage of one service. Every method is one transaction.
pub trait Store: Send + Sync {
    /// Creates the order, or finds the one that has its key. The flag says whether it was created.
    fn create_order(
        &self,
        new: NewOrder,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(Order, bool), StoreError>>;

    /// Looks an order up.
    fn find(&self, by: Find) -> BoxFuture<'_, Result<Option<Order>, StoreError>>;

    /// A merchant's orders, newest first, `limit` at most, older than `before`, in `state` if given.
    fn list(
        &self,
        merchant: MerchantId,
        state: Option<&'static str>,
        before: Option<OrderId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Order>, StoreError>>;

    /// The live attempt of the scene, or a new one under the next free number.
    fn open_attempt(
        &self,
        id: OrderId,
        wanted: NewAttempt,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Result<Opened, Refused>, StoreError>>;

    /// Gives an event to an order and saves what follows.
    fn apply(
        &self,
        id: OrderId,
        event: Event,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Applied, StoreError>>;

    /// Gives a trusted notice to the order it names; state, notice and effects are one transaction. `None`:
    /// no order of ours has it, and only the notice was kept.
    fn settle(
        &self,
        told: Settle,
        policies: Policies,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Option<Applied>, StoreError>>;

    /// Records a notice that changes nothing else.
    fn record_notice(&self, notice: InboxRow, now: UnixMillis) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Claims due tasks for `lease_ms`, as many as there are places.
    fn claim_tasks(
        &self,
        now: UnixMillis,
        lease_ms: i64,
        places: Places,
    ) -> BoxFuture<'_, Result<Vec<Task>, StoreError>>;

    /// Says what became of a claimed task. A task whose lease went to another worker stays as it is.
    fn finish_task(
        &self,
        task: Task,
        outcome: TaskOutcome,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// After a start: nobody holds a lease any more, and every open attempt is due for a query within
    /// moments, in the order in which they were due before.
    fn resume(&self, now: UnixMillis) -> BoxFuture<'_, Result<(), StoreError>>;

    /// An event by its `webhook-id`.
    fn event(&self, event_id: String) -> BoxFuture<'_, Result<Option<StoredEvent>, StoreError>>;

    /// A merchant's events after a position, oldest first, `limit` at most.
    fn events(
        &self,
        merchant: MerchantId,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, StoreError>>;

    /// The last tries to tell an event, oldest first.
    fn deliveries(&self, event_id: String) -> BoxFuture<'_, Result<Vec<Try>, StoreError>>;

    /// How a merchant's mall fails now, if it does.
    fn endpoint(&self, merchant: MerchantId) -> BoxFuture<'_, Result<Option<Endpoint>, StoreError>>;

    /// Makes a merchant's event due now, also one that was delivered, and switches the mall's address on
    /// again. `false`: there is no such event.
    fn resend(
        &self,
        merchant: MerchantId,
        event_id: String,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Makes a pad. `None`: the merchant has as many as it may.
    fn create_pad(&self, new: NewPad, now: UnixMillis) -> BoxFuture<'_, Result<Option<Pad>, StoreError>>;

    /// A merchant's pads with the orders that were put on them, oldest first.
    fn pads(&self, merchant: MerchantId) -> BoxFuture<'_, Result<Vec<OnPad>, StoreError>>;

    /// One pad of a merchant.
    fn pad(&self, merchant: MerchantId, by: FindPad) -> BoxFuture<'_, Result<Option<Pad>, StoreError>>;

    /// Pairs the pad that waits for this code, once. `None`: there is none.
    fn pair_pad(
        &self,
        merchant: MerchantId,
        code_hash: [u8; 32],
        cookie_hash: [u8; 32],
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<Option<Pad>, StoreError>>;

    /// Changes what a merchant's pad shows; with `seen` only if that is still its version. The pad as it
    /// then is.
    fn change_pad(
        &self,
        merchant: MerchantId,
        pad: PadId,
        change: PadChange,
        seen: Option<i64>,
    ) -> BoxFuture<'_, Result<Option<Pad>, StoreError>>;

    /// A paired pad was heard of. With `result` it shows, in this version, the end of its order.
    fn pad_seen(
        &self,
        pad: PadId,
        result: Option<i64>,
        now: UnixMillis,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The orders that were on a pad last, newest first.
    fn pad_orders(&self, pad: PadId, limit: u32) -> BoxFuture<'_, Result<Vec<Order>, StoreError>>;

    /// Removes a merchant's pad. `false`: there is none.
    fn remove_pad(&self, merchant: MerchantId, pad: PadId) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Whether a transaction can be written now.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
