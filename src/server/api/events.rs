//! `GET /rest/events?after=`: what the mall was told, oldest first, to catch up after a loss. The body
//! of each is byte for byte what the webhook carried.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::auth::merchant;
use super::{ok, parameters};
use crate::domain::time::rfc3339;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::server::store::StoredEvent;

/// Events on one page.
const PAGE: u32 = 100;

#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    /// For the next page: the position of the last event on this one.
    after: i64,
}

#[derive(Serialize)]
struct Event {
    /// The `webhook-id`.
    id: String,
    r#type: String,
    created_at: String,
    payload: Box<RawValue>,
}

/// `GET /rest/events?after=`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn list(
    State(checkout): State<Checkout>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let [after] = parameters(query, ["after"])?;
    let after = after
        .map_or(Ok(0), |text| text.parse())
        .map_err(|_| ApiError::invalid("after", "a number as given by the page before"))?;
    let stored = checkout.events(member.config.id.clone(), after, PAGE).await?;
    let after = stored.last().map_or(after, |event| event.id);
    let events = stored.into_iter().map(event).collect::<Result<_, _>>()?;
    Ok(ok(StatusCode::OK, Page { events, after }))
}

fn event(stored: StoredEvent) -> Result<Event, ApiError> {
    let broken = |error: &dyn core::fmt::Display| CheckoutError::Internal(format!("stored event: {error}"));
    let text = String::from_utf8(stored.body).map_err(|error| broken(&error))?;
    let payload = RawValue::from_string(text).map_err(|error| broken(&error))?;
    Ok(Event { id: stored.event_id, r#type: stored.kind, created_at: rfc3339(stored.created_at), payload })
}
