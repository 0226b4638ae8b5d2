//! What a payer may see of an order, and nothing else: these types cross the wire to the browser.
//! Never holds a buyer, an attach, a capability other than the page's own, or anything of a gateway
//! but the code to scan. `server::pages::pay` makes them.

use serde::{Deserialize, Serialize};

use super::i18n::{Label, Locale, Text};
use crate::domain::id::{Channel, word_enum};

/// The checkout page of one order, as the server renders it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutView {
    /// Who is paid, as shoppers know them.
    pub payee: String,
    /// How to reach them, in the merchant's words.
    pub support: Option<String>,
    /// What is sold.
    pub title: String,
    /// Back to the mall, with order type and number in the address.
    pub exit: Option<String>,
    /// What the merchant offers, in this order.
    pub methods: Vec<Channel>,
    /// The chosen one.
    pub channel: Channel,
    /// What the page is seen with.
    pub device: Device,
    /// How else the order can be paid with each method, and where: shown where the device allows more than
    /// one way.
    pub ways: Vec<(Channel, Way)>,
    /// The page's whole address with the chosen method, for another browser.
    pub address: String,
    /// How often the page has refreshed itself since the shopper said "I have paid"; 0: not said.
    pub asked: u8,
    /// What of the payment is on its way back, and what is back, in yuan; none of either is absent.
    pub refunding: Option<String>,
    /// See [`Self::refunding`].
    pub refunded: Option<String>,
    /// Seconds after which the paid page goes back to the mall by itself; `None`: it stays.
    pub return_after_s: Option<u16>,
    /// Origins whose pages may frame this one, and are told what happens in it.
    pub embed_origins: Vec<String>,
    /// The part that the browser changes.
    pub card: CardView,
}

/// The part of the page that the browser changes: what the island is handed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardView {
    /// The capability in the page's address.
    pub page: String,
    /// The language of the page.
    pub locale: Locale,
    /// The mall's number.
    pub order_number: String,
    /// What is due, in yuan with two places.
    pub amount: String,
    /// The chosen method.
    pub channel: Channel,
    /// The shopper said "I have paid" and no gateway has confirmed it yet.
    pub asked: bool,
    /// What changes while the page is open.
    pub live: LiveView,
}

/// The island's props: the card as JSON text inside the JSON. The browser reads it with the code that reads
/// the server's answers (`from_slice`), and writes it, as the island macro asks, without code of its own:
/// neither need be downloaded twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Packed {
    /// The card.
    pub card: CardView,
    text: String,
}

impl Packed {
    /// Packs the card.
    pub fn of(card: &CardView) -> Self {
        // Strings, numbers and words only: nothing in it can fail to be written.
        Self { card: card.clone(), text: serde_json::to_string(card).unwrap_or_default() }
    }
}

impl TryFrom<String> for Packed {
    type Error = serde_json::Error;
    fn try_from(text: String) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text.as_bytes()).map(|card| Self { card, text })
    }
}

impl From<Packed> for String {
    fn from(packed: Packed) -> Self {
        packed.text
    }
}

/// The body of `/status`, of each SSE event, and of what the server functions answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveView {
    /// Where the order stands.
    pub state: PageState,
    /// The order's version; older ones are ignored.
    pub version: i64,
    /// How long it can still be paid, in ms, counted from when this was made; `None`: no limit.
    pub remaining_ms: Option<u32>,
    /// When it was paid, Beijing time, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<String>,
    /// How it was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_with: Option<Channel>,
    /// Where money stands that did not pay the order.
    pub extra: Extra,
    /// The code of the method that was asked for; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeView>,
}

/// The code of one method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeView {
    /// Whether there is one.
    pub state: CodeState,
    /// The code itself when `ready`; the gateway's own error code when `refused`; else empty.
    pub content: String,
    /// How long it may still be shown, in ms.
    pub remaining_ms: u32,
    /// What is done with it.
    pub way: Way,
}

word_enum!(
    /// How the shopper gets from the page to a wallet.
    Way {
        /// Another device scans the method's code.
        Scan = "scan",
        /// A link in this very browser leads to the method.
        Here = "here",
        /// Another device scans this page's address, and pays with whatever it is scanned with.
        Any = "any",
    }
);

word_enum!(
    /// Where an order stands, in the words of the checkout page.
    PageState {
        /// Payable.
        Pending = "pending",
        /// Payable, and somebody has opened the code in a wallet.
        Scanned = "scanned",
        /// Payable for less than a minute.
        Expiring = "expiring",
        /// Whether money came in is being asked at the gateways.
        Confirming = "confirming",
        /// Paid, by a gateway's signed word.
        Paid = "paid",
        /// Its time was up; every attempt is closed.
        Expired = "expired",
        /// The mall closed it; every attempt is closed.
        Closed = "closed",
        /// Closed, and then money came in.
        PaidLate = "paid_late",
        /// Paid, and then more money came in.
        PaidTwice = "paid_twice",
        /// Money of another amount came in.
        AmountMismatch = "amount_mismatch",
    }
);

word_enum!(
    /// Where money stands that came in and did not pay the order: too late, twice, or of another amount.
    Extra {
        /// There is none.
        None = "none",
        /// The merchant decides.
        Held = "held",
        /// It is being given back.
        Returning = "returning",
        /// It is back.
        Returned = "returned",
        /// It could not be given back: the merchant decides.
        Stuck = "stuck",
    }
);

word_enum!(
    /// Whether there is a code to scan.
    CodeState {
        /// Here it is.
        Ready = "ready",
        /// It is being fetched.
        Waiting = "waiting",
        /// The gateway cannot be reached.
        Unavailable = "unavailable",
        /// The gateway said no.
        Refused = "refused",
        /// The app that shows the page does not let this method through; another browser does.
        Elsewhere = "elsewhere",
        /// The order takes no payment any more.
        Over = "over",
    }
);

word_enum!(
    /// What the page is seen with, as far as the words differ.
    Device {
        /// A screen that a phone can be held up to.
        Desktop = "desktop",
        /// A phone's own browser.
        Phone = "phone",
        /// A tablet's own browser: both of the above.
        Tablet = "tablet",
        /// Inside WeChat.
        InWechat = "in_wechat",
        /// Inside Alipay.
        InAlipay = "in_alipay",
    }
);

impl PageState {
    /// Whether it can still be paid.
    pub const fn is_payable(self) -> bool {
        match self {
            Self::Pending | Self::Scanned | Self::Expiring => true,
            Self::Confirming
            | Self::Paid
            | Self::Expired
            | Self::Closed
            | Self::PaidLate
            | Self::PaidTwice
            | Self::AmountMismatch => false,
        }
    }

    /// Whether nothing more is expected to happen to the order.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Pending | Self::Scanned | Self::Expiring | Self::Confirming | Self::AmountMismatch => false,
            Self::Paid | Self::Expired | Self::Closed | Self::PaidLate | Self::PaidTwice => true,
        }
    }

    /// The heading of its screen.
    pub const fn heading(self) -> Text {
        match self {
            Self::Pending | Self::Expiring => Text::Pending,
            Self::Scanned => Text::Scanned,
            Self::Confirming => Text::Confirming,
            Self::Paid | Self::PaidTwice => Text::Paid,
            Self::Expired => Text::Expired,
            Self::Closed => Text::Closed,
            Self::PaidLate => Text::PaidLate,
            Self::AmountMismatch => Text::AmountMismatch,
        }
    }

    /// The badge on the tab's icon: `paid`, `attention` where the shopper should look, or none.
    pub const fn badge(self) -> &'static str {
        match self {
            Self::Pending | Self::Scanned | Self::Expiring | Self::Confirming => "",
            Self::Paid | Self::PaidTwice => "paid",
            Self::Expired | Self::Closed | Self::PaidLate | Self::AmountMismatch => "attention",
        }
    }

    /// What it means for the shopper: whether money moved, and what to do.
    pub const fn meaning(self) -> Option<Text> {
        match self {
            Self::Pending | Self::Scanned | Self::Expiring | Self::Paid => None,
            Self::Confirming => Some(Text::ConfirmingMeans),
            Self::Expired => Some(Text::ExpiredMeans),
            Self::Closed => Some(Text::ClosedMeans),
            Self::PaidLate => Some(Text::PaidLateMeans),
            Self::PaidTwice => Some(Text::PaidTwiceMeans),
            Self::AmountMismatch => Some(Text::AmountMismatchMeans),
        }
    }
}

impl Extra {
    /// What it means for the shopper.
    pub const fn meaning(self) -> Option<Text> {
        match self {
            Self::None => None,
            Self::Held => Some(Text::ExtraHeld),
            Self::Returning => Some(Text::ExtraReturning),
            Self::Returned => Some(Text::ExtraReturned),
            Self::Stuck => Some(Text::ExtraStuck),
        }
    }
}

impl LiveView {
    /// Whether the page need not follow the order any longer.
    pub const fn is_over(&self) -> bool {
        self.state.is_over() && !matches!(self.extra, Extra::Returning)
    }
}

impl CodeView {
    /// A state that carries nothing.
    pub const fn bare(state: CodeState, way: Way) -> Self {
        Self { state, content: String::new(), remaining_ms: 0, way }
    }
}

impl CardView {
    /// The page's address without a query.
    pub fn path(&self) -> String {
        page_path(&self.page)
    }

    /// The window title: it tells the story of a background tab.
    pub fn window_title(&self, state: PageState) -> String {
        [self.locale.say(state.heading()), " ¥", &self.amount].concat()
    }

    /// What is said when the state is reached.
    pub fn spoken(&self, state: PageState, channel: Channel, way: Way) -> String {
        let text = match (state, channel, way) {
            (PageState::Scanned, Channel::Ali, Way::Scan) => Text::ScannedMeans,
            (open, _, Way::Any) if open.is_payable() => Text::SpokenScanAny,
            (open, _, Way::Here) if open.is_payable() => Text::SpokenHere,
            (open, Channel::Wx, Way::Scan) if open.is_payable() => Text::SpokenScanWx,
            (open, Channel::Ali, Way::Scan) if open.is_payable() => Text::SpokenScanAli,
            (PageState::Paid, _, _) => Text::SpokenPaid,
            (other, _, _) => other.meaning().unwrap_or(other.heading()),
        };
        self.locale.fill(text, &self.amount)
    }
}

/// The address of a page, without a query.
pub fn page_path(page: &str) -> String {
    ["/pay/", page].concat()
}

/// The method's name.
pub const fn method_name(channel: Channel) -> Text {
    match channel {
        Channel::Wx => Text::Wechat,
        Channel::Ali => Text::Alipay,
    }
}

/// The attribute of `<html>` that tells how a method's code stands, as far as it was asked for.
pub const fn of_channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Wx => "data-wx",
        Channel::Ali => "data-ali",
    }
}

/// The character that stands for the method; the wallets' logos are not shipped.
pub const fn method_mark(channel: Channel) -> &'static str {
    match channel {
        Channel::Wx => const { Label::MarkWx.in_locale(Locale::Zh) },
        Channel::Ali => const { Label::MarkAli.in_locale(Locale::Zh) },
    }
}

/// The end of an order number: what people read to each other on the phone.
pub fn tail(order_number: &str) -> &str {
    let from = order_number.len().saturating_sub(4);
    order_number.get(from..).unwrap_or(order_number)
}
