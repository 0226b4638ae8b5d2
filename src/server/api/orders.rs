//! `/rest/orders`: create, read, list, close (contract.md 5). Never shows a capability to anybody but
//! the merchant, and the order's private fields to nobody but the merchant.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::auth::{Caller, merchant, reader};
use super::{ok, parameters};
use crate::domain::id::{MerchantId, OrderKey, OrderNumber, OrderType, Title};
use crate::domain::money::Fen;
use crate::domain::order::{CloseCause, OrderId, Terms};
use crate::domain::snapshot::Snapshot;
use crate::server::checkout::{Checkout, CheckoutError, Wanted};
use crate::server::error::ApiError;
use crate::server::json::{self, read_body};
use crate::server::store::Find;

/// The largest amount of an order, in fen.
pub const TOTAL_MAX: i64 = 10_000_000_000;
/// How long an order is payable, in seconds: default, least, most.
const EXPIRES_IN_S: (i64, i64, i64) = (7_200, 60, 604_800);
/// The longest `buyer` and `attach`, in bytes.
const ECHO_MAX: usize = 127;
/// The longest `return_url`, in bytes.
const URL_MAX: usize = 2_048;
/// Orders on one page of a list.
const PAGE: u32 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    order_type: String,
    order_number: String,
    title: String,
    total_fee: i64,
    expires_in: Option<i64>,
    return_url: Option<String>,
    buyer: Option<String>,
    attach: Option<String>,
    locale: Option<String>,
}

/// The order, and where it is paid.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    order: Snapshot,
    token: String,
    checkout_url: String,
    wpay_url: String,
    pad_url: String,
}

#[derive(Serialize)]
struct Page {
    orders: Vec<Snapshot>,
    /// For the next page; `null` at the end.
    cursor: Option<String>,
}

/// `POST /rest/orders`: 201, or 200 if the same order exists.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn create(State(checkout): State<Checkout>, request: Request) -> Result<Response, ApiError> {
    let member = merchant(&checkout, request.headers()).await?;
    let body: NewOrder = json::parse(&read_body(request.into_body()).await?)?;
    let wanted = wanted(&checkout, member.config.id.clone(), body)?;
    let (order, created) = checkout.create(wanted).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let key = &order.key;
    Ok(ok(
        status,
        Created {
            token: checkout.token(key),
            checkout_url: checkout.checkout_url(key),
            wpay_url: format!(
                "{}/app/payment/wpay/{}?order_type={}",
                member.origin(checkout.public_base_url()),
                key.number,
                key.order_type
            ),
            pad_url: checkout.pad_url(&key.merchant),
            order: Snapshot::for_merchant(&order),
        },
    ))
}

/// `GET /rest/orders/{type}/{number}`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn read(
    State(checkout): State<Checkout>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = reader(&checkout, &headers).await?;
    let key = key_in(path, caller.member().config.id.clone())?;
    caller.may_touch(&key)?;
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let snapshot = match caller {
        Caller::Merchant(_) => Snapshot::for_merchant(&order),
        Caller::Token(..) | Caller::Pusher(_) => Snapshot::for_token(&order),
    };
    Ok(ok(StatusCode::OK, snapshot))
}

/// `GET /rest/orders?state=&cursor=`: newest first.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn list(
    State(checkout): State<Checkout>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let [state, cursor] = parameters(query, ["state", "cursor"])?;
    let known = |word: String| ["pending", "paid", "closed"].into_iter().find(|known| **known == word);
    let state = state
        .map(|word| known(word).ok_or_else(|| ApiError::not_allowed("state", "pending, paid, closed")))
        .transpose()?;
    let before = cursor
        .map(|text| text.parse().map(OrderId))
        .transpose()
        .map_err(|_| ApiError::invalid("cursor", "as given with the page before"))?;
    let orders = checkout.list(member.config.id.clone(), state, before, PAGE).await?;
    let full = orders.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
    let cursor = orders.last().filter(|_| full).map(|order| order.id.0.to_string());
    Ok(ok(StatusCode::OK, Page { orders: orders.iter().map(Snapshot::for_merchant).collect(), cursor }))
}

/// `POST /rest/orders/{type}/{number}/close`: asks and closes the gateways first, so the answer may
/// still say `pending`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn close(
    State(checkout): State<Checkout>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let key = key_in(path, member.config.id.clone())?;
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let order = checkout.close(order.id, CloseCause::Merchant).await?;
    Ok(ok(StatusCode::OK, Snapshot::for_merchant(&order)))
}

/// The order that a path names. What is no UTF-8 is no type and no number either.
///
/// # Errors
/// 404 or 400 with the field.
pub fn key_in(
    path: Result<Path<(String, String)>, PathRejection>,
    merchant: MerchantId,
) -> Result<OrderKey, ApiError> {
    let Ok(Path((order_type, number))) = path else { return Err(ApiError::unknown_route()) };
    key(merchant, &order_type, number)
}

/// An order's name as it came, or which part of it cannot be.
///
/// # Errors
/// 400 with the field.
pub fn key(merchant: MerchantId, order_type: &str, number: String) -> Result<OrderKey, ApiError> {
    let order_type: OrderType = order_type.parse().map_err(|error| ApiError::invalid("order_type", error))?;
    let number = OrderNumber::new(number).map_err(|error| ApiError::invalid("order_number", error))?;
    Ok(OrderKey { merchant, order_type, number })
}

fn wanted(checkout: &Checkout, merchant: MerchantId, body: NewOrder) -> Result<Wanted, ApiError> {
    let key = key(merchant, &body.order_type, body.order_number)?;
    let title = Title::new(body.title).map_err(|error| ApiError::invalid("title", error))?;
    if !(1..=TOTAL_MAX).contains(&body.total_fee) {
        return Err(ApiError::out_of_range("total_fee", 1, TOTAL_MAX));
    }
    let total = Fen::new(body.total_fee).map_err(|error| ApiError::invalid("total_fee", error))?;
    let (default, least, most) = EXPIRES_IN_S;
    let expires_in = body.expires_in.unwrap_or(default);
    if !(least..=most).contains(&expires_in) {
        return Err(ApiError::out_of_range("expires_in", least, most));
    }
    if let Some(url) = &body.return_url {
        check_return_url(url)?;
    }
    for (field, value) in [("buyer", &body.buyer), ("attach", &body.attach)] {
        if value.as_ref().is_some_and(|text| text.len() > ECHO_MAX || text.chars().any(char::is_control)) {
            return Err(ApiError::invalid(field, "up to 127 bytes without control characters"));
        }
    }
    if body.locale.as_deref().is_some_and(|locale| !["zh-CN", "en"].contains(&locale)) {
        return Err(ApiError::not_allowed("locale", "zh-CN, en"));
    }
    let terms = Terms {
        title,
        total,
        expires_at: Some(checkout.now().plus(expires_in * 1_000)),
        return_url: body.return_url,
        buyer: body.buyer,
        attach: body.attach,
        locale: body.locale,
    };
    Ok(Wanted { key, terms, expires_in: body.expires_in })
}

fn check_return_url(text: &str) -> Result<(), ApiError> {
    let rule = "an absolute http or https address of up to 2,048 bytes, without user name";
    // The parser drops line ends and tabs without a word; the text is kept as it is.
    if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(ApiError::invalid("return_url", rule));
    }
    let url = Url::parse(text).map_err(|_| ApiError::invalid("return_url", rule))?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && text.len() <= URL_MAX;
    if fits { Ok(()) } else { Err(ApiError::invalid("return_url", rule)) }
}
