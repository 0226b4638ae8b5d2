//! Who is calling: a merchant by its API key, the holder of one order's token, or, where the merchant
//! allows it, anybody. A key that is wrong is refused even where none is needed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};

use crate::domain::id::OrderKey;
use crate::domain::order::Order;
use crate::server::checkout::Checkout;
use crate::server::error::{ApiError, Kind};
use crate::server::limits::KeysUsedUp;
use crate::server::merchants::Member;

/// Who is calling.
pub enum Caller {
    /// The merchant itself.
    Merchant(Arc<Member>),
    /// Whoever the merchant gave this order's token.
    Token(Arc<Member>, Arc<Order>),
    /// Somebody the merchant lets push: anonymously, or with a token of the mall's own.
    Pusher(Arc<Member>),
}

impl Caller {
    /// The merchant whose orders are meant.
    pub const fn member(&self) -> &Arc<Member> {
        match self {
            Self::Merchant(member) | Self::Token(member, _) | Self::Pusher(member) => member,
        }
    }

    /// A token opens its own order only.
    ///
    /// # Errors
    /// 403 for another order.
    pub fn may_touch(&self, key: &OrderKey) -> Result<(), ApiError> {
        match self {
            Self::Token(_, order) if order.key != *key => Err(ApiError::foreign_capability()),
            Self::Merchant(_) | Self::Token(..) | Self::Pusher(_) => Ok(()),
        }
    }
}

/// The merchant by its API key; for what only the merchant may do.
///
/// # Errors
/// 401 without or with a wrong key, 403 with an order's token.
pub async fn merchant(checkout: &Checkout, headers: &HeaderMap) -> Result<Arc<Member>, ApiError> {
    match reader(checkout, headers).await? {
        Caller::Merchant(member) => Ok(member),
        Caller::Token(..) | Caller::Pusher(_) => Err(ApiError::foreign_capability()),
    }
}

/// The merchant or the holder of an order's token; for reading that order.
///
/// # Errors
/// 401 without or with a wrong key.
pub async fn reader(checkout: &Checkout, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let key = credential(headers).ok_or_else(ApiError::missing_key)?;
    known(checkout, key).await?.ok_or_else(ApiError::wrong_key)
}

/// Whoever may push.
///
/// # Errors
/// 401 without a key where one is needed, or with a wrong one anywhere; 429 after too many wrong ones;
/// 503 if the mall does not say.
pub async fn pusher(
    checkout: &Checkout,
    headers: &HeaderMap,
    used_up: Option<&KeysUsedUp>,
) -> Result<Caller, ApiError> {
    let by_host = || {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        checkout.merchants().by_host(host).cloned()
    };
    if let Some(key) = credential(headers) {
        if let Some(caller) = known(checkout, key).await? {
            return Ok(caller);
        }
        let member = by_host().ok_or_else(ApiError::wrong_key)?;
        return if mall_knows(checkout, &member, key, headers, used_up).await? {
            Ok(Caller::Pusher(member))
        } else {
            Err(ApiError::wrong_key())
        };
    }
    match by_host() {
        Some(member) if member.config.anonymous_push_order => Ok(Caller::Pusher(member)),
        Some(_) | None => Err(ApiError::missing_key()),
    }
}

async fn known(checkout: &Checkout, key: &str) -> Result<Option<Caller>, ApiError> {
    if let Some(member) = checkout.merchants().by_api_key(key) {
        return Ok(Some(Caller::Merchant(member.clone())));
    }
    let Some(order) = checkout.order_by_token(key).await? else { return Ok(None) };
    Ok(Some(Caller::Token(checkout.member(&order.key.merchant)?, order)))
}

/// Asks the mall about a token of its own: GET with the same header, 2xx means yes, remembered for 60 s.
/// A mall that is down has not said no.
async fn mall_knows(
    checkout: &Checkout,
    member: &Member,
    key: &str,
    headers: &HeaderMap,
    used_up: Option<&KeysUsedUp>,
) -> Result<bool, ApiError> {
    let Some(url) = &member.config.token_check_url else { return Ok(false) };
    if checkout.mall_tokens().knows(&member.config.id, key, checkout.now()) {
        return Ok(true);
    }
    // The mall is not to be asked as fast as a stranger can guess.
    if let Some(KeysUsedUp(wait)) = used_up {
        return Err((*wait).into());
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(false) };
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::AUTHORIZATION, value)
        .body(Bytes::new());
    let Ok(request) = request else { return Ok(false) };
    let why = match member.webhooks.send(request).await {
        Ok(answer) if answer.status().is_server_error() => answer.status().to_string(),
        Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => answer.status().to_string(),
        Ok(answer) => return Ok(remember(checkout, member, key, answer.status().is_success())),
        Err(error) => error.to_string(),
    };
    tracing::warn!(merchant = %member.config.id, %why, "token_check_url did not say");
    Err(ApiError::new(Kind::TokenCheckUnavailable))
}

fn remember(checkout: &Checkout, member: &Member, key: &str, known: bool) -> bool {
    if known {
        checkout.mall_tokens().remember(&member.config.id, key, checkout.now());
    }
    known
}

/// `Authorization: KEY` or `Authorization: Bearer KEY`.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or("?").trim();
    let bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    Some(if bearer { value.get(7..).unwrap_or_default().trim() } else { value })
}
