//! What a tablet is told while it waits: once as JSON, or as a stream of events. Tells only that there is
//! something else to show, never what; asks no gateway.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Json, Response};
use futures_util::stream;
use http::{HeaderMap, header};
use serde_json::json;
use tokio::sync::watch;

use super::live::{HEARTBEAT, live_of};
use super::pad::{cookie, member_of, pad_of};
use crate::domain::id::MerchantId;
use crate::domain::order::{Order, OrderId};
use crate::domain::pad::Pad;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::server::pads::Follower;
use crate::ui::pad::PadLive;

/// The key of the pairing form.
pub const UNPAIRED: &str = "unpaired";

/// Names what the pad shows: the same name, the same screen.
pub fn key(checkout: &Checkout, pad: &Pad, order: Option<&Order>) -> String {
    match order.filter(|order| pad.shows(order, checkout.now())) {
        Some(order) => format!("{}-{}-{}", pad.version, live_of(checkout, order).state, order.version),
        None => format!("{}-idle", pad.version),
    }
}

fn told(checkout: &Checkout, pad: &Pad, order: Option<&Order>) -> PadLive {
    let shown = order.filter(|order| pad.shows(order, checkout.now()));
    let live = shown.map(|order| live_of(checkout, order));
    PadLive { key: key(checkout, pad, order), remaining_ms: live.and_then(|live| live.remaining_ms) }
}

fn unpaired() -> PadLive {
    PadLive { key: UNPAIRED.to_owned(), remaining_ms: None }
}

/// `GET /pad/{merchant}/status`.
///
/// # Errors
/// Unknown merchant, or the store is unavailable.
pub async fn status(
    State(checkout): State<Checkout>,
    merchant: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = member_of(&checkout, merchant).ok_or_else(ApiError::unknown_route)?;
    let data = match pad_of(&checkout, &member, &headers).await? {
        Some(pad) => {
            let order = match pad.order {
                Some(id) => Some(checkout.reread(id).await?),
                None => None,
            };
            if let Some(order) = &order {
                checkout.seen(order);
            }
            checkout.pad_seen(&pad, false);
            told(&checkout, &pad, order.as_deref())
        }
        None => unpaired(),
    };
    let body = Json(json!({ "status_code": 0, "data": data }));
    Ok(([(header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// `GET /pad/{merchant}/events`: the key now, after each change, and every ten seconds. A pad that is removed
/// is told so, and then the stream ends.
///
/// # Errors
/// No pad's cookie, or the store is unavailable.
pub async fn events(
    State(checkout): State<Checkout>,
    merchant: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = member_of(&checkout, merchant).ok_or_else(ApiError::unknown_route)?;
    let pad = pad_of(&checkout, &member, &headers).await?.ok_or(CheckoutError::NoSuchPad)?;
    let following = Following {
        follower: checkout.follow_pad(&pad.id),
        merchant: pad.merchant,
        secret: cookie(&checkout, &headers).unwrap_or_default().to_owned(),
        order: None,
        removed: false,
        checkout,
    };
    let headers =
        [(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(stream::unfold(following, next))).into_response())
}

/// One stream.
struct Following {
    checkout: Checkout,
    merchant: MerchantId,
    secret: String,
    follower: Follower,
    /// The order that the pad shows, and its later states.
    order: Option<(OrderId, watch::Receiver<Arc<Order>>)>,
    removed: bool,
}

/// The next event: at once when the pad or its order changed, else when it is time to show that the stream
/// lives. `None` ends it: the server stops, the pad is gone, newer streams took its place, or the store says
/// no, and then the tablet asks again by itself.
async fn next(mut following: Following) -> Option<(Result<Event, Infallible>, Following)> {
    if following.removed {
        return None;
    }
    tokio::select! {
        biased;
        () = following.checkout.stopping().cancelled() => return None,
        wanted = following.follower.changed() => if !wanted { return None },
        () = changed(&mut following.order) => {}
        () = tokio::time::sleep(HEARTBEAT) => {}
    }
    let told = match following.told().await {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(merchant = %following.merchant, %error, "a pad's stream ends");
            return None;
        }
    };
    following.removed = told.is_none();
    let text = serde_json::to_string(&told.unwrap_or_else(unpaired)).unwrap_or_default();
    Some((Ok(Event::default().retry(Duration::from_secs(2)).data(text)), following))
}

/// Waits for the order's next state; for ever if there is none to come.
async fn changed(order: &mut Option<(OrderId, watch::Receiver<Arc<Order>>)>) {
    let news = match order {
        Some((_, states)) => states.changed().await.is_ok(),
        None => false,
    };
    if !news {
        core::future::pending::<()>().await;
    }
}

impl Following {
    /// What the pad shows now; `None`: it was removed.
    async fn told(&mut self) -> Result<Option<PadLive>, CheckoutError> {
        let Some(pad) = self.checkout.pad_by_cookie(&self.merchant, &self.secret).await? else {
            return Ok(None);
        };
        if self.order.as_ref().map(|(id, _)| *id) != pad.order {
            self.order = match pad.order {
                Some(id) => Some((id, self.checkout.watch(self.checkout.reread(id).await?).await?)),
                None => None,
            };
        }
        let order = self.order.as_mut().map(|(_, states)| states.borrow_and_update().clone());
        self.checkout.pad_seen(&pad, false);
        Ok(Some(told(&self.checkout, &pad, order.as_deref())))
    }
}
