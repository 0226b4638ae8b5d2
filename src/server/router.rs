//! Every route of the service, by who calls it. Never holds a rule: handlers live in `api`, `notice`
//! and `pages`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::checkout::Checkout;
use super::error::{self, ApiError, Kind};
use super::limits::Limits;
use super::{api, assets, notice, pages};

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
