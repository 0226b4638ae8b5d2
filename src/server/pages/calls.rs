//! What the islands' server functions do: the same use case as the mall's push, with the rights of
//! the page. Never answers more than `ui::view` shows.

use core::time::Duration;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use leptos::prelude::*;
use leptos_axum::ResponseOptions;
use tokio::time::timeout;

use super::live::{live_of, live_view};
use super::look;
use super::ways::{Route, Seen};
use crate::domain::id::{Channel, UnixMillis};
use crate::domain::order::Order;
use crate::server::checkout::{Checkout, CheckoutError, Placing, Pushed};
use crate::server::error::ApiError;
use crate::server::json::read_body;
use crate::server::limits::Limits;
use crate::ui::view::{CodeState, CodeView, LiveView, Way};

/// How long a page waits for a gateway before it is shown without a code.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// When a page that was shown without a code asks again, in ms.
const ASK_AGAIN_MS: u32 = 1_000;
/// How long "I have paid" waits for the gateways.
pub const CONFIRM_PATIENCE: Duration = Duration::from_secs(4);

/// `POST /api/…`: hands the call to the server function of that path.
pub async fn serve(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    request: Request,
) -> Response {
    let (mut head, body) = request.into_parts();
    let device = look::device(&head.headers);
    let address = limits.address(head.extensions.get().copied(), &head.headers);
    let seen = Seen { device, way: None, address };
    // Server functions read their whole body: it is bounded here.
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    // Leptos would send who accepts HTML back to where they say they came from.
    head.headers.remove(header::ACCEPT);
    let call = Request::from_parts(head, Body::from(body));
    let context = move || {
        provide_context(checkout.clone());
        provide_context(seen);
    };
    let mut answer = leptos_axum::handle_server_fns_with_context(context, call).await.into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    answer
}

/// The body of [`crate::ui::api::push_order`].
///
/// # Errors
/// Unknown page, or the store is unavailable.
pub async fn push_order(page: String, channel: Channel, way: Way) -> Result<LiveView, ServerFnError> {
    let (checkout, order) = order_of(&page).await?;
    let seen = Seen { way: Some(way), ..use_context().unwrap_or(Seen::SCREEN) };
    let (order, code) = code_of(&checkout, order, channel, &seen).await;
    if let (Some(options), Some(cookie)) =
        (use_context::<ResponseOptions>(), look::cookie(channel, checkout.public_base_url()))
    {
        options.insert_header(header::SET_COOKIE, cookie);
    }
    Ok(LiveView { code: Some(code), ..live_of(&checkout, &order) })
}

async fn order_of(page: &str) -> Result<(Checkout, Arc<Order>), ServerFnError> {
    let checkout =
        use_context::<Checkout>().ok_or_else(|| refused(&CheckoutError::Internal(String::new())))?;
    let found = checkout.order_by_page(page).await.map_err(|error| refused(&error))?;
    let order = found.ok_or_else(|| refused(&CheckoutError::NotFound))?;
    Ok((checkout, order))
}

fn refused(error: &CheckoutError) -> ServerFnError {
    let error = ApiError::from(error.clone());
    if let Some(options) = use_context::<ResponseOptions>() {
        options.set_status(error.status());
    }
    ServerFnError::ServerError(error.to_string())
}

/// The code of a channel for who sees the page, placed if there is none, waiting for the gateway as long as
/// a shopper does. The order comes back as it is afterwards.
pub async fn code_of(
    checkout: &Checkout,
    order: Arc<Order>,
    channel: Channel,
    seen: &Seen,
) -> (Arc<Order>, CodeView) {
    let (placing, way) = match known_code(checkout, &order, channel, seen) {
        Known::Code(code) => return (order, code),
        Known::NotYet(placing, way) => (placing, way),
    };
    let code = match timeout(PATIENCE, checkout.push(&order, placing)).await {
        Ok(Ok(pushed)) => {
            let code = ready(&pushed, way, checkout.now());
            return (pushed.order, code);
        }
        Ok(Err(CheckoutError::AlreadyPaid | CheckoutError::AlreadyClosed)) => {
            let order = checkout.reread(order.id).await.unwrap_or(order);
            return (order, CodeView::bare(CodeState::Over, way));
        }
        Ok(Err(CheckoutError::GatewayRefused { code, .. })) => {
            CodeView { content: code, ..CodeView::bare(CodeState::Refused, way) }
        }
        Ok(Err(error)) => {
            tracing::warn!(order = %order.key, %channel, %error, "no code for the page");
            CodeView::bare(CodeState::Unavailable, way)
        }
        Err(_) => CodeView { remaining_ms: ASK_AGAIN_MS, ..CodeView::bare(CodeState::Waiting, way) },
    };
    (order, code)
}

/// What can be said of a channel's code without asking anybody.
pub enum Known {
    /// It is there, or there is none for a reason.
    Code(CodeView),
    /// It would have to be placed so.
    NotYet(Placing, Way),
}

impl Known {
    /// For who must not have one placed.
    pub fn shown(self) -> CodeView {
        match self {
            Self::Code(code) => code,
            Self::NotYet(_, way) => CodeView::bare(CodeState::Waiting, way),
        }
    }
}

/// The code that is there already; or that there is none any more, or none for this device.
pub fn known_code(checkout: &Checkout, order: &Arc<Order>, channel: Channel, seen: &Seen) -> Known {
    let now = checkout.now();
    let live = live_view(order, now);
    let route = seen.route(channel);
    if !live.state.is_payable() {
        return Known::Code(CodeView::bare(CodeState::Over, Way::Scan));
    }
    match route {
        Route::Elsewhere => Known::Code(CodeView::bare(CodeState::Elsewhere, Way::Scan)),
        Route::Page => Known::Code(CodeView {
            content: checkout.checkout_url(&order.key),
            remaining_ms: live.remaining_ms.unwrap_or(u32::MAX),
            ..CodeView::bare(CodeState::Ready, Way::Any)
        }),
        Route::Attempt(placing, way) => match checkout.live(order, &placing) {
            Ok(Some(known)) => Known::Code(ready(&known, way, now)),
            Err(CheckoutError::AlreadyPaid | CheckoutError::AlreadyClosed) => {
                Known::Code(CodeView::bare(CodeState::Over, way))
            }
            Ok(None) | Err(_) => Known::NotYet(placing, way),
        },
    }
}

/// Asks the gateways whether money came in, as long as a shopper waits. What cannot be asked is no
/// news: the order comes back as it is known.
pub async fn confirm(checkout: &Checkout, order: Arc<Order>, patience: Duration) -> Arc<Order> {
    match timeout(patience, checkout.confirm(order.id)).await {
        Ok(Ok(order)) => order,
        Ok(Err(error)) => {
            tracing::warn!(order = %order.key, %error, "the gateways could not be asked");
            order
        }
        Err(_) => order,
    }
}

fn ready(pushed: &Pushed, way: Way, now: UnixMillis) -> CodeView {
    let Pushed { order, attempt, code } = pushed;
    let margin = if order.ends_with(attempt) { 0 } else { Order::LIVE_MARGIN_MS };
    let end = attempt.expires_at.plus(-margin);
    let end = code.until.map_or(end, |until| until.min(end));
    let remaining = end.since(now).max(i64::from(ASK_AGAIN_MS));
    let content = code.content.clone();
    let remaining_ms = u32::try_from(remaining).unwrap_or(u32::MAX);
    CodeView { state: CodeState::Ready, content, remaining_ms, way }
}
