//! Tells the mall: sends an event's stored bytes, signed per Standard Webhooks, until the mall takes
//! them or the schedule ends. Never changes id or bytes between tries.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};

use crate::domain::id::UnixMillis;
use crate::runtime::clock::Clock;
use crate::runtime::crash::{self, Point};
use crate::server::capability::hash;
use crate::server::checkout::Checkout;
use crate::server::store::{Task, TaskOutcome};

/// Waits between the tries, in seconds: 0 s, 5 s, 30 s, 2 m, 10 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h,
/// 24 h after each other (reliability.md 1.1), about three days in all.
const WAITS_S: [i64; 11] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The share by which a wait is moved, in percent, so that a mall that comes back is not flooded.
const JITTER_PERCENT: i64 = 20;

/// Sends one event once.
pub async fn send(checkout: &Checkout, task: &Task) -> TaskOutcome {
    crash::point(Point::DeliverClaimed);
    let request = match build(checkout, task).await {
        Ok(request) => request,
        Err(Undeliverable::Never(note)) => return TaskOutcome::Done(Some(note)),
        Err(Undeliverable::Later(note)) => return again(checkout.now(), task, note),
    };
    let Ok(member) = checkout.member(&task.merchant) else {
        return again(checkout.now(), task, "the merchant is not configured".to_owned());
    };
    crash::point(Point::DeliverBeforeSend);
    let note = match member.webhooks.send(request).await {
        Ok(answer) if answer.status().is_success() => {
            crash::point(Point::DeliverTaken);
            return TaskOutcome::Done(None);
        }
        Ok(answer) => format!("the mall answered {}", answer.status()),
        Err(error) => error.to_string(),
    };
    tracing::warn!(event = %task.subject, tries = task.tries, %note, "the mall did not take a webhook");
    again(checkout.now(), task, note)
}

enum Undeliverable {
    Never(String),
    Later(String),
}

async fn build(checkout: &Checkout, task: &Task) -> Result<Request<Bytes>, Undeliverable> {
    let never = |note: &str| Undeliverable::Never(note.to_owned());
    let event = checkout
        .store()
        .event(task.subject.clone())
        .await
        .map_err(|error| Undeliverable::Later(error.to_string()))?
        .ok_or_else(|| never("no such event"))?;
    let member = checkout.member(&task.merchant).map_err(|error| Undeliverable::Later(error.to_string()))?;
    // Without an address the event is read by `GET /rest/events`.
    let url = member.config.webhook_url.as_ref().ok_or_else(|| never("no webhook_url"))?;
    let secret = member.config.webhook_secret.as_ref().ok_or_else(|| never("no webhook_secret"))?;
    // The receiver refuses old stamps by its own clock, so this is the real time, also in a demo whose
    // business time was moved ahead.
    let seconds = Clock::real().0 / 1_000;
    let signature = sign(secret.expose(), &event.event_id, seconds, &event.body)
        .ok_or_else(|| never("webhook_secret is not whsec_ and base64"))?;
    Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("shouyin/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", event.event_id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Bytes::from(event.body))
        .map_err(|error| Undeliverable::Never(error.to_string()))
}

/// `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body` under the decoded secret.
fn sign(secret: &str, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

fn again(now: UnixMillis, task: &Task, note: String) -> TaskOutcome {
    let step = usize::try_from(task.tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(seconds) = WAITS_S.get(step) else {
        tracing::error!(%note, "a webhook was given up; it stays readable under /rest/events");
        return TaskOutcome::Done(Some(format!("given up: {note}")));
    };
    TaskOutcome::Again(now.plus(jittered(seconds * 1_000, &task.subject, task.tries)), Some(note))
}

/// The wait moved by up to [`JITTER_PERCENT`]. By a hash, not a draw: every event has its own rhythm, and
/// the same history gives the same times again.
fn jittered(wait_ms: i64, event_id: &str, tries: u32) -> i64 {
    let span = wait_ms * JITTER_PERCENT / 100;
    let [a, b, c, d, ..] = hash(&format!("{event_id}.{tries}"));
    let spread = i64::from(u32::from_le_bytes([a, b, c, d]));
    wait_ms - span + spread % (2 * span + 1)
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
}
