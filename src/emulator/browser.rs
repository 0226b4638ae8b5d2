//! What the gateways' answers to browsers share: whose browser it is, where it may be sent, how a refusal
//! looks, and what faults do to them. Never decides about money: `oauth`, `mweb` and `cashier` do.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::response::{Html, IntoResponse};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use leptos::prelude::*;
use url::{Host, Url};

use super::Emulator;
use super::faults::{Strike, halve, resized};
use super::log::Entry;
use super::page::{self, Frame, Language};
use super::protocol::{cut, plain_status};
use crate::domain::id::Channel;
use crate::gateway::Refusal;

/// Whether this is WeChat's own browser (gateways.md 3.3).
pub(super) fn in_wechat(headers: &HeaderMap) -> bool {
    text(headers, header::USER_AGENT)
        .is_some_and(|agent| agent.to_ascii_lowercase().contains("micromessenger"))
}

/// A header that is text.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A no that a page says, with what a developer needs to know. Nothing was trusted.
pub(super) fn no(code: &str, message: &str, explanation: impl Into<String>) -> Refusal {
    let (code, message, explanation) = (code.to_owned(), message.to_owned(), explanation.into());
    Refusal { code, message, trusted: false, explanation, echo: Vec::new() }
}

/// A page that says one sentence.
pub(super) fn sorry(headers: &HeaderMap, title: &'static str, said: &str) -> Response<Body> {
    let content = view! {
        <main class="phone">
            <h1>{title}</h1>
            <p class="bad" role="alert">{said.to_owned()}</p>
        </main>
    };
    whole(
        Frame { class: "emulator handheld", ..Frame::new(Language::of(headers), title) }.render(content),
        &[],
    )
}

/// A page, guarded like all of ours, whose forms may end at these addresses: browsers apply `form-action`
/// to the redirect after a form, too.
pub(super) fn whole(page: Html<String>, ends: &[&str]) -> Response<Body> {
    let mut response = page.into_response();
    let origins = ends.iter().filter_map(|end| Url::parse(end).ok()).map(|url| url.origin());
    let origins: Vec<String> = origins.map(|origin| origin.ascii_serialization()).collect();
    let policy =
        page::POLICY.replace("form-action 'self'", &format!("form-action 'self' {}", origins.join(" ")));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    page::guard(response.headers_mut());
    response
}

/// Sends the browser on with 302, as both gateways do.
pub(super) fn found(url: &str) -> Response<Body> {
    match HeaderValue::from_str(url) {
        Ok(url) => {
            let mut response = StatusCode::FOUND.into_response();
            response.headers_mut().insert(header::LOCATION, url);
            page::guard(response.headers_mut());
            response
        }
        Err(_) => plain_status(StatusCode::BAD_REQUEST),
    }
}

/// An address that stands for both of its spellings.
pub(super) fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Emulator {
    /// Whether the merchant may be met at this address: on this machine, or at the domain it has registered
    /// (at the real gateways each product has a list of its own).
    pub(super) fn is_registered(&self, url: &Url) -> bool {
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return false,
        };
        let registered = self.inner.domain.as_deref();
        matches!(url.scheme(), "http" | "https") && (here || registered == url.host_str())
    }

    /// Answers unless a fault strikes on one of `points`; `busy` is the gateway's own word for trouble.
    pub(super) async fn bent(
        &self,
        channel: Channel,
        points: &[&str],
        busy: Response<Body>,
        answer: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        let strike = self.inner.faults.strike(points);
        if let (Some(strike), Some(point)) = (&strike, points.first()) {
            let mut entry = Entry::ok(self.inner.clock.now(), channel, point, None);
            entry.result = format!("fault: {strike:?}");
            self.inner.log.push(entry);
        }
        let status = |status| plain_status(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
        match strike {
            Some(Strike::Status(code)) => status(code),
            Some(Strike::CutBefore) => cut(),
            Some(Strike::SystemError) => busy,
            Some(Strike::Delay(ms)) => {
                // On its own: who called may go, what was called is under way.
                let late = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    answer.await
                });
                late.await.unwrap_or(busy)
            }
            Some(Strike::CutAfter) => {
                answer.await;
                cut()
            }
            Some(Strike::StatusAfter(code)) => {
                answer.await;
                status(code)
            }
            Some(Strike::DelayAfter(ms)) => {
                let answer = answer.await;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                answer
            }
            Some(Strike::Truncated) => {
                let (head, body) = answer.await.into_parts();
                let Ok(body) = body.collect().await else { return busy };
                resized(Response::from_parts(head, halve(&body.to_bytes()))).map(Body::from)
            }
            // The others bend signatures, which a browser is not given to check.
            _ => answer.await,
        }
    }
}
