//! Both gateways of the simulation: what they know, what they answer, and what they tell by themselves. Their
//! money is the truth that the oracle compares with. Behaviour: gateways.md 1.2, 1.5, 4.4, 4.9, 4.10.

use crate::domain::id::{Channel, OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::money::Fen;
use crate::domain::order::Code;
use crate::domain::refund::RefundStanding;
use crate::gateway::{self, Call, Fault, Notice, Paid, RefundTerms, Reply, Retry, Told};

/// What both gateways know.
#[derive(Debug, Default)]
pub struct Gateways {
    /// Every trade that was ever placed, oldest first.
    pub trades: Vec<Trade>,
    /// What they still want to tell.
    pub notices: Vec<Due>,
    /// Whether the merchant's balance is empty, so that refunds are refused for now.
    pub broke: bool,
    /// For the proof that the oracle is awake.
    pub cheat: Cheat,
    payments: u32,
}

/// Ways for a gateway to be dishonest, which the oracle must notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cheat {
    /// As documented.
    #[default]
    None,
    /// Gives the money back again when a refund is asked again with the same number.
    RefundsTwice,
    /// Takes the money and says that the trade was closed.
    TakesSilently,
}

/// A trade as its gateway knows it.
#[derive(Clone, Debug)]
pub struct Trade {
    /// Which gateway.
    pub channel: Channel,
    /// The merchant's number.
    pub number: OutTradeNo,
    /// As it was placed.
    pub terms: gateway::Terms,
    /// Whether the trade exists: at Alipay not before the scan.
    pub exists: bool,
    /// Whether its code reached the shopper.
    pub shown: bool,
    /// Closed unpaid.
    pub closed: bool,
    /// The money it brought.
    pub money: Option<Money>,
    /// What went back of it.
    pub refunds: Vec<Refund>,
}

/// Money that a gateway took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// The gateway's number.
    pub transaction_id: TransactionId,
    /// How much.
    pub fee: Fen,
    /// When, by the gateway's clock.
    pub at: UnixMillis,
}

/// A refund as its gateway knows it.
#[derive(Clone, Debug)]
pub struct Refund {
    /// The merchant's number.
    pub number: OutRefundNo,
    /// How much.
    pub amount: Fen,
    /// When it ends.
    pub ends: UnixMillis,
    /// Whether it ends in failure.
    pub fails: bool,
    /// Whether its end was told.
    told: bool,
}

/// Something a gateway wants to tell.
#[derive(Clone, Debug)]
pub struct Due {
    /// Which gateway.
    pub channel: Channel,
    /// What.
    pub notice: Notice,
    /// How often it still comes.
    pub tries: u32,
}

impl Trade {
    /// Whether the shopper can pay it now.
    pub fn payable(&self, now: UnixMillis) -> bool {
        self.shown && !self.closed && self.money.is_none() && now <= self.terms.time_expire
    }

    fn standing(&self, now: UnixMillis) -> gateway::Trade {
        match &self.money {
            Some(money) => gateway::Trade::Paid(Paid {
                out_trade_no: self.number.clone(),
                transaction_id: money.transaction_id.clone(),
                total: money.fee,
                paid_at: money.at,
            }),
            None if !self.exists => gateway::Trade::Absent,
            None if self.closed => gateway::Trade::Closed,
            // WeChat goes on saying NOTPAY after the end (1.2); Alipay closes a scanned trade by itself.
            None if self.channel == Channel::Ali && now > self.terms.time_expire => gateway::Trade::Closed,
            None => gateway::Trade::Waiting,
        }
    }
}

impl Refund {
    /// Whether the money is back.
    pub fn is_done(&self, now: UnixMillis) -> bool {
        !self.fails && now >= self.ends
    }

    /// Whether it was given up.
    pub fn is_failed(&self, now: UnixMillis) -> bool {
        self.fails && now >= self.ends
    }

    fn standing(&self, now: UnixMillis) -> RefundStanding {
        if now < self.ends {
            RefundStanding::Processing
        } else if self.fails {
            RefundStanding::Failed { code: "REFUNDCLOSE".to_owned() }
        } else {
            RefundStanding::Succeeded { at: Some(self.ends) }
        }
    }
}

impl Gateways {
    /// What is known of a trade.
    pub fn trade(&mut self, channel: Channel, number: &OutTradeNo) -> Option<&mut Trade> {
        self.trades.iter_mut().find(|trade| trade.channel == channel && trade.number == *number)
    }

    /// Does what is asked and says so. `refund_ms`: how long a refund that is taken on now will take;
    /// negative: so long, and then it fails.
    pub fn answer(
        &mut self,
        channel: Channel,
        call: &Call,
        now: UnixMillis,
        refund_ms: i64,
    ) -> Result<Reply, Fault> {
        match call {
            Call::Create { out_trade_no, terms } => self.create(channel, out_trade_no, terms, now),
            Call::Query { out_trade_no } => {
                let silent = self.cheat == Cheat::TakesSilently;
                Ok(Reply::Trade(match self.trade(channel, out_trade_no) {
                    Some(trade) if silent && trade.money.is_some() => gateway::Trade::Closed,
                    Some(trade) => trade.standing(now),
                    None => gateway::Trade::Absent,
                }))
            }
            Call::Close { out_trade_no } => self.close(channel, out_trade_no, now),
            Call::Refund { out_trade_no, refund } => {
                self.refund(channel, out_trade_no, refund, now, refund_ms)
            }
            Call::RefundQuery { out_trade_no, out_refund_no } => {
                let trade = self.trade(channel, out_trade_no);
                let known = trade
                    .and_then(|trade| trade.refunds.iter().find(|refund| refund.number == *out_refund_no));
                let standing = known.map_or(RefundStanding::Absent, |refund| refund.standing(now));
                Ok(Reply::Refund(standing))
            }
        }
    }

    fn create(
        &mut self,
        channel: Channel,
        number: &OutTradeNo,
        terms: &gateway::Terms,
        now: UnixMillis,
    ) -> Result<Reply, Fault> {
        match self.trade(channel, number) {
            Some(trade) if trade.money.is_some() => {
                return Err(no(channel, "ORDERPAID", "ACQ.TRADE_HAS_SUCCESS", Retry::AlreadyPaid));
            }
            Some(trade) if trade.standing(now) == gateway::Trade::Closed => {
                return Err(no(channel, "ORDERCLOSED", "ACQ.TRADE_HAS_CLOSE", Retry::NewNumber));
            }
            Some(trade) if trade.terms != *terms => {
                return Err(no(channel, "OUT_TRADE_NO_USED", "ACQ.CONTEXT_INCONSISTENT", Retry::NewNumber));
            }
            Some(_) => {}
            // WeChat says so unsigned, which is never final (1.1).
            None if channel == Channel::Wx && terms.time_expire.since(now) < 60_000 => {
                return Err(no(channel, "FAIL", "", Retry::Later));
            }
            None if terms.time_expire <= now => {
                return Err(no(channel, "", "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR", Retry::Never));
            }
            None => self.place(channel, number, terms),
        }
        let prepay_id = (channel == Channel::Wx).then(|| "prepay".to_owned());
        Ok(Reply::Created(Code { content: format!("{channel}:{number}"), prepay_id, until: None }))
    }

    /// Takes a trade on. An app's order string makes one as soon as it is opened.
    pub fn place(&mut self, channel: Channel, number: &OutTradeNo, terms: &gateway::Terms) {
        if self.trade(channel, number).is_none() {
            self.trades.push(Trade {
                channel,
                number: number.clone(),
                terms: terms.clone(),
                exists: channel == Channel::Wx,
                shown: terms.scene == Scene::App,
                closed: false,
                money: None,
                refunds: Vec::new(),
            });
        }
    }

    fn close(&mut self, channel: Channel, number: &OutTradeNo, now: UnixMillis) -> Result<Reply, Fault> {
        let absent = || no(channel, "ORDERNOTEXIST", "ACQ.TRADE_NOT_EXIST", Retry::Never);
        let trade = self.trade(channel, number).ok_or_else(absent)?;
        match (trade.standing(now), channel) {
            (gateway::Trade::Absent, _) => Err(absent()),
            (gateway::Trade::Waiting, _) => {
                trade.closed = true;
                Ok(Reply::Closed)
            }
            (gateway::Trade::Closed, Channel::Wx) => Ok(Reply::Closed),
            (gateway::Trade::Closed, Channel::Ali) | (gateway::Trade::Paid(_), _) => {
                Err(no(channel, "ORDERPAID", "ACQ.TRADE_STATUS_ERROR", Retry::AlreadyPaid))
            }
        }
    }

    fn refund(
        &mut self,
        channel: Channel,
        number: &OutTradeNo,
        terms: &RefundTerms,
        now: UnixMillis,
        refund_ms: i64,
    ) -> Result<Reply, Fault> {
        let (broke, cheat) = (self.broke, self.cheat);
        let absent = || no(channel, "ORDERNOTEXIST", "ACQ.TRADE_NOT_EXIST", Retry::Never);
        let trade = self.trade(channel, number).ok_or_else(absent)?;
        let unpaid = || no(channel, "TRADE_STATE_ERROR", "ACQ.TRADE_STATUS_ERROR", Retry::Later);
        let money = trade.money.clone().ok_or_else(unpaid)?;
        let known = trade.refunds.iter().find(|refund| refund.number == terms.out_refund_no).cloned();
        if let Some(known) = known {
            if known.amount != terms.amount {
                return Err(no(channel, "PARAM_ERROR", "ACQ.DISCORDANT_REPEAT_REQUEST", Retry::Never));
            }
            if cheat == Cheat::RefundsTwice {
                trade.refunds.push(known);
            }
            // WeChat: accepted; Alipay: no fund_change, to be asked (4.10).
            return Ok(Reply::Refund(RefundStanding::Processing));
        }
        let gone = trade.refunds.iter().filter(|refund| !refund.is_failed(now));
        let gone: i64 = gone.map(|refund| refund.amount.get()).sum();
        if gone + terms.amount.get() > money.fee.get() || terms.total != money.fee {
            return Err(no(channel, "PARAM_ERROR", "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", Retry::Never));
        }
        if broke {
            return Err(no(channel, "NOTENOUGH", "ACQ.SELLER_BALANCE_NOT_ENOUGH", Retry::Later));
        }
        // Alipay's refunds are done when they are answered.
        let (takes, fails) = match channel {
            Channel::Wx => (refund_ms.abs(), refund_ms < 0),
            Channel::Ali => (0, false),
        };
        let refund = Refund {
            number: terms.out_refund_no.clone(),
            amount: terms.amount,
            ends: now.plus(takes),
            fails,
            told: false,
        };
        trade.refunds.push(refund);
        Ok(Reply::Refund(match channel {
            Channel::Wx => RefundStanding::Processing,
            Channel::Ali => RefundStanding::Succeeded { at: Some(now) },
        }))
    }

    /// The shopper scans an Alipay code: from now on the trade exists.
    pub fn scan(&mut self, channel: Channel, number: &OutTradeNo) {
        if let Some(trade) = self.trade(channel, number) {
            trade.exists = true;
        }
    }

    /// The shopper pays. The gateway will tell it `tries` times, until it is heard.
    pub fn pay(&mut self, channel: Channel, number: &OutTradeNo, fee: Fen, now: UnixMillis, tries: u32) {
        self.payments += 1;
        let Ok(transaction_id) = TransactionId::new(format!("{channel}T{}", self.payments)) else { return };
        let silent = self.cheat == Cheat::TakesSilently;
        let Some(trade) = self.trade(channel, number) else { return };
        trade.exists = true;
        trade.money = Some(Money { transaction_id, fee, at: now });
        let told = Told::Trade(trade.standing(now));
        if !silent {
            self.tell(channel, number, told, tries);
        }
    }

    /// Tells of refunds that have ended.
    pub fn tell_refunds(&mut self, now: UnixMillis, tries: u32) {
        let mut told = Vec::new();
        for trade in &mut self.trades {
            let standing = trade.standing(now);
            for refund in trade.refunds.iter_mut().filter(|refund| !refund.told && now >= refund.ends) {
                refund.told = true;
                // Alipay says it again as a paid trade (pitfall 10), WeChat has a notice of its own.
                let what = match trade.channel {
                    Channel::Wx => Told::Refund { out_refund_no: refund.number.clone() },
                    Channel::Ali => Told::Trade(standing.clone()),
                };
                told.push((trade.channel, trade.number.clone(), what));
            }
        }
        for (channel, number, what) in told {
            self.tell(channel, &number, what, tries);
        }
    }

    fn tell(&mut self, channel: Channel, number: &OutTradeNo, told: Told, tries: u32) {
        let notice = Notice { out_trade_no: number.clone(), delivery_id: None, told };
        self.notices.push(Due { channel, notice, tries });
    }
}

/// A signed no, in the words of the channel.
fn no(channel: Channel, wx: &str, ali: &str, retry: Retry) -> Fault {
    let code = match channel {
        Channel::Wx => wx,
        Channel::Ali => ali,
    };
    Fault::Refused { code: code.to_owned(), message: String::new(), retry }
}
