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

use super::live::live_view;
use super::look;
use crate::domain::id::{Channel, Scene, UnixMillis};
use crate::domain::order::{Attempt, Order};
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::server::json::read_body;
use crate::ui::view::{CodeState, CodeView, LiveView};

/// How long a page waits for a gateway before it is shown without a code.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a page that was shown without a code asks again, in ms.
const ASK_AGAIN_MS: u32 = 1_000;
/// How long "I have paid" waits for the gateways.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(4);

/// `POST /api/…`: hands the call to the server function of that path.
pub async fn serve(State(checkout): State<Checkout>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    // Server functions read their whole body: it is bounded here.
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    // Leptos would send who accepts HTML back to where they say they came from.
    head.headers.remove(header::ACCEPT);
    let call = Request::from_parts(head, Body::from(body));
    let context = move || provide_context(checkout.clone());
    let mut answer = leptos_axum::handle_server_fns_with_context(context, call).await.into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    answer
}

/// The body of [`crate::ui::api::push_order`].
///
/// # Errors
/// Unknown page, or the store is unavailable.
pub async fn push_order(page: String, channel: Channel) -> Result<LiveView, ServerFnError> {
    let (checkout, order) = order_of(&page).await?;
    let (order, code) = code_of(&checkout, order, channel).await;
    if let (Some(options), Some(cookie)) =
        (use_context::<ResponseOptions>(), look::cookie(channel, checkout.public_base_url()))
    {
        options.insert_header(header::SET_COOKIE, cookie);
    }
    Ok(LiveView { code: Some(code), ..live_view(&order, checkout.now()) })
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

/// The code of a channel, placed if there is none, waiting for the gateway as long as a shopper does.
/// The order comes back as it is afterwards.
pub async fn code_of(checkout: &Checkout, order: Arc<Order>, channel: Channel) -> (Arc<Order>, CodeView) {
    let now = checkout.now();
    if let Some(code) = known_code(checkout, &order, channel) {
        return (order, code);
    }
    let code = match timeout(PATIENCE, checkout.push(&order, scene(channel))).await {
        Ok(Ok(pushed)) => {
            let code = ready(&pushed.order, &pushed.attempt, pushed.code.content, now);
            return (pushed.order, code);
        }
        Ok(Err(CheckoutError::AlreadyPaid | CheckoutError::AlreadyClosed)) => {
            let order = checkout.reread(order.id).await.unwrap_or(order);
            return (order, CodeView::bare(CodeState::Over));
        }
        Ok(Err(CheckoutError::GatewayRefused { code, .. })) => {
            CodeView { state: CodeState::Refused, content: code, remaining_ms: 0 }
        }
        Ok(Err(error)) => {
            tracing::warn!(order = %order.key, %channel, %error, "no code for the page");
            CodeView::bare(CodeState::Unavailable)
        }
        Err(_) => CodeView { remaining_ms: ASK_AGAIN_MS, ..CodeView::bare(CodeState::Waiting) },
    };
    (order, code)
}

/// The code that is there already, without asking anybody; or that there is none any more.
pub fn known_code(checkout: &Checkout, order: &Order, channel: Channel) -> Option<CodeView> {
    let member = checkout.member(&order.key.merchant).ok()?;
    let account = member.gateway(channel)?.account();
    let now = checkout.now();
    if !live_view(order, now).state.is_payable() {
        return Some(CodeView::bare(CodeState::Over));
    }
    let attempt = order.live_attempt(scene(channel), None, account, now)?;
    Some(ready(order, attempt, attempt.code()?.content.clone(), now))
}

/// Asks the gateways whether money came in, as long as a shopper waits. What cannot be asked is no
/// news: the order comes back as it is known.
pub async fn confirm(checkout: &Checkout, order: Arc<Order>) -> Arc<Order> {
    match timeout(CONFIRM_PATIENCE, checkout.confirm(order.id)).await {
        Ok(Ok(order)) => order,
        Ok(Err(error)) => {
            tracing::warn!(order = %order.key, %error, "the gateways could not be asked");
            order
        }
        Err(_) => order,
    }
}

const fn scene(channel: Channel) -> Scene {
    match channel {
        Channel::Wx => Scene::Native,
        Channel::Ali => Scene::QrCode,
    }
}

fn ready(order: &Order, attempt: &Attempt, content: String, now: UnixMillis) -> CodeView {
    let margin = if order.ends_with(attempt) { 0 } else { Order::LIVE_MARGIN_MS };
    let remaining = attempt.expires_at.since(now).saturating_sub(margin).max(i64::from(ASK_AGAIN_MS));
    CodeView { state: CodeState::Ready, content, remaining_ms: u32::try_from(remaining).unwrap_or(u32::MAX) }
}
