//! The embedded site: wasm, bindings, styles and public files, as `.ci/site.sh` left them in
//! target/site. Never compresses or hashes anything at run time. Debug builds read the folder instead.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, header};
use rust_embed::Embed;

use super::error::ApiError;

#[derive(Embed)]
#[folder = "target/site/"]
struct Site;

/// Plain names to hashed addresses.
static MANIFEST: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let file = Site::get("manifest.json");
    file.and_then(|file| serde_json::from_slice(&file.data).ok()).unwrap_or_default()
});

/// The address of an asset by its plain name (`shouyin.js`, `main.css`); `None` in a binary that was
/// built without the site.
pub fn url(name: &str) -> Option<&'static str> {
    MANIFEST.get(name).map(String::as_str)
}

/// `/pkg/…` with hashed names, and the public files at the root.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut routes = Router::new().route(
        "/pkg/{name}",
        get(async |Path(name): Path<String>, headers: HeaderMap| {
            // A hashed name never means anything else.
            answer(&format!("pkg/{name}"), &headers, "public, max-age=31536000, immutable")
        }),
    );
    for file in Site::iter().filter(|file| !file.contains('/') && file != "manifest.json") {
        let address = format!("/{file}");
        let handler = async move |headers: HeaderMap| answer(&file, &headers, "public, max-age=3600");
        routes = routes.route(&address, get(handler));
    }
    routes
}

fn answer(path: &str, headers: &HeaderMap, cache: &'static str) -> Response {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let taken = |coding| takes(headers, coding);
    let (file, coding) = [("br", ".br"), ("gzip", ".gz")]
        .into_iter()
        .filter(|(coding, _)| taken(coding))
        .find_map(|(coding, suffix)| Some((Site::get(&format!("{path}{suffix}"))?, Some(coding))))
        .or_else(|| Some((Site::get(path)?, None)))
        .map_or((None, None), |(file, coding)| (Some(file), coding));
    let Some(file) = file else { return ApiError::unknown_route().into_response() };
    let mut response = Response::new(Body::from(file.data.into_owned()));
    let out = response.headers_mut();
    if let Ok(kind) = kind.essence_str().parse() {
        out.insert(header::CONTENT_TYPE, kind);
    }
    if let Some(coding) = coding {
        out.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(coding));
    }
    out.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
    out.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(cache));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// Whether `Accept-Encoding` names the coding and does not weigh it at zero.
fn takes(headers: &HeaderMap, coding: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let (name, weight) = range.split_once(';').unwrap_or((range, ""));
        let zero = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case(coding) && !zero
    })
}
