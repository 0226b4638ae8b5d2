//! The books as a value, and the emulator's face for programs in the same process: tests, load, torture.
//! Never a way round the books: everything here is decided, written down and told like anybody's call.
//! `GET /ledger` (contract.md 7) is [`Statement`] as JSON.

use bytes::Bytes;
use http::Request;
use serde::{Serialize, Serializer};

use super::Emulator;
use super::control::Denied;
use super::faults::Fault;
use super::gateways::Signer;
use super::ledger::LedgerError;
use super::notices::{Notice, sign_notice};
use super::trades::{Book, Key, Record, Trade};
use crate::domain::id::{Channel, OutRefundNo, OutTradeNo, TransactionId, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::time::rfc3339;
use crate::gateway::{GatewayRefundState, Stamp, TradeState};
use crate::runtime::clock::Clock;
use crate::runtime::random;

/// All books at one moment: the truth that tests compare with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Oldest first.
    pub trades: Vec<TradeLine>,
    /// Oldest first.
    pub refunds: Vec<RefundLine>,
    /// Oldest first.
    pub notices: Vec<NoticeLine>,
}

/// One trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TradeLine {
    /// Which gateway.
    pub channel: Channel,
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
    /// The gateway's number.
    pub transaction_id: Option<TransactionId>,
    /// What is due.
    pub total_fee: Fen,
    /// What went back so far.
    pub refunded_fee: Fen,
    /// Where it stands; a refunded one stays `SUCCESS`.
    pub state: TradeState,
}

/// One refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefundLine {
    /// Which gateway.
    pub channel: Channel,
    /// The merchant's number of the trade.
    pub out_trade_no: OutTradeNo,
    /// The merchant's number of the refund.
    pub out_refund_no: OutRefundNo,
    /// How much.
    pub refund_fee: Fen,
    /// Where it stands.
    pub state: GatewayRefundState,
}

/// One notice, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeLine {
    /// The same over all its deliveries.
    pub id: String,
    /// Which gateway.
    pub channel: Channel,
    /// `paid` or `refunded`.
    pub event: String,
    /// The merchant's number of the trade.
    pub out_trade_no: OutTradeNo,
    /// The merchant's number of the refund, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_refund_no: Option<OutRefundNo>,
    /// Every copy that was sent.
    pub attempts: Vec<Attempt>,
}

/// One copy of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// When it was sent.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: UnixMillis,
    /// The answer's HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Whether the answer counts as received.
    pub accepted: bool,
}

impl Statement {
    fn of(book: &Book, now: UnixMillis) -> Self {
        let trades = book.trades().map(|trade| TradeLine {
            channel: trade.key.channel,
            out_trade_no: trade.key.out_trade_no.clone(),
            transaction_id: trade.transaction_id.clone(),
            total_fee: trade.terms.total,
            refunded_fee: book.refunds().done(&trade.key, now),
            state: trade.state,
        });
        let refunds = book.refunds().all().iter().map(|refund| RefundLine {
            channel: refund.key.channel,
            out_trade_no: refund.key.out_trade_no.clone(),
            out_refund_no: refund.out_refund_no.clone(),
            refund_fee: refund.amount,
            state: refund.state_at(now),
        });
        let notices = book.notices().map(|notice| NoticeLine {
            id: notice.id.clone(),
            channel: notice.key.channel,
            event: notice.event.clone(),
            out_trade_no: notice.key.out_trade_no.clone(),
            out_refund_no: notice.out_refund_no.clone(),
            attempts: attempts(notice),
        });
        Self { trades: trades.collect(), refunds: refunds.collect(), notices: notices.collect() }
    }
}

impl Emulator {
    /// All books, as they are on disk now.
    ///
    /// # Errors
    /// [`LedgerError::Broken`]: what memory says is not what the disk says.
    pub async fn statement(&self) -> Result<Statement, LedgerError> {
        let statement = Statement::of(&self.book(), self.inner.clock.now());
        self.inner.ledger.settled().await?;
        Ok(statement)
    }

    /// One trade.
    pub fn trade(&self, key: &Key) -> Option<Trade> {
        self.book().trade(key).cloned()
    }

    /// Puts these faults in place of all others.
    ///
    /// # Errors
    /// A sentence that names what is wrong and what is known; then nothing changes.
    pub fn set_faults(&self, faults: Vec<Fault>) -> Result<(), String> {
        self.inner.faults.replace(faults)
    }

    /// Moves business time ahead by `ms`, never back, for everybody who shares the clock.
    ///
    /// # Errors
    /// [`LedgerError::Broken`].
    pub async fn advance_clock(&self, ms: i64) -> Result<(), LedgerError> {
        {
            let mut book = self.book();
            self.inner.clock.advance(ms);
            self.record(&mut book, Record::Clock { offset_ms: self.inner.clock.offset_ms() });
        }
        self.inner.ledger.settled().await?;
        self.inner.wake.notify_one();
        Ok(())
    }

    /// A wallet opens `code` (a code, a `prepay_id` or an app's order string) and the person pays; the
    /// notice then leaves in `copies` copies. With none it is never sent from here: the caller sends what
    /// [`Emulator::notice_of`] gives.
    ///
    /// # Errors
    /// [`Denied`], in the words for the person with the phone.
    pub async fn pay(&self, code: &str, copies: u32) -> Result<Trade, Denied> {
        self.wallet_pay(code, copies).await
    }

    /// The signed notice of a paid trade, addressed to its `notify_url`. Every call writes it anew, as the
    /// gateway does for every try. `None`: not paid, or the merchant gave no address.
    pub fn notice_of(&self, key: &Key) -> Option<Request<Bytes>> {
        let notice = self.book().paid_notice(key).cloned()?;
        self.signed(&notice)
    }

    /// The same of a refund, once it is done.
    pub fn refund_notice_of(&self, key: &Key, out_refund_no: &OutRefundNo) -> Option<Request<Bytes>> {
        let notice = {
            let book = self.book();
            let refund = book.refunds().find(key, out_refund_no)?;
            let done = refund.state_at(self.inner.clock.now()) != GatewayRefundState::Processing;
            book.refund_notice(refund).filter(|_| done).cloned()?
        };
        self.signed(&notice)
    }

    fn signed(&self, notice: &Notice) -> Option<Request<Bytes>> {
        let subject = self.book().subject(notice)?;
        let stamp = Stamp { now: Clock::real(), nonce: random::base62(32).ok()? };
        sign_notice(&self.inner.gateways, Signer::Gateway, notice, &subject, &stamp)
    }
}

fn attempts(notice: &Notice) -> Vec<Attempt> {
    let one = notice.deliveries.iter();
    one.map(|one| Attempt { at: one.at, status: one.status, accepted: one.accepted }).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_rfc3339<S: Serializer>(at: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}
