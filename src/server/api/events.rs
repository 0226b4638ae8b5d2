//! `GET /rest/events?after=`: what the mall was told, oldest first, to catch up after a loss, and how far
//! each delivery is; `GET /rest/events/{id}` with the log of its tries; `POST …/resend`. The payload of each
//! is byte for byte what the webhook carried. Never sends: workers do.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::auth::merchant;
use super::{ok, parameters};
use crate::domain::id::UnixMillis;
use crate::domain::outbox;
use crate::domain::time::rfc3339;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::{ApiError, Kind};
use crate::server::merchants::Member;
use crate::server::store::{Endpoint, StoredEvent, Try};

/// Events on one page.
const PAGE: u32 = 100;

#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    /// For the next page: the position of the last event on this one.
    after: i64,
    endpoint: Address,
}

#[derive(Serialize)]
struct Event {
    /// The `webhook-id`.
    id: String,
    r#type: String,
    created_at: String,
    payload: Box<RawValue>,
    delivery: Delivery,
}

#[derive(Serialize)]
struct Delivery {
    state: DeliveryState,
    tries: u32,
    /// `None` where nothing is sent by itself.
    next_at: Option<String>,
    delivered_at: Option<String>,
    last_status: Option<u16>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum DeliveryState {
    /// To be sent, now or at `next_at`.
    Waiting,
    /// The mall took it.
    Delivered,
    /// The schedule is used up: somebody should look. Sent once a day.
    Overdue,
    /// The mall answered 410: nothing is sent to this address until it is changed or an event is resent.
    Disabled,
    /// No `webhook_url` is configured; sent when there is one.
    NoWebhookUrl,
}

/// Where the mall is told.
#[derive(Serialize)]
struct Address {
    url: Option<String>,
    state: AddressState,
    /// Of `failing` and `disabled`: since when.
    since: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AddressState {
    /// Nothing is known against it.
    Active,
    /// The last tries failed.
    Failing,
    /// It answered 410.
    Disabled,
    /// Not configured.
    None,
}

/// One event with everything that is known about it.
#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    event: Event,
    /// The last tries, oldest first.
    deliveries: Vec<Line>,
    endpoint: Address,
}

#[derive(Serialize)]
struct Line {
    at: String,
    status: Option<u16>,
    error: Option<String>,
    answer: String,
    latency_ms: i64,
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
    let endpoint = address(&member, checkout.endpoint(member.config.id.clone()).await?);
    let stored = checkout.events(member.config.id.clone(), after, PAGE).await?;
    let after = stored.last().map_or(after, |event| event.id);
    let now = checkout.now();
    let events =
        stored.into_iter().map(|stored| event(stored, endpoint.state, now)).collect::<Result<_, _>>()?;
    Ok(ok(StatusCode::OK, Page { events, after, endpoint }))
}

/// `GET /rest/events/{id}`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn read(
    State(checkout): State<Checkout>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let Path(id) = id.map_err(|_| ApiError::new(Kind::EventNotFound))?;
    detail(&checkout, &member, &id).await
}

/// `POST /rest/events/{id}/resend`: due now, with the same id and the same bytes, whatever became of it.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn resend(
    State(checkout): State<Checkout>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let Path(id) = id.map_err(|_| ApiError::new(Kind::EventNotFound))?;
    if !checkout.resend(member.config.id.clone(), id.clone()).await? {
        return Err(ApiError::new(Kind::EventNotFound));
    }
    detail(&checkout, &member, &id).await
}

async fn detail(checkout: &Checkout, member: &Member, id: &str) -> Result<Response, ApiError> {
    let found = checkout.event(&member.config.id, id).await?;
    let (stored, tries) = found.ok_or_else(|| ApiError::new(Kind::EventNotFound))?;
    let endpoint = address(member, checkout.endpoint(member.config.id.clone()).await?);
    let event = event(stored, endpoint.state, checkout.now())?;
    let deliveries = tries.into_iter().map(line).collect();
    Ok(ok(StatusCode::OK, Detail { event, deliveries, endpoint }))
}

fn event(stored: StoredEvent, address: AddressState, now: UnixMillis) -> Result<Event, ApiError> {
    let broken = |error: &dyn core::fmt::Display| CheckoutError::Internal(format!("stored event: {error}"));
    let delivery = delivery(&stored, address, now);
    let text = String::from_utf8(stored.body).map_err(|error| broken(&error))?;
    let payload = RawValue::from_string(text).map_err(|error| broken(&error))?;
    let created_at = rfc3339(stored.created_at);
    Ok(Event { id: stored.event_id, r#type: stored.kind, created_at, payload, delivery })
}

fn delivery(stored: &StoredEvent, address: AddressState, now: UnixMillis) -> Delivery {
    let known = &stored.delivery;
    let state = match (known.delivered_at, address) {
        (Some(_), _) => DeliveryState::Delivered,
        (None, AddressState::None) => DeliveryState::NoWebhookUrl,
        (None, AddressState::Disabled) => DeliveryState::Disabled,
        (None, AddressState::Active | AddressState::Failing) => {
            let overdue = outbox::is_overdue(known.tries, now.since(stored.created_at));
            if overdue { DeliveryState::Overdue } else { DeliveryState::Waiting }
        }
    };
    let comes = matches!(state, DeliveryState::Waiting | DeliveryState::Overdue);
    Delivery {
        state,
        tries: known.tries,
        next_at: comes.then(|| rfc3339(known.due_at)),
        delivered_at: known.delivered_at.map(rfc3339),
        last_status: known.last_status,
    }
}

/// What is known against another address than the configured one counts no longer.
fn address(member: &Member, known: Option<Endpoint>) -> Address {
    let Some(url) = member.config.webhook_url.as_ref().map(ToString::to_string) else {
        return Address { url: None, state: AddressState::None, since: None };
    };
    let (state, since) = match known.filter(|known| known.url == url) {
        None => (AddressState::Active, None),
        Some(Endpoint { disabled_at: Some(at), .. }) => (AddressState::Disabled, Some(at)),
        Some(Endpoint { failing_since, .. }) => (AddressState::Failing, Some(failing_since)),
    };
    Address { url: Some(url), state, since: since.map(rfc3339) }
}

fn line(tried: Try) -> Line {
    let (status, error) = match tried.status {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error)),
    };
    Line { at: rfc3339(tried.at), status, error, answer: tried.answer, latency_ms: tried.latency_ms }
}
