//! Who holds the phone: the WeChat user of the moment, and everybody's `openid` at the merchant's app.
//! Never a list: an `openid` follows from the user's name and proves itself, so that it is the same and still
//! known after a restart. It is personal data at the real WeChat and stays out of logs here, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::credentials::Wechat;
use crate::domain::id::Payer;

/// The WeChat user of the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Any name; one person each.
    pub user: String,
    /// Only looks at a preview of the page: WeChat then makes up an `openid` that nobody can pay with
    /// (gateways.md 3.2).
    #[serde(default)]
    pub snapshot: bool,
}

/// All of them, at one app.
#[derive(Debug)]
pub struct People {
    key: hmac::Key,
    current: Mutex<User>,
}

impl People {
    /// The users of WeChat as this merchant's app sees them.
    pub fn new(merchant: &Wechat) -> Self {
        let key = format!("{}:{}", merchant.app_id, merchant.app_secret);
        let first = User { user: "zhang".to_owned(), snapshot: false };
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), current: Mutex::new(first) }
    }

    /// Who holds the phone now.
    pub fn current(&self) -> User {
        self.lock().clone()
    }

    /// Hands the phone to somebody else.
    pub fn hand_to(&self, user: User) {
        *self.lock() = user;
    }

    /// This user's `openid`: 28 characters, led by `o`.
    pub fn openid(&self, user: &User) -> String {
        let head = self.mac("user", user.user.as_bytes());
        let head = head.get(..HEAD).unwrap_or_default();
        let tail = self.mac(if user.snapshot { "preview" } else { "openid" }, head);
        let whole: Vec<u8> = head.iter().chain(&tail).copied().take(WHOLE).collect();
        format!("o{}", URL_SAFE_NO_PAD.encode(whole))
    }

    /// Whether somebody has this `openid` at this app.
    pub fn knows(&self, openid: &Payer) -> bool {
        let Some(whole) =
            openid.as_str().strip_prefix('o').and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        else {
            return false;
        };
        let Some((head, tail)) = whole.split_at_checked(HEAD) else { return false };
        whole.len() == WHOLE && self.mac("openid", head).starts_with(tail)
    }

    fn mac(&self, what: &str, of: &[u8]) -> Vec<u8> {
        hmac::sign(&self.key, &[what.as_bytes(), b":", of].concat()).as_ref().to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, User> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that stand for the user.
const HEAD: usize = 8;
/// Those, and what proves them: 27 characters.
const WHOLE: usize = 20;
