//! The mall's API under `/rest/` (contract.md 4 and 5), one file a resource. Never touches the store or
//! a gateway: everything goes through `Checkout`.

mod auth;
mod events;
mod orders;
mod pads;
mod push;
mod refunds;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::checkout::Checkout;
use super::error::ApiError;
use super::limits::{anonymous, keys};
use super::router::App;

/// Every route a mall calls.
pub fn routes(app: &App) -> Router<App> {
    let keys = from_fn_with_state(Arc::clone(&app.limits), keys);
    let pushes = Router::new()
        .route("/rest/wx/push_order", post(push::wx))
        .route("/rest/ali/push_order", post(push::ali))
        .route_layer(from_fn_with_state(Arc::clone(&app.limits), anonymous));
    let shared = pushes
        .route("/rest/orders/{order_type}/{order_number}", get(orders::read))
        // Inside the layer: a preflight is a method that no route takes, and CORS must see it.
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(keys.clone())
        .layer(cors(app.checkout.clone()));
    Router::new()
        .route("/rest/orders", post(orders::create).get(orders::list))
        .route("/rest/orders/{order_type}/{order_number}/close", post(orders::close))
        .route("/rest/orders/{order_type}/{order_number}/refunds", post(refunds::create))
        .route("/rest/orders/{order_type}/{order_number}/refunds/{refund_number}", get(refunds::read))
        .route("/rest/events", get(events::list))
        .route("/rest/events/{id}", get(events::read))
        .route("/rest/events/{id}/resend", post(events::resend))
        .route("/rest/pads", post(pads::create).get(pads::list))
        .route("/rest/pads/{pad}", delete(pads::remove))
        .route("/rest/pads/{pad}/order", put(pads::show).delete(pads::clear))
        .layer(keys)
        .merge(shared)
}

/// Front ends of the origins that some merchant names may push and read orders; without cookies.
fn cors(checkout: Checkout) -> CorsLayer {
    let named = move |origin: &HeaderValue| {
        let Ok(origin) = origin.to_str() else { return false };
        checkout.merchants().iter().any(|member| member.config.allowed_origins.iter().any(|o| o == origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| named(origin)))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .max_age(core::time::Duration::from_mins(10))
}

/// The query's values by name; one that is empty is as good as absent, a name that is not known is refused.
fn parameters<const N: usize>(
    query: Option<String>,
    names: [&'static str; N],
) -> Result<[Option<String>; N], ApiError> {
    let mut found = names.map(|_| None);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = names.iter().zip(&mut found).find(|(known, _)| **known == name);
        let (_, place) = place.ok_or_else(|| ApiError::unknown_field(name.into_owned()))?;
        if !value.is_empty() {
            *place = Some(value.into_owned());
        }
    }
    Ok(found)
}

/// `{"status_code":0,"data":…}`, never cached.
fn ok<T: Serialize>(status: StatusCode, data: T) -> Response {
    #[derive(Serialize)]
    struct Envelope<T> {
        status_code: u32,
        data: T,
    }
    let body = Json(Envelope { status_code: 0, data });
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}
