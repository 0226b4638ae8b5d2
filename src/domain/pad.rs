//! The shop's tablet: which order it shows, how long it shows that order's end, and the code that a person
//! types to pair it. Money is nothing of its business: it changes no order.

use super::id::{Channel, MerchantId, PadId, UnixMillis};
use super::order::{Order, OrderId, State};

/// How long the code that pairs a pad is good: 10 minutes.
pub const PAIRING_MS: i64 = 600_000;

/// A tablet in the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Its name; random, and worth nothing without the merchant's API key.
    pub id: PadId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Until when its pairing code is good; `None`: it was used.
    pub code_until: Option<UnixMillis>,
    /// When a tablet was paired with it.
    pub paired_at: Option<UnixMillis>,
    /// The order that the till put on it.
    pub order: Option<OrderId>,
    /// How that order is to be paid, if somebody chose.
    pub channel: Option<Channel>,
    /// When it first showed the end of that order.
    pub result_at: Option<UnixMillis>,
    /// When it was last heard of.
    pub seen_at: Option<UnixMillis>,
    /// Grows with every change of what it shows.
    pub version: i64,
}

impl Pad {
    /// How much longer the end of the order stays on the screen, in ms: 3 s for a plain success, 8 s for
    /// what has to be read. `None`: the order has not ended.
    pub fn result_left(&self, order: &Order, now: UnixMillis) -> Option<i64> {
        let stays = match order.state {
            State::Pending | State::Closing { .. } => return None,
            State::Paid { .. } if order.anomalies.is_empty() => 3_000,
            State::Paid { .. } | State::Closed { .. } => 8_000,
        };
        Some(self.result_at.map_or(stays, |at| stays - now.since(at).max(0)))
    }

    /// Whether the order is on the screen: until its end has been shown long enough.
    pub fn shows(&self, order: &Order, now: UnixMillis) -> bool {
        self.order == Some(order.id) && self.result_left(order, now).is_none_or(|left| left > 0)
    }
}

/// What a person types to pair a tablet: eight letters and digits (Crockford's base 32, 40 bits). Lower case,
/// blanks and hyphens are forgiven, and what looks alike is the same: O is 0; I and L are 1.
#[derive(Clone, PartialEq, Eq)]
pub struct PairingCode(String);

impl PairingCode {
    /// Of eight random bytes.
    pub fn of(random: [u8; 8]) -> Self {
        let letter = |byte: &u8| LETTERS.get(usize::from(byte % 32)).copied().map(char::from);
        Self(random.iter().filter_map(letter).collect())
    }

    /// As it was typed. `None`: no code looks like that.
    pub fn read(typed: &str) -> Option<Self> {
        let letters = typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
        let letters = letters.map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        });
        let code: String = letters.take(LENGTH + 1).collect();
        let known = code.bytes().all(|letter| LETTERS.contains(&letter));
        (code.len() == LENGTH && known).then_some(Self(code))
    }

    /// Without the hyphen: for hashing.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `ABCD-1234`: for people.
    pub fn shown(&self) -> String {
        let (left, right) = self.0.split_at_checked(LENGTH / 2).unwrap_or((&self.0, ""));
        [left, "-", right].concat()
    }
}

const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let code = PairingCode::of([0, 1, 31, 32, 10, 200, 18, 255]);
        assert_eq!(code.shown(), "01Z0-A8JZ");
        for typed in ["01Z0-A8JZ", "01z0a8jz", " o1Z0 a8 jz ", "OIzo-a8jz", "0Lz0a8JZ"] {
            assert!(PairingCode::read(typed) == Some(code.clone()), "{typed}");
        }
        for typed in ["", "01Z0-A8J", "01Z0-A8JZZ", "01Z0-A8JU", "０1Z0A8JZ", "01Z0A8J\u{e9}"] {
            assert!(PairingCode::read(typed).is_none(), "{typed}");
        }
    }
}
