//! Tells the mall: sends an event's stored bytes, signed per Standard Webhooks, until the mall takes them.
//! Never changes id or bytes between tries, and never gives up: after its schedule an event comes daily.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};

use crate::domain::id::UnixMillis;
use crate::domain::outbox;
use crate::domain::time::parse_http_date;
use crate::runtime::clock::Clock;
use crate::runtime::crash::{self, Point};
use crate::runtime::transport::SendError;
use crate::server::capability::hash;
use crate::server::checkout::Checkout;
use crate::server::merchants::Member;
use crate::server::store::{Outage, Sent, StoredEvent, Task, TaskOutcome, Then};

/// The share by which a wait is moved, in percent, so that a mall that comes back is not flooded.
const JITTER_PERCENT: i64 = 20;
/// Of an answer's body so much is kept.
const ANSWER_KEPT: usize = 1_024;
/// When something of ours is missing, the task comes again after this.
const MISSING_MS: i64 = 60_000;

/// Sends one event once.
pub async fn send(checkout: &Checkout, task: &Task) -> TaskOutcome {
    let missing = |what: &str| {
        tracing::error!(event = %task.subject, merchant = %task.merchant, what, "a webhook cannot be sent");
        TaskOutcome::Postponed(checkout.now().plus(MISSING_MS))
    };
    crash::point(Point::DeliverClaimed);
    let event = match checkout.store().event(task.subject.clone()).await {
        Ok(Some(event)) => event,
        Ok(None) => return TaskOutcome::Done(Some("no such event".to_owned())),
        Err(error) => return missing(&error.to_string()),
    };
    let Ok(member) = checkout.member(&task.merchant) else {
        return missing("the merchant is not configured");
    };
    let Some(url) = &member.config.webhook_url else { return missing("no webhook_url") };
    let Some(request) = request(&member, &event) else { return missing("webhook_secret is not usable") };
    let at = checkout.now();
    crash::point(Point::DeliverBeforeSend);
    let answer = member.webhooks.send(request).await;
    let now = checkout.now();
    let then = what_follows(&answer, task, &event, now);
    TaskOutcome::Sent(Sent {
        at,
        latency_ms: now.since(at),
        url: url.to_string(),
        status: answer.as_ref().map(|answer| answer.status().as_u16()).map_err(ToString::to_string),
        answer: answer.as_ref().map_or_else(|_| String::new(), |answer| beginning(answer.body())),
        then,
    })
}

fn what_follows(
    answer: &Result<Response<Bytes>, SendError>,
    task: &Task,
    event: &StoredEvent,
    now: UnixMillis,
) -> Then {
    let (status, headers) = match answer {
        Ok(answer) => (Some(answer.status()), Some(answer.headers())),
        Err(_) => (None, None),
    };
    match status {
        Some(status) if status.is_success() => {
            crash::point(Point::DeliverTaken);
            let outage = |since| Outage { since, frees: outbox::freed_tries(now.since(since)) };
            return Then::Delivered { ends: event.delivery.failing_since.map(outage) };
        }
        Some(StatusCode::GONE) => {
            tracing::error!(
                event = %task.subject, merchant = %task.merchant,
                "the mall answered 410 Gone: nothing more is sent to its webhook_url until that is changed \
                 or an event is resent"
            );
            return Then::Gone;
        }
        _ => {}
    }
    let why = match answer {
        Ok(answer) => answer.status().to_string(),
        Err(error) => error.to_string(),
    };
    if outbox::is_overdue(task.tries, now.since(event.created_at)) {
        tracing::error!(
            event = %task.subject, merchant = %task.merchant, tries = task.tries, %why,
            "a webhook is overdue: its schedule is used up, it is sent once a day from now on"
        );
    } else {
        tracing::warn!(event = %task.subject, tries = task.tries, %why, "the mall did not take a webhook");
    }
    let base = outbox::wait_ms(task.tries);
    let asked = match status {
        Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            headers.and_then(|headers| retry_after(headers, now))
        }
        _ => None,
    };
    let wait = asked.map_or_else(
        || jittered(base, &task.subject, task.tries),
        |asked| asked.clamp(base, base.saturating_mul(2)),
    );
    Then::Again(now.plus(wait))
}

fn request(member: &Member, event: &StoredEvent) -> Option<Request<Bytes>> {
    let url = member.config.webhook_url.as_ref()?;
    let secret = member.config.webhook_secret.as_ref()?;
    // The receiver refuses old stamps by its own clock, so this is the real time, also in a demo whose
    // business time was moved ahead.
    let seconds = Clock::real().0 / 1_000;
    let signature = sign(secret.expose(), &event.event_id, seconds, &event.body)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("shouyin/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &event.event_id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Bytes::from(event.body.clone()));
    request.ok()
}

/// `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body` under the decoded secret.
fn sign(secret: &str, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

/// What the mall asks for, in ms: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<i64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<i64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1_000)),
        Err(_) => parse_http_date(text).map(|at| at.since(now)),
    }
}

/// The wait moved by up to [`JITTER_PERCENT`]. By a hash, not a draw: every event has its own rhythm, and
/// the same history gives the same times again.
fn jittered(wait_ms: i64, event_id: &str, tries: u32) -> i64 {
    let span = wait_ms * JITTER_PERCENT / 100;
    let [a, b, c, d, ..] = hash(&format!("{event_id}.{tries}"));
    let spread = i64::from(u32::from_le_bytes([a, b, c, d]));
    wait_ms - span + spread % (2 * span + 1)
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..ANSWER_KEPT).unwrap_or(body)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_of_the_standard_webhooks_specification() {
        // The example of the specification's own reference libraries.
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn waits_are_spread_and_repeatable() {
        let waits: std::collections::BTreeSet<i64> =
            (0..100).map(|n| jittered(10_000, &format!("evt_{n}"), 1)).collect();
        assert!(waits.len() > 50, "{waits:?}");
        assert!(waits.iter().all(|wait| (8_000..=12_000).contains(wait)), "{waits:?}");
        assert_eq!(jittered(10_000, "evt_1", 1), jittered(10_000, "evt_1", 1));
    }

    #[test]
    fn a_mall_may_say_when_to_come_again() {
        let now = UnixMillis(784_111_777_000);
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(asked("120"), Some(120_000));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60_000));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("99999999999999999999"), None);
    }
}
