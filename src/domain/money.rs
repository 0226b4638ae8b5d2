//! Money as integer fen (1/100 yuan). Never a float, never unchecked arithmetic.

use core::fmt;

use serde::{Deserialize, Serialize};

/// An amount in fen, `0..=Fen::MAX`. Constructing it is the check; arithmetic returns `None`
/// where the result would leave that range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Fen(i64);

/// Why a number or a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Negative, or above [`Fen::MAX`].
    #[error("the amount is out of range")]
    OutOfRange,
    /// Not a decimal with at most two places.
    #[error("not a decimal number of yuan with at most two places")]
    NotDecimal,
}

impl Fen {
    /// Ten times the largest order (contract.md 5: 10^10 fen), so that sums of a few fit.
    pub const MAX: i64 = 100_000_000_000;
    /// Nothing.
    pub const ZERO: Fen = Fen(0);

    /// Checks the range.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] below 0 or above [`Fen::MAX`].
    pub fn new(fen: i64) -> Result<Self, MoneyError> {
        if (0..=Self::MAX).contains(&fen) { Ok(Self(fen)) } else { Err(MoneyError::OutOfRange) }
    }

    /// Reads yuan as Alipay writes them (`88.8`, `88.80`, `100`): a decimal, never a float.
    ///
    /// # Errors
    /// [`MoneyError`] for signs, spaces, exponents, more than two places, or out of range.
    pub fn from_yuan(text: &str) -> Result<Self, MoneyError> {
        let (yuan, cents) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(yuan) || !digits(cents) || cents.len() > 2 {
            return Err(MoneyError::NotDecimal);
        }
        let whole: i64 = yuan.parse().map_err(|_| MoneyError::OutOfRange)?;
        let part: i64 = cents.parse().map_err(|_| MoneyError::NotDecimal)?;
        let part = if cents.len() == 1 { part * 10 } else { part };
        let fen = whole.checked_mul(100).and_then(|fen| fen.checked_add(part));
        Self::new(fen.ok_or(MoneyError::OutOfRange)?)
    }

    /// The amount in fen.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Sum, unless it leaves the range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(|fen| Self::new(fen).ok())
    }

    /// Difference, unless it would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(|fen| Self::new(fen).ok())
    }
}

/// Yuan with two places: `12.34`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl TryFrom<i64> for Fen {
    type Error = MoneyError;
    fn try_from(fen: i64) -> Result<Self, MoneyError> {
        Self::new(fen)
    }
}

impl From<Fen> for i64 {
    fn from(fen: Fen) -> i64 {
        fen.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuan_are_read_as_decimals() {
        for (text, fen) in [
            ("0.01", 1),
            ("88.8", 8880),
            ("88.80", 8880),
            ("100", 10_000),
            ("0", 0),
            ("1000000000.00", Fen::MAX),
        ] {
            assert_eq!(Fen::from_yuan(text).map(Fen::get), Ok(fen), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1.234", "1e3", " 1", "1 ", "0x1", "１", "99999999999999999999"]
        {
            assert!(Fen::from_yuan(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_with_two_places() {
        assert_eq!(Fen(1234).to_string(), "12.34");
        assert_eq!(Fen(5).to_string(), "0.05");
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(Fen(1).checked_sub(Fen(2)), None);
        assert_eq!(Fen(Fen::MAX).checked_add(Fen(1)), None);
        assert_eq!(Fen(1).checked_add(Fen(2)), Some(Fen(3)));
    }
}
