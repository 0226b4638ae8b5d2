//! The books of both gateways: trades, codes, notices. Decides what each call and each tap on the phone does.
//! Never does IO: a decision is a list of records, which the caller puts on disk before it answers.
//! The rules are those of gateways.md 1.2, 1.5, 4.4, 4.6, 4.9; who calls them: `protocol`, `control`.
//! Those of refunds: `refunds`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::draw::{delivery_id, digits, draw_code, draw_transaction_id};
use super::notices::{Delivery, Notice, Subject};
use super::refunds::{Refund, Refunds};
use crate::domain::id::{Channel, OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::order::Code;
use crate::gateway::{Answer, Call, Objection, Received, Standing, Terms, TradeState};
use crate::runtime::random::{self, NoRandomness};

/// One line of the ledger. What they add up to is [`Book`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A number was placed for the first time.
    Created {
        /// Everything known of it.
        trade: Box<Trade>,
    },
    /// Another code of a trade that was placed before.
    Coded {
        /// Which trade.
        key: Key,
        /// The code.
        code: Issued,
    },
    /// A wallet opened the code. At Alipay the trade exists from here on.
    Scanned {
        /// Which trade.
        key: Key,
        /// When.
        at: UnixMillis,
        /// Who holds the phone.
        payer: String,
        /// Alipay's number; WeChat gives one at payment.
        transaction_id: Option<TransactionId>,
    },
    /// The money moved; from here on there is a notice to send.
    Paid {
        /// Which trade.
        key: Key,
        /// When.
        at: UnixMillis,
        /// The gateway's number.
        transaction_id: TransactionId,
        /// What must be sent, if the merchant gave a `notify_url`.
        notice: Option<Box<Notice>>,
    },
    /// Closed unpaid.
    Closed {
        /// Which trade.
        key: Key,
        /// When.
        at: UnixMillis,
    },
    /// Money goes back; there is a notice to send once it is done.
    Refunded {
        /// What and how much.
        refund: Box<Refund>,
        /// What must be sent, if the merchant gave an address.
        notice: Option<Box<Notice>>,
    },
    /// A notice was sent, or could not be.
    Tried {
        /// Which notice.
        id: String,
        /// What happened to each copy.
        deliveries: Vec<Delivery>,
        /// When it is sent again; `None` once accepted or given up.
        next_at: Option<UnixMillis>,
    },
    /// The clock was moved.
    Clock {
        /// How far business time is ahead of the system's, in ms.
        offset_ms: i64,
    },
}

/// A trade's name: each gateway has its own numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Which gateway.
    pub channel: Channel,
    /// The merchant's number.
    pub out_trade_no: OutTradeNo,
}

/// Everything a gateway knows of one trade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trade {
    /// Its name.
    pub key: Key,
    /// What the merchant asked for.
    pub terms: Terms,
    /// All parameters in canonical order; a repeated creation must agree in it.
    pub fingerprint: String,
    /// What the creation wants repeated in notices.
    pub echo: Vec<(String, String)>,
    /// When the number was first placed.
    pub created_at: UnixMillis,
    /// Every code handed out for it. Empty for an app's order string until a wallet opens it.
    pub codes: Vec<Issued>,
    /// When a wallet first opened it.
    pub scanned_at: Option<UnixMillis>,
    /// The gateway's number.
    pub transaction_id: Option<TransactionId>,
    /// Who opened it: openid or buyer id.
    pub payer: Option<String>,
    /// When the money moved.
    pub paid_at: Option<UnixMillis>,
    /// Where it stands.
    pub state: TradeState,
    /// Its place in the book.
    #[serde(skip)]
    place: usize,
}

/// A code and its age.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Issued {
    /// What the merchant got.
    pub code: Code,
    /// When.
    pub at: UnixMillis,
}

/// Why a wallet cannot open or pay a code. The words are for the person with the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpayable {
    /// No trade has this code.
    Unknown,
    /// The code is older than it may be, or its trade's time is up.
    Expired,
    /// Paid before.
    Paid,
    /// Closed by the merchant.
    Closed,
    /// The number belongs to a trade with other terms.
    Inconsistent,
}

/// The sum of all records.
#[derive(Debug, Default)]
pub struct Book {
    trades: BTreeMap<Key, Trade>,
    /// In order of creation, for lists.
    order: Vec<Key>,
    /// From each code, and each `prepay_id`, to its trade and the moment it was handed out.
    codes: HashMap<String, (Key, UnixMillis)>,
    /// Places in `order` of what is neither paid nor closed.
    unpaid: BTreeSet<usize>,
    refunds: Refunds,
    notices: HashMap<String, Notice>,
    notice_order: Vec<String>,
    /// The notice of each payment and of each refund.
    notice_of: HashMap<(Key, Option<OutRefundNo>), String>,
    /// What `next_at` of each notice says, sorted, except what somebody is sending.
    due: BTreeSet<(UnixMillis, String)>,
    offset_ms: i64,
}

impl Trade {
    /// As the gateway tells it.
    pub fn standing(&self) -> Standing {
        Standing {
            out_trade_no: self.key.out_trade_no.clone(),
            total: self.terms.total,
            title: self.terms.title.clone(),
            scene: self.terms.scene,
            transaction_id: self.transaction_id.clone(),
            payer: self.payer.clone(),
            created_at: self.scanned_at.unwrap_or(self.created_at),
            paid_at: self.paid_at,
            state: self.state,
            refunded: None,
            echo: self.echo.clone(),
        }
    }

    /// Whether the gateway admits that it exists: Alipay only after the scan (gateways.md 4.4).
    const fn exists(&self) -> bool {
        match self.key.channel {
            Channel::Wx => true,
            Channel::Ali => self.scanned_at.is_some(),
        }
    }

    /// Whether it was given a link with this `package` (WeChat's MWEB).
    pub(super) fn has_link(&self, package: &str) -> bool {
        let end = format!("&package={package}");
        !package.is_empty() && self.codes.iter().any(|issued| issued.code.content.ends_with(&end))
    }

    /// Where it stands now. Alipay closes an opened trade when its time is up; WeChat leaves it
    /// NOTPAY and only refuses the payer (gateways.md 1.2).
    fn state_at(&self, now: UnixMillis) -> TradeState {
        match (self.state, self.key.channel) {
            (TradeState::NotPay, Channel::Ali) if self.exists() && now >= self.terms.time_expire => {
                TradeState::Closed
            }
            (state, _) => state,
        }
    }
}

impl Book {
    /// Adds one record. Replaying the same records gives the same book.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Created { mut trade } => {
                for issued in &trade.codes {
                    self.index(&trade.key, issued);
                }
                trade.place = self.order.len();
                self.unpaid.insert(trade.place);
                self.order.push(trade.key.clone());
                self.trades.insert(trade.key.clone(), *trade);
            }
            Record::Coded { key, code } => {
                self.index(&key, &code);
                if let Some(trade) = self.trades.get_mut(&key) {
                    trade.codes.push(code);
                }
            }
            Record::Scanned { key, at, payer, transaction_id } => {
                if let Some(trade) = self.trades.get_mut(&key) {
                    trade.scanned_at = Some(at);
                    trade.payer = Some(payer);
                    trade.transaction_id = transaction_id;
                }
            }
            Record::Paid { key, at, transaction_id, notice } => {
                if let Some(trade) = self.trades.get_mut(&key) {
                    trade.state = TradeState::Success;
                    trade.paid_at = Some(at);
                    trade.transaction_id = Some(transaction_id);
                    self.unpaid.remove(&trade.place);
                }
                if let Some(notice) = notice {
                    self.announce(*notice);
                }
            }
            Record::Refunded { refund, notice } => {
                self.refunds.add(*refund);
                if let Some(notice) = notice {
                    self.announce(*notice);
                }
            }
            Record::Closed { key, .. } => {
                if let Some(trade) = self.trades.get_mut(&key) {
                    trade.state = TradeState::Closed;
                    self.unpaid.remove(&trade.place);
                }
            }
            Record::Tried { id, deliveries, next_at } => {
                if let Some(notice) = self.notices.get_mut(&id) {
                    if let Some(at) = notice.next_at.take() {
                        self.due.remove(&(at, id.clone()));
                    }
                    self.due.extend(next_at.map(|at| (at, id)));
                    notice.rounds = notice.rounds.saturating_add(1);
                    notice.deliveries.extend(deliveries);
                    notice.next_at = next_at;
                }
            }
            Record::Clock { offset_ms } => self.offset_ms = offset_ms,
        }
    }

    /// What a merchant's trusted call does and what it is answered. `base_url` is the emulator's own.
    ///
    /// # Errors
    /// [`NoRandomness`]: nothing was decided.
    pub fn decide(
        &self,
        channel: Channel,
        received: &Received,
        base_url: &str,
        now: UnixMillis,
    ) -> Result<Decision, NoRandomness> {
        let key = Key { channel, out_trade_no: received.call.out_trade_no().clone() };
        let known = self.trades.get(&key);
        let visible = known.filter(|trade| trade.exists());
        Ok(match (&received.call, known, visible) {
            (Call::Create { terms, .. }, None, _) => {
                let code = draw_code(terms.scene, base_url, now)?;
                let issued = vec![Issued { code: code.clone(), at: now }];
                let trade = Box::new(new_trade(key, received, terms, now, issued));
                Decision::Yes(Box::new(Answer::Created(code)), Some(Record::Created { trade }))
            }
            (Call::Create { .. }, Some(trade), _) => match trade.state_at(now) {
                TradeState::Success => Decision::No(Objection::Paid),
                TradeState::Closed => Decision::No(Objection::Closed),
                TradeState::NotPay if trade.fingerprint != received.fingerprint => {
                    Decision::No(Objection::OtherTerms)
                }
                TradeState::NotPay => {
                    let code = Issued { code: draw_code(trade.terms.scene, base_url, now)?, at: now };
                    Decision::Yes(
                        Box::new(Answer::Created(code.code.clone())),
                        Some(Record::Coded { key, code }),
                    )
                }
            },
            (Call::Refund { refund, .. }, _, trade) => self.refunds.decide(trade, refund, now)?,
            (Call::RefundQuery { out_refund_no, .. }, _, trade) => {
                // WeChat asks by the refund's number alone.
                let of = self.refunds.find(&key, out_refund_no).and_then(|known| self.trades.get(&known.key));
                self.refunds.query(channel, of.or(trade), out_refund_no, now)
            }
            (Call::Query { .. } | Call::Close { .. }, _, None) => Decision::No(Objection::Absent),
            (Call::Query { .. }, _, Some(trade)) => {
                Decision::Yes(Box::new(Answer::Trade(self.standing(trade, now))), None)
            }
            (Call::Close { .. }, _, Some(trade)) => match trade.state_at(now) {
                TradeState::NotPay => {
                    Decision::Yes(Box::new(Answer::Closed), Some(Record::Closed { key, at: now }))
                }
                TradeState::Success => Decision::No(Objection::Paid),
                TradeState::Closed => Decision::No(Objection::Closed),
            },
        })
    }

    /// A wallet opens `code`, a code or `prepay_id` that was handed out.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn scan(&self, code: &str, now: UnixMillis) -> Result<(Key, Vec<Record>), Stopped> {
        let (key, issued_at) = self.codes.get(code).ok_or(Unpayable::Unknown)?;
        let trade = self.trades.get(key).ok_or(Unpayable::Unknown)?;
        payable(trade, now)?;
        if now.since(*issued_at) > code_life_ms(trade.terms.scene) {
            return Err(Unpayable::Expired.into());
        }
        let record = if trade.scanned_at.is_some() { None } else { Some(scanned(trade, now)?) };
        Ok((key.clone(), record.into_iter().collect()))
    }

    /// A wallet opens an app's order string, or a shopper enters by a link, whose signature was checked. The
    /// trade is made now.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn scan_signed(&self, received: &Received, now: UnixMillis) -> Result<(Key, Vec<Record>), Stopped> {
        let Call::Create { out_trade_no, terms } = &received.call else {
            return Err(Unpayable::Unknown.into());
        };
        let key = Key { channel: Channel::Ali, out_trade_no: out_trade_no.clone() };
        if let Some(trade) = self.trades.get(&key) {
            payable(trade, now)?;
            if trade.fingerprint != received.fingerprint {
                return Err(Unpayable::Inconsistent.into());
            }
            return Ok((key, Vec::new()));
        }
        let trade = new_trade(key.clone(), received, terms, now, Vec::new());
        payable(&trade, now)?;
        let scanned = scanned(&trade, now)?;
        Ok((key, vec![Record::Created { trade: Box::new(trade) }, scanned]))
    }

    /// The person pays an opened trade. With no copies the notice is not sent from here.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn pay(&self, key: &Key, copies: u32, now: UnixMillis) -> Result<Record, Stopped> {
        let trade = self.trades.get(key).ok_or(Unpayable::Unknown)?;
        payable(trade, now)?;
        let transaction_id = match &trade.transaction_id {
            Some(number) => number.clone(),
            None => draw_transaction_id(key.channel, now)?,
        };
        let notify_url = trade.terms.notify_url.clone();
        let notice = Notice {
            id: delivery_id(now)?,
            key: key.clone(),
            out_refund_no: None,
            event: "paid".to_owned(),
            notify_url,
            copies,
            next_at: (copies > 0).then_some(now),
            rounds: 0,
            deliveries: Vec::new(),
        };
        let notice = (!notice.notify_url.is_empty()).then(|| Box::new(notice));
        Ok(Record::Paid { key: key.clone(), at: now, transaction_id, notice })
    }

    /// The trade of a code or `prepay_id`.
    pub fn of_code(&self, code: &str) -> Option<&Trade> {
        self.trades.get(&self.codes.get(code)?.0)
    }

    /// One trade.
    pub fn trade(&self, key: &Key) -> Option<&Trade> {
        self.trades.get(key)
    }

    /// All trades, oldest first.
    pub fn trades(&self) -> impl Iterator<Item = &Trade> {
        self.order.iter().filter_map(|key| self.trades.get(key))
    }

    /// All trades, newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Trade> {
        self.order.iter().rev().filter_map(|key| self.trades.get(key))
    }

    /// A trade as the gateway tells it at `now`.
    pub fn standing(&self, trade: &Trade, now: UnixMillis) -> Standing {
        Standing {
            state: trade.state_at(now),
            refunded: self.refunds.refunded(&trade.key, now),
            ..trade.standing()
        }
    }

    /// What a notice tells: of a payment what was true then, whatever went back since.
    pub(super) fn subject(&self, notice: &Notice) -> Option<Subject> {
        let trade = self.trades.get(&notice.key)?;
        let Some(number) = &notice.out_refund_no else {
            return Some(Subject::Trade(Box::new(trade.standing())));
        };
        let refund = self.refunds.find(&notice.key, number)?;
        match notice.key.channel {
            Channel::Wx => {
                Some(Subject::Refund(Box::new(self.refunds.told(trade, refund, refund.done_at)?)))
            }
            Channel::Ali => Some(Subject::Trade(Box::new(self.standing(trade, refund.done_at)))),
        }
    }

    /// All refunds.
    pub const fn refunds(&self) -> &Refunds {
        &self.refunds
    }

    /// Trades a wallet could still pay, newest first, each with its newest code.
    pub fn open(&self, now: UnixMillis) -> impl Iterator<Item = (&Trade, &str)> {
        let unpaid = self.unpaid.iter().rev().filter_map(|place| self.trades.get(self.order.get(*place)?));
        unpaid.filter_map(move |trade| {
            let newest = trade.codes.last()?;
            let fresh =
                now.since(newest.at) <= code_life_ms(trade.terms.scene) && payable(trade, now).is_ok();
            fresh.then_some((trade, newest.code.content.as_str()))
        })
    }

    /// One notice.
    pub fn notice(&self, id: &str) -> Option<&Notice> {
        self.notices.get(id)
    }

    /// All notices, oldest first.
    pub fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.notice_order.iter().filter_map(|id| self.notices.get(id))
    }

    /// The notice of a payment.
    pub fn paid_notice(&self, key: &Key) -> Option<&Notice> {
        self.notices.get(self.notice_of.get(&(key.clone(), None))?)
    }

    /// The notice of a refund.
    pub fn refund_notice(&self, refund: &Refund) -> Option<&Notice> {
        self.notices.get(self.notice_of.get(&(refund.key.clone(), Some(refund.out_refund_no.clone())))?)
    }

    /// Takes out notices that are due, at most `max`. Each comes back with its record.
    pub fn claim_due(&mut self, now: UnixMillis, max: usize) -> Vec<String> {
        let mut claimed = Vec::new();
        while claimed.len() < max
            && let Some((at, id)) = self.due.pop_first()
        {
            if at > now {
                self.due.insert((at, id));
                break;
            }
            claimed.push(id);
        }
        claimed
    }

    /// When the next notice is due that nobody is sending.
    pub fn next_due(&self) -> Option<UnixMillis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How far the clock was moved, in ms.
    pub const fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    fn announce(&mut self, notice: Notice) {
        self.notice_order.push(notice.id.clone());
        self.notice_of.insert((notice.key.clone(), notice.out_refund_no.clone()), notice.id.clone());
        self.due.extend(notice.next_at.map(|at| (at, notice.id.clone())));
        self.notices.insert(notice.id.clone(), notice);
    }

    fn index(&mut self, key: &Key, issued: &Issued) {
        let entry = (key.clone(), issued.at);
        if let Some(prepay_id) = &issued.code.prepay_id {
            self.codes.insert(prepay_id.clone(), entry.clone());
        }
        self.codes.insert(issued.code.content.clone(), entry);
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Decision {
    /// The answer, and what it changes.
    Yes(Box<Answer>, Option<Record>),
    /// Refused, in the words of its protocol.
    No(Objection),
}

/// Why opening or paying stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The trade does not allow it.
    Unpayable(Unpayable),
    /// Our random source failed.
    NoRandomness,
}

impl From<Unpayable> for Stopped {
    fn from(why: Unpayable) -> Self {
        Self::Unpayable(why)
    }
}

impl From<NoRandomness> for Stopped {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

fn payable(trade: &Trade, now: UnixMillis) -> Result<(), Unpayable> {
    match trade.state {
        TradeState::Success => Err(Unpayable::Paid),
        TradeState::Closed => Err(Unpayable::Closed),
        TradeState::NotPay if now >= trade.terms.time_expire => Err(Unpayable::Expired),
        TradeState::NotPay => Ok(()),
    }
}

fn new_trade(key: Key, received: &Received, terms: &Terms, now: UnixMillis, codes: Vec<Issued>) -> Trade {
    Trade {
        key,
        terms: terms.clone(),
        fingerprint: received.fingerprint.clone(),
        echo: received.echo.clone(),
        created_at: now,
        codes,
        scanned_at: None,
        transaction_id: None,
        payer: None,
        paid_at: None,
        state: TradeState::NotPay,
        place: 0,
    }
}

fn scanned(trade: &Trade, now: UnixMillis) -> Result<Record, NoRandomness> {
    let key = trade.key.clone();
    let (payer, transaction_id) = match (key.channel, &trade.terms.visit.openid) {
        (Channel::Wx, Some(openid)) => (openid.as_str().to_owned(), None),
        // An openid: 28 characters from `o`.
        (Channel::Wx, None) => (format!("o{}", random::base62(27)?), None),
        (Channel::Ali, _) => (format!("2088{}", digits(12)?), Some(draw_transaction_id(Channel::Ali, now)?)),
    };
    Ok(Record::Scanned { key, at: now, payer, transaction_id })
}

/// How long a code can be opened (gateways.md 1.2, 4.4).
const fn code_life_ms(scene: Scene) -> i64 {
    match scene {
        Scene::Mweb => 5 * 60 * 1000,
        Scene::Native | Scene::Jsapi | Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
            2 * 60 * 60 * 1000
        }
    }
}
