//! What the shop's tablet shows, and nothing else: made by `server::pages::pad`, drawn by the server. The
//! page has no wasm: `pad.js` beside this file swaps what the server has drawn.

use serde::Serialize;

use super::i18n::Locale;
use super::view::{CardView, CodeState, PageState};
use crate::domain::id::Channel;

/// The tablet's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadView {
    /// Its address, without a query.
    pub path: String,
    /// Who is paid.
    pub payee: String,
    /// The language of the page.
    pub locale: Locale,
    /// The language that the address asks for: links keep it.
    pub lang: Option<Locale>,
    /// What it shows; see [`PadLive`].
    pub key: String,
    /// The pad's version: forms are about what was seen.
    pub version: i64,
    /// The screen.
    pub screen: PadScreen,
    /// Only the receipt, to be printed.
    pub paper: bool,
    /// The strip for staff, if it was asked for.
    pub strip: Option<Strip>,
    /// Whether a PIN opened the strip, so that there is something to lock.
    pub locks: bool,
}

/// The strip for staff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strip {
    /// The PIN has to be typed first.
    Locked(Guessed),
    /// Staff may act.
    Open(Staff),
}

/// What stands on the tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PadScreen {
    /// It is paired with nothing.
    Pairing(Guessed),
    /// Nothing to pay.
    Idle,
    /// An order, or its end.
    Order(Box<PadOrder>),
    /// The service is not well.
    Broken,
}

/// What became of the code or PIN that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guessed {
    /// None was.
    Nothing,
    /// It was wrong.
    Wrong,
    /// There were too many; it was not looked at.
    TooOften,
}

/// The order on the tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadOrder {
    /// As on the checkout page, without its capability.
    pub card: CardView,
    /// What the merchant offers, in this order.
    pub methods: Vec<Channel>,
    /// How long its end is still shown, in ms; `None`: it has not ended.
    pub result_ms: Option<u32>,
}

/// What staff sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staff {
    /// The last orders of this pad, newest first.
    pub results: Vec<PadResult>,
    /// What can be printed again.
    pub receipt: Option<Receipt>,
}

/// One of the pad's last orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadResult {
    /// The end of its number.
    pub tail: String,
    /// In yuan.
    pub amount: String,
    /// Where it stands.
    pub state: PageState,
    /// When it was paid or closed, Beijing time.
    pub at: Option<String>,
}

/// A paid order, on paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was sold.
    pub title: String,
    /// The mall's number.
    pub order_number: String,
    /// In yuan.
    pub amount: String,
    /// How it was paid.
    pub channel: Channel,
    /// When, Beijing time.
    pub paid_at: String,
}

/// The body of `/status` and of each event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PadLive {
    /// Names what is to be shown: another one means that the screen is to be fetched anew.
    pub key: String,
    /// How long the order can still be paid, in ms.
    pub remaining_ms: Option<u32>,
}

impl PadOrder {
    /// After how many ms the screen is to be fetched anew although nothing has happened: its code is good no
    /// longer, or is awaited; its time is up; its end has been shown.
    pub fn again_ms(&self) -> Option<u32> {
        let live = &self.card.live;
        let code = live.code.as_ref().filter(|_| live.state.is_payable()).and_then(|code| match code.state {
            CodeState::Ready | CodeState::Waiting => Some(code.remaining_ms),
            CodeState::Unavailable | CodeState::Refused => Some(5_000),
            CodeState::Elsewhere | CodeState::Over => None,
        });
        [self.result_ms, live.remaining_ms, code].into_iter().flatten().min()
    }
}
