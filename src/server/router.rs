//! Every route of the service, by who calls it. Never holds a rule: handlers live in `api`, `notice`
//! and `pages`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path, RawQuery, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::checkout::{Checkout, CheckoutError};
use super::error::{self, ApiError, Kind};
use super::limits::{self, Limits, Rule};
use super::store::Find;
use super::{api, assets, notice, pages};
use crate::domain::id::{OrderKey, OrderNumber, OrderType};

/// What handlers share.
#[derive(Clone)]
pub struct App {
    /// The service.
    pub checkout: Checkout,
    /// What strangers have asked lately.
    pub limits: Arc<Limits>,
}

impl FromRef<App> for Checkout {
    fn from_ref(app: &App) -> Self {
        app.checkout.clone()
    }
}

impl FromRef<App> for Arc<Limits> {
    fn from_ref(app: &App) -> Self {
        Self::clone(&app.limits)
    }
}

/// The public face of the service.
pub fn service(app: App) -> Router {
    let numbers = from_fn_with_state((Arc::clone(&app.limits), Rule::UnknownNumber), limits::misses);
    Router::new()
        // The mall.
        .merge(api::routes(&app))
        // The gateways.
        .route("/rest/pub/wx/pay_notify", post(notice::wx))
        .route("/rest/pub/wx/refund_notify", post(notice::wx))
        .route("/rest/pub/ali/pay_notify", post(notice::ali))
        // Shoppers.
        .merge(pages::routes(&app))
        .merge(assets::routes())
        .route("/app/payment/wpay/{order_number}", get(wpay).layer(numbers))
        // Operations.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || ApiError::unknown_route())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn(error::localize))
        // Not for event streams, pictures and what is compressed already.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(|_| ApiError::new(Kind::Internal).into_response()))
        .with_state(app)
}

async fn ready(State(checkout): State<Checkout>) -> Response {
    match checkout.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// `GET /app/payment/wpay/{order_number}`: on to the checkout page. The number can be guessed, so it
/// leads to page rights only.
async fn wpay(
    State(checkout): State<Checkout>,
    number: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let wanted = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "order_type");
    let order_type: OrderType = wanted
        .map_or(Ok(OrderType::Order), |(_, word)| word.parse())
        .map_err(|error| ApiError::invalid("order_type", error))?;
    let Ok(Path(number)) = number else { return Err(ApiError::unknown_route()) };
    let number = OrderNumber::new(number).map_err(|error| ApiError::invalid("order_number", error))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let member = checkout.merchants().by_host(host).cloned().ok_or(CheckoutError::NotFound)?;
    let key = OrderKey { merchant: member.config.id.clone(), order_type, number };
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let found = Redirect::to(&checkout.checkout_url(&order.key)).into_response();
    Ok((StatusCode::FOUND, [(header::CACHE_CONTROL, "no-store")], found).into_response())
}
