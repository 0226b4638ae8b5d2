//! Telling the merchant of payments and refunds: each notice is sent until it is accepted or the gateway
//! gives up.
//! Never loses one: what is due stands in the ledger, and an attempt cut short by a crash is made again.
//! Schedules: gateways.md 1.6 (WeChat), 4.5 (Alipay), counted on the emulator's clock.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Emulator;
use super::faults::{Strike, halve, notice_points, unsign_notice};
use super::gateways::{Gateways, Signer};
use super::trades::{Key, Record};
use crate::domain::id::{Channel, OutRefundNo, UnixMillis};
use crate::domain::money::Fen;
use crate::gateway::{GatewayRefund, Stamp, Standing};
use crate::runtime::clock::Clock;
use crate::runtime::random;

/// One event that the merchant must learn of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The same over all deliveries.
    pub id: String,
    /// The trade it is about.
    pub key: Key,
    /// The refund it is about; `None`: the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_refund_no: Option<OutRefundNo>,
    /// What happened: `paid` or `refunded`.
    pub event: String,
    /// Where it goes.
    pub notify_url: String,
    /// How many copies leave at the first sending; none: it is not sent from here at all.
    pub copies: u32,
    /// When it is sent next; `None` once accepted or given up.
    pub next_at: Option<UnixMillis>,
    /// How often it was sent.
    pub rounds: u32,
    /// What became of every copy.
    pub deliveries: Vec<Delivery>,
}

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it was sent.
    pub at: UnixMillis,
    /// The answer's HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// Whether the gateway takes the answer as received.
    pub accepted: bool,
}

impl Emulator {
    /// Sends everything due now, each notice on its own, and what falls due meanwhile. Returns how
    /// many sendings there were.
    pub async fn deliver_due(&self) -> usize {
        let mut sendings = 0;
        loop {
            let due = self.book().claim_due(self.inner.clock.now(), AT_ONCE);
            if due.is_empty() {
                return sendings;
            }
            sendings += due.len();
            join_all(due.iter().map(|id| self.deliver(id))).await;
        }
    }

    /// Delivers for as long as it is polled; a slow receiver holds up nobody else. What is under way when
    /// it ends was not written down, so the next start sends it again.
    pub(super) async fn keep_delivering(&self) {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            let now = self.inner.clock.now();
            for id in self.book().claim_due(now, AT_ONCE.saturating_sub(under_way.len())) {
                let emulator = self.clone();
                under_way.spawn(async move { emulator.deliver(&id).await });
            }
            // Asked for before looking at the clock, so that nothing slips in between.
            let woken = self.inner.wake.notified();
            let next = self.book().next_due().filter(|_| under_way.len() < AT_ONCE);
            let wait = next.map(|at| u64::try_from(at.since(self.inner.clock.now())).unwrap_or_default());
            let wait = wait.map_or(IDLE, |ms| Duration::from_millis(ms).min(IDLE));
            // Woken or not: look again.
            drop(tokio::time::timeout(wait, woken).await);
        }
    }

    async fn deliver(&self, id: &str) {
        let known = {
            let book = self.book();
            let notice = book.notice(id).cloned();
            notice.and_then(|notice| Some((book.subject(&notice)?, notice)))
        };
        if let Some((subject, notice)) = known {
            let deliveries = self.send_round(&notice, &subject).await;
            let accepted = deliveries.iter().any(|delivery| delivery.accepted);
            let next_at = if accepted { None } else { notice.retry_at() };
            self.record(&mut self.book(), Record::Tried { id: id.to_owned(), deliveries, next_at });
        }
        if let Err(error) = self.inner.ledger.settled().await {
            tracing::error!(%error, "an attempt to deliver was not written down");
        }
        self.inner.delivered.notify_waiters();
        self.inner.wake.notify_one();
    }

    async fn send_round(&self, notice: &Notice, subject: &Subject) -> Vec<Delivery> {
        let strike = self.inner.faults.strike(&notice_points(notice.key.channel));
        let (copies, parallel) = match strike {
            Some(Strike::Duplicate { copies, parallel }) => (copies, parallel),
            _ if notice.rounds == 0 => (notice.copies, true),
            _ => (1, true),
        };
        match strike {
            Some(Strike::Drop) => {
                return vec![Delivery { at: self.inner.clock.now(), status: None, accepted: false }];
            }
            Some(Strike::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(Strike::Reorder(ms)) => {
                let overtaken = self.inner.delivered.notified();
                drop(tokio::time::timeout(Duration::from_millis(ms), overtaken).await);
            }
            _ => {}
        }
        let send = || self.send_copy(notice, subject, strike.as_ref());
        if parallel {
            return join_all((0..copies).map(|_| send())).await;
        }
        let mut deliveries = Vec::new();
        for _ in 0..copies {
            deliveries.push(send().await);
        }
        deliveries
    }

    async fn send_copy(&self, notice: &Notice, subject: &Subject, strike: Option<&Strike>) -> Delivery {
        let at = self.inner.clock.now();
        let mut delivery = Delivery { at, status: None, accepted: false };
        let Ok(nonce) = random::base62(32) else { return delivery };
        let stamp = Stamp { now: Clock::real(), nonce };
        let written = write_notice(&self.inner.gateways, notice, subject, strike, &stamp);
        let Some(request) = written else { return delivery };
        let sending = self.inner.transport.send(request);
        match tokio::time::timeout(ANSWER_WITHIN, sending).await {
            Ok(Ok(answer)) => {
                delivery.status = Some(answer.status().as_u16());
                delivery.accepted =
                    self.inner.gateways.of(notice.key.channel, Signer::Gateway).decode_ack(&answer);
            }
            Ok(Err(error)) => tracing::info!(notice = notice.id, %error, "notice not delivered"),
            Err(_) => tracing::info!(notice = notice.id, "notice not answered within 5 s"),
        }
        delivery
    }
}

impl Notice {
    /// When the round after this one is due: counted from when this one was, so that a clock moved
    /// ahead by a day brings a day's retries.
    fn retry_at(&self) -> Option<UnixMillis> {
        let steps: &[i64] = match self.key.channel {
            Channel::Wx => &WECHAT_RETRIES_S,
            Channel::Ali => &ALIPAY_RETRIES_S,
        };
        let step = steps.get(usize::try_from(self.rounds).ok()?)?;
        Some(self.next_at?.plus(step * 1000))
    }
}

/// What a notice tells.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// How the trade stands.
    Trade(Box<Standing>),
    /// A refund that is done, where the protocol has notices of their own for them.
    Refund(Box<GatewayRefund>),
}

impl Subject {
    /// The same with another amount, one fen more unless `wanted` says how much.
    fn of_amount(&self, wanted: Option<i64>) -> Self {
        let other = |fen: Fen| Fen::new(wanted.unwrap_or(fen.get() + 1)).unwrap_or(fen);
        match self.clone() {
            Self::Trade(told) => Self::Trade(Box::new(Standing { total: other(told.total), ..*told })),
            Self::Refund(told) => {
                Self::Refund(Box::new(GatewayRefund { amount: other(told.amount), ..*told }))
            }
        }
    }
}

/// A notice as `signer` writes it.
pub(super) fn sign_notice(
    gateways: &Gateways,
    signer: Signer,
    notice: &Notice,
    subject: &Subject,
    stamp: &Stamp,
) -> Option<Request<Bytes>> {
    let counterpart = gateways.of(notice.key.channel, signer);
    match subject {
        Subject::Trade(told) => Some(counterpart.encode_notice(told, &notice.notify_url, &notice.id, stamp)),
        Subject::Refund(told) => {
            counterpart.encode_refund_notice(told, &notice.notify_url, &notice.id, stamp)
        }
    }
}

fn write_notice(
    gateways: &Gateways,
    notice: &Notice,
    subject: &Subject,
    strike: Option<&Strike>,
    stamp: &Stamp,
) -> Option<Request<Bytes>> {
    let write = |signer, subject: &Subject| sign_notice(gateways, signer, notice, subject, stamp);
    match strike {
        Some(Strike::WrongAmount(value)) => write(Signer::Gateway, &subject.of_amount(*value)),
        Some(Strike::OtherMerchant) => write(Signer::OtherMerchant, subject),
        Some(Strike::Forged) => write(Signer::Forger, subject),
        Some(Strike::Unsigned) => write(Signer::Gateway, subject).map(unsign_notice),
        Some(Strike::Truncated) => {
            write(Signer::Gateway, subject).map(|request| request.map(|body| halve(&body)))
        }
        _ => write(Signer::Gateway, subject),
    }
}

/// gateways.md 1.6.
const WECHAT_RETRIES_S: [i64; 15] =
    [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];
/// gateways.md 4.5.
const ALIPAY_RETRIES_S: [i64; 7] = [240, 600, 600, 3600, 7200, 21_600, 54_000];
/// gateways.md 5, pitfall 23.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Notices under way at once: each holds a connection.
const AT_ONCE: usize = 512;
/// The longest nap, in case somebody else moves the clock.
const IDLE: Duration = Duration::from_secs(1);
