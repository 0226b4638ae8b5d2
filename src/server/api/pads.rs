//! `/rest/pads`: the tablets in the shop, for the till: make one, show an order on it, clear it, remove it.
//! Never shows a pad to another merchant, and a pairing code only once.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::auth::merchant;
use super::{ok, orders};
use crate::domain::id::{OrderNumber, OrderType, PadId};
use crate::domain::order::Order;
use crate::domain::pad::Pad;
use crate::domain::snapshot::state_word;
use crate::domain::time::rfc3339;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::server::json::{self, read_body};
use crate::server::store::Find;

/// Nothing is asked of a new pad; an empty body is fine, too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPad {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    order_type: String,
    order_number: String,
}

/// A pad that waits for its tablet.
#[derive(Serialize)]
struct Created {
    pad: PadId,
    pairing_code: String,
    pairing_expires_at: Option<String>,
    pad_url: String,
}

/// A pad as the till sees it.
#[derive(Serialize)]
struct Row<'a> {
    pad: &'a PadId,
    paired: bool,
    /// Until when its code is good; `null` once it was used.
    pairing_expires_at: Option<String>,
    order: Option<OnScreen<'a>>,
    last_seen: Option<String>,
}

#[derive(Serialize)]
struct OnScreen<'a> {
    order_type: OrderType,
    order_number: &'a OrderNumber,
    state: &'static str,
}

#[derive(Serialize)]
struct Rows<'a> {
    pads: Vec<Row<'a>>,
}

/// `POST /rest/pads`: 201, with the code that a person types into the tablet.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn create(State(checkout): State<Checkout>, request: Request) -> Result<Response, ApiError> {
    let member = merchant(&checkout, request.headers()).await?;
    let body = read_body(request.into_body()).await?;
    if !body.trim_ascii().is_empty() {
        let NewPad {} = json::parse(&body)?;
    }
    let (pad, code) = checkout.create_pad(&member.config.id).await?;
    let created = Created {
        pad: pad.id,
        pairing_code: code.shown(),
        pairing_expires_at: pad.code_until.map(rfc3339),
        pad_url: checkout.pad_url(&pad.merchant),
    };
    Ok(ok(StatusCode::CREATED, created))
}

/// `GET /rest/pads`: oldest first.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn list(State(checkout): State<Checkout>, headers: HeaderMap) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let pads = checkout.pads(&member.config.id).await?;
    let rows = pads.iter().map(|shown| Row::of(&shown.pad, shown.order.as_ref()));
    Ok(ok(StatusCode::OK, Rows { pads: rows.collect() }))
}

/// `PUT /rest/pads/{pad}/order`: from now on the pad shows this order.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn show(
    State(checkout): State<Checkout>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, request.headers()).await?;
    let pad = pad_in(path)?;
    let Shown { order_type, order_number } = json::parse(&read_body(request.into_body()).await?)?;
    let key = orders::key(member.config.id.clone(), &order_type, order_number)?;
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let pad = checkout.show_on_pad(&pad, &order).await?;
    Ok(ok(StatusCode::OK, Row::of(&pad, Some(&order))))
}

/// `DELETE /rest/pads/{pad}/order`: the pad shows nothing; the order stays as it is.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn clear(
    State(checkout): State<Checkout>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let pad = checkout.clear_pad(&member.config.id, &pad_in(path)?, None).await?;
    Ok(ok(StatusCode::OK, Row::of(&pad, None)))
}

/// `DELETE /rest/pads/{pad}`: the tablet is paired with nothing any more.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn remove(
    State(checkout): State<Checkout>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Removed {
        pad: PadId,
    }
    let member = merchant(&checkout, &headers).await?;
    let pad = pad_in(path)?;
    checkout.remove_pad(&member.config.id, &pad).await?;
    Ok(ok(StatusCode::OK, Removed { pad }))
}

/// What cannot be a pad's name is no pad.
fn pad_in(path: Result<Path<String>, PathRejection>) -> Result<PadId, ApiError> {
    let Ok(Path(text)) = path else { return Err(ApiError::unknown_route()) };
    Ok(PadId::new(text).map_err(|_| CheckoutError::NoSuchPad)?)
}

impl<'a> Row<'a> {
    fn of(pad: &'a Pad, order: Option<&'a Order>) -> Self {
        Self {
            pad: &pad.id,
            paired: pad.paired_at.is_some(),
            pairing_expires_at: pad.code_until.map(rfc3339),
            order: order.map(|order| OnScreen {
                order_type: order.key.order_type,
                order_number: &order.key.number,
                state: state_word(&order.state),
            }),
            last_seen: pad.seen_at.map(rfc3339),
        }
    }
}
