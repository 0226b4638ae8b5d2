//! Tokens of the malls' own that `token_check_url` said yes to, remembered for 60 s. Keeps hashes only,
//! never a token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::capability::hash;
use crate::domain::id::{MerchantId, UnixMillis};

/// How long a yes holds.
const LIFE_MS: i64 = 60_000;
/// Yeses kept at the same time; past it the mall is asked again.
const MAX: usize = 10_000;

/// What the malls said yes to.
#[derive(Default)]
pub struct MallTokens {
    until: Mutex<HashMap<(MerchantId, [u8; 32]), UnixMillis>>,
}

impl MallTokens {
    /// Whether the mall said yes to this token in the last 60 s.
    pub fn knows(&self, merchant: &MerchantId, token: &str, now: UnixMillis) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&(merchant.clone(), hash(token))).is_some_and(|until| now < *until)
    }

    /// The mall said yes.
    pub fn remember(&self, merchant: &MerchantId, token: &str, now: UnixMillis) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX {
            until.retain(|_, until| now < *until);
        }
        if until.len() < MAX {
            until.insert((merchant.clone(), hash(token)), now.plus(LIFE_MS));
        }
    }
}
