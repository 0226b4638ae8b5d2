//! Keeps other sites from sending forms and calls in a shopper's name. Never looks at the order.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, header};

use crate::server::checkout::Checkout;
use crate::server::error::{ApiError, Kind};

/// Refuses what another site made a browser send: by `Sec-Fetch-Site`, else by `Origin`. A request with
/// neither comes from no browser that could be abused. Reading is always allowed.
pub async fn csrf_guard(State(checkout): State<Checkout>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || is_own(request.headers(), checkout.public_base_url()) {
        next.run(request).await
    } else {
        ApiError::new(Kind::CrossSite).into_response()
    }
}

fn is_own(headers: &HeaderMap, public_base_url: &str) -> bool {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or_default());
    match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = text(header::HOST).unwrap_or_default();
            let named = origin.split_once("://").is_some_and(|(_, name)| name == host && !host.is_empty());
            named || origin.eq_ignore_ascii_case(public_base_url)
        }
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_send() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://pay.example")], false),
            (&[("origin", "https://pay.example"), ("host", "inner:3000")], true),
            (&[("origin", "http://inner:3000"), ("host", "inner:3000")], true),
            (&[("origin", "https://evil.example"), ("host", "inner:3000")], false),
            (&[("origin", "null"), ("host", "inner:3000")], false),
            (&[("origin", "https://"), ("host", "")], false),
            (&[], true),
        ];
        for (headers, expected) in cases {
            let map = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>();
            assert_eq!(is_own(&map, "https://pay.example"), *expected, "{headers:?}");
        }
    }
}
