//! The two capabilities of an order: its API token and its page. Both are derived, so the same order
//! always has the same ones; the database keeps only their hashes (contract.md 5).

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::id::{MerchantId, OrderKey};

/// What a capability opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// May push and read that one order under `/rest/`.
    Token,
    /// May see that one order's checkout page, and nothing under `/rest/`.
    Page,
}

/// Derives capabilities from the server's secret.
pub struct Capabilities {
    key: hmac::Key,
}

impl Capabilities {
    /// `secret` is the content of `server.secret_file`.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// What the database keeps of a code that people type: who has the bare hash of so short a code has the
    /// code a minute later.
    pub fn seal(&self, merchant: &MerchantId, code: &str) -> [u8; 32] {
        let mac = hmac::sign(&self.key, format!("pairing\n{merchant}\n{code}").as_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(mac.as_ref());
        out
    }

    /// 128 bits of HMAC-SHA256(secret, purpose, order), as 22 URL-safe characters.
    pub fn derive(&self, purpose: Purpose, order: &OrderKey) -> String {
        let name = match purpose {
            Purpose::Token => "token",
            Purpose::Page => "page",
        };
        let mac = hmac::sign(&self.key, format!("{name}\n{order}").as_bytes());
        URL_SAFE_NO_PAD.encode(mac.as_ref().get(..16).unwrap_or_default())
    }
}

/// What the database keeps of a capability or an API key: looking up a hash leaks no timing about the
/// secret itself.
pub fn hash(secret: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{MerchantId, OrderNumber, OrderType};

    #[test]
    fn capabilities_differ_by_purpose_order_and_secret() {
        let key = |number: &str| OrderKey {
            merchant: MerchantId::new("m").unwrap(),
            order_type: OrderType::Order,
            number: OrderNumber::new(number).unwrap(),
        };
        let (one, other) = (Capabilities::new(b"one"), Capabilities::new(b"other"));
        let token = one.derive(Purpose::Token, &key("1"));
        assert_eq!(token.len(), 22);
        assert_eq!(token, one.derive(Purpose::Token, &key("1")));
        assert_ne!(token, one.derive(Purpose::Page, &key("1")));
        assert_ne!(token, one.derive(Purpose::Token, &key("2")));
        assert_ne!(token, other.derive(Purpose::Token, &key("1")));
    }
}
