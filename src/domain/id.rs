//! Identities and small closed vocabularies, parsed once at the edge into types that cannot be wrong.
//! Never holds a secret: keys and tokens live in `gateway::keys` and `server`.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A value that breaks the rule of its type. The message names the rule, the caller names the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidId {
    /// What would have been right, in words.
    pub rule: &'static str,
}

/// Text newtypes: private content, checked by `new`, serialised as the bare string.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the rule of the type.
            ///
            /// # Errors
            /// [`InvalidId`] with the rule that was broken.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidId { rule: $rule }) }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

fn is_word(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

text_newtype!(
    /// A merchant of this service, as named in the configuration.
    MerchantId, "1 to 32 of 0-9 A-Z a-z _ -", |text| is_word(text, 32)
);
text_newtype!(
    /// The mall's own number for an order (contract.md 4).
    OrderNumber, "1 to 32 of 0-9 A-Z a-z _ -", |text| is_word(text, 32)
);
text_newtype!(
    /// Our number for one attempt at one gateway. What each gateway takes is narrower and kept where
    /// the number is made (`order::out_trade_no`).
    OutTradeNo, "1 to 64 of 0-9 A-Z a-z _ - | * @",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-|*@".contains(&b))
);
text_newtype!(
    /// The mall's own number for a refund (contract.md 5).
    RefundNumber, "1 to 64 of 0-9 A-Z a-z _ -", |text| is_word(text, 64)
);
text_newtype!(
    /// Our number for a refund at a gateway: both take 64 of these (gateways.md 1.5, 4.10).
    OutRefundNo, "1 to 64 of 0-9 A-Z a-z _ -", |text| is_word(text, 64)
);
text_newtype!(
    /// What is sold, as shoppers read it: 1 to 256 characters, no control characters. Emoji are fine;
    /// what a gateway cannot take is cleaned for that gateway only.
    Title, "1 to 256 characters without control characters",
    |text| (1..=256).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        && !text.trim().is_empty()
);
text_newtype!(
    /// Our name for a tablet in the shop: random, 128 bits.
    PadId, "22 of 0-9 A-Z a-z", |text| text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric())
);
text_newtype!(
    /// The gateway's own number for a payment.
    TransactionId, "1 to 64 visible ASCII characters",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);
text_newtype!(
    /// Whom an attempt is for, where a gateway takes the payment from nobody else: the `openid` at WeChat's
    /// JSAPI, the browser's address at its MWEB (gateways.md 1.2). Personal data: never logged.
    Payer, "1 to 128 visible ASCII characters",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

/// Closed vocabularies: one name each, used in JSON, in URLs and in the database.
macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        // By way of the string: a tenth of the code that a derived visitor takes, which browsers download.
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in JSON, URLs and the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> Self {
                value.as_str()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::domain::id::InvalidId;
            fn try_from(text: String) -> Result<Self, $crate::domain::id::InvalidId> {
                text.parse()
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::domain::id::InvalidId;
            fn from_str(text: &str) -> Result<Self, $crate::domain::id::InvalidId> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::domain::id::InvalidId { rule: concat!("one of:" $(, " ", $word)+) }),
                }
            }
        }
    };
}
pub(crate) use word_enum;

word_enum!(
    /// Who takes the money.
    Channel {
        /// WeChat Pay.
        Wx = "wx",
        /// Alipay.
        Ali = "ali",
    }
);
word_enum!(
    /// What the mall sells with an order number; the same number may stand under each.
    OrderType {
        /// Goods.
        Order = "Order",
        /// A top-up of the mall's own balance.
        Wallet = "Wallet",
        /// A booked time.
        Appointment = "Appointment",
    }
);
word_enum!(
    /// How the shopper meets the gateway. Each scene of an order has its own attempt, because the
    /// gateways refuse one number with two sets of parameters (gateways.md 5, pitfall 13).
    Scene {
        /// WeChat NATIVE: a QR code that WeChat scans.
        Native = "NATIVE",
        /// WeChat JSAPI: a page inside WeChat calls its wallet, for one `openid`.
        Jsapi = "JSAPI",
        /// WeChat MWEB: a link in a phone's browser opens WeChat.
        Mweb = "MWEB",
        /// Alipay precreate: a QR code that Alipay scans.
        QrCode = "QRCODE",
        /// Alipay app.pay: a signed string that the mall's app hands to Alipay's SDK.
        App = "APP",
        /// Alipay wap.pay: a link in a phone's browser, or inside Alipay.
        Wap = "WAP",
        /// Alipay page.pay: a link in a computer's browser.
        Page = "PAGE",
    }
);

impl Scene {
    /// The gateway this scene belongs to.
    pub const fn channel(self) -> Channel {
        match self {
            Self::Native | Self::Jsapi | Self::Mweb => Channel::Wx,
            Self::QrCode | Self::App | Self::Wap | Self::Page => Channel::Ali,
        }
    }
}

/// One attempt's name: both gateways may know the same number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TradeId {
    /// Which gateway.
    pub channel: Channel,
    /// Our number there.
    pub out_trade_no: OutTradeNo,
}

/// `wx:12346_o000`.
impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel, self.out_trade_no)
    }
}

impl core::str::FromStr for TradeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (channel, number) = text.split_once(':').ok_or(InvalidId { rule: "CHANNEL:NUMBER" })?;
        Ok(Self { channel: channel.parse()?, out_trade_no: OutTradeNo::new(number)? })
    }
}

/// What the mall and we both call an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    /// Whose order.
    pub merchant: MerchantId,
    /// What kind.
    pub order_type: OrderType,
    /// The mall's number.
    pub number: OrderNumber,
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.merchant, self.order_type, self.number)
    }
}

/// Milliseconds since 1970 UTC. The domain is handed the time, it never reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This moment and `ms` milliseconds more (saturating; `ms` may be negative).
    #[must_use]
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, negative if it is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers() {
        for good in ["1", "12346", "A_b-9", "x".repeat(32).as_str()] {
            assert!(OrderNumber::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "订单", "a|b", "a\n", "x".repeat(33).as_str()] {
            assert!(OrderNumber::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn titles() {
        for good in ["DEMO", "🍵 茶", "x".repeat(256).as_str(), "茶".repeat(256).as_str()] {
            assert!(Title::new(good).is_ok(), "{good}");
        }
        for bad in ["", "   ", "a\u{0}b", "a\nb", "a\u{85}b", "x".repeat(257).as_str()] {
            assert!(Title::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_round_trip() {
        for scene in Scene::ALL {
            assert_eq!(scene.as_str().parse::<Scene>(), Ok(*scene));
        }
        assert_eq!("order".parse::<OrderType>().map_err(|e| e.rule), Err("one of: Order Wallet Appointment"));
    }
}
