//! The PIN before what staff do at a tablet: whether it was typed there a short while ago, and typing it.
//! Never tells by the time taken how much of it was right, and never writes it down: neither into a log nor
//! readable into a cookie.

use http::{HeaderMap, HeaderValue};

use super::look::{cookie_value, is_https};
use crate::domain::id::UnixMillis;
use crate::domain::pad::Pad;
use crate::server::checkout::Checkout;
use crate::server::error::{ApiError, Kind};
use crate::server::limits::{Limits, Rule};
use crate::server::merchants::Member;
use crate::server::sealing::Purpose;
use crate::ui::pad::Guessed;

/// How long a tablet stays unlocked after the PIN was typed.
const OPEN_MS: i64 = 120_000;

/// Why something that was typed opens nothing.
pub struct Refusal {
    /// For people.
    pub guessed: Guessed,
    /// For programs.
    pub error: ApiError,
}

/// Whether staff may act at this tablet now: the merchant has no PIN, or it was typed here a short while ago.
pub fn is_open(checkout: &Checkout, member: &Member, pad: &Pad, headers: &HeaderMap) -> bool {
    member.config.pad_pin.is_none() || open_until(checkout, member, pad, headers).is_some()
}

fn open_until(checkout: &Checkout, member: &Member, pad: &Pad, headers: &HeaderMap) -> Option<UnixMillis> {
    let sealed = cookie_value(headers, name(checkout))?;
    let end = checkout.sealing().open(Purpose::PadStaff, &context(member, pad)?, sealed)?;
    let end = UnixMillis(end.parse().ok()?);
    // A clock that was set back opens nothing for longer.
    (1..=OPEN_MS).contains(&end.since(checkout.now())).then_some(end)
}

/// Staff typed a PIN: the cookie that says so. Each try counts until one is right.
pub fn unlock(
    checkout: &Checkout,
    limits: &Limits,
    member: &Member,
    pad: &Pad,
    typed: &str,
) -> Result<HeaderValue, Refusal> {
    if let Err(wait) = limits.guess_at(Rule::PadPin, &pad.id) {
        return Err(Refusal { guessed: Guessed::TooOften, error: wait.into() });
    }
    if !member.is_pad_pin(typed.trim()) {
        tracing::warn!(merchant = %pad.merchant, pad = %pad.id, "a wrong PIN was typed at a tablet");
        return Err(Refusal { guessed: Guessed::Wrong, error: ApiError::new(Kind::PadLocked) });
    }
    limits.guessed_at(Rule::PadPin, &pad.id);
    let end = checkout.now().plus(OPEN_MS).0.to_string();
    let sealed = context(member, pad)
        .and_then(|context| checkout.sealing().seal(Purpose::PadStaff, &context, &end))
        .and_then(|sealed| cookie(checkout, &sealed, OPEN_MS / 1_000));
    sealed.ok_or_else(|| Refusal { guessed: Guessed::Nothing, error: ApiError::new(Kind::Internal) })
}

/// Staff are done.
pub fn lock(checkout: &Checkout) -> Option<HeaderValue> {
    cookie(checkout, "", 0)
}

/// What the cookie is bound to: another tablet, or a PIN that was changed, and it opens nothing.
fn context(member: &Member, pad: &Pad) -> Option<String> {
    let pin = member.config.pad_pin.as_ref()?.expose();
    Some(format!("{}\n{}\n{pin}", pad.merchant, pad.id))
}

fn cookie(checkout: &Checkout, value: &str, life_s: i64) -> Option<HeaderValue> {
    let secure = if is_https(checkout.public_base_url()) { "; Secure" } else { "" };
    let name = name(checkout);
    let cookie = format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}");
    let mut cookie = HeaderValue::from_str(&cookie).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

fn name(checkout: &Checkout) -> &'static str {
    if is_https(checkout.public_base_url()) { "__Host-shouyin_staff" } else { "shouyin_staff" }
}
