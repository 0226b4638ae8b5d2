//! WeChat Pay API v3: JSON over HTTP, signed with RSA-SHA256 in headers, secrets sealed with AES-256-GCM.
//! Never trusts a byte of a yes before the signature over all of it is checked (gateways.md 2).
//! `merchant` is our half; `gateway`, `asked`, `told` and `bridge` are theirs; `sealed` and `ring` are what
//! both know of seals and of the platform's keys.

mod asked;
mod bridge;
mod gateway;
mod merchant;
#[cfg(test)]
mod rejected_tests;
mod ring;
mod sealed;
#[cfg(test)]
mod tests;
mod told;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

pub use self::gateway::{GatewayConfig, KeyKind, PlatformSigner, WechatV3Gateway};
pub use self::merchant::{Config, WechatV3, encode_ack};
pub use self::ring::{KeyRing, PlatformKey};
use super::keys::PrivateKey;
use super::{Fault, truncate_bytes};
use crate::domain::id::UnixMillis;

/// The one kind of signature (gateways.md 2.2).
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
/// How far a stamp may be off: the official Go SDK refuses from here on (gateways.md 2.2).
const WINDOW_S: i64 = 300;
/// How signatures begin that are wrong on purpose (gateways.md 2.2, pitfall 24).
const PROBE: &str = "WECHATPAY/SIGNTEST/";
/// How the ids of WeChat's public keys begin; a certificate's is 40 hex digits.
const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_";

static TIMESTAMP: HeaderName = HeaderName::from_static("wechatpay-timestamp");
static NONCE: HeaderName = HeaderName::from_static("wechatpay-nonce");
static SIGNATURE: HeaderName = HeaderName::from_static("wechatpay-signature");
static SERIAL: HeaderName = HeaderName::from_static("wechatpay-serial");
static SIGNATURE_TYPE: HeaderName = HeaderName::from_static("wechatpay-signature-type");

const NATIVE: &str = "/v3/pay/transactions/native";
const JSAPI: &str = "/v3/pay/transactions/jsapi";
const H5: &str = "/v3/pay/transactions/h5";
const APP: &str = "/v3/pay/transactions/app";
const BY_NUMBER: &str = "/v3/pay/transactions/out-trade-no/";
const BY_TRANSACTION: &str = "/v3/pay/transactions/id/";
const REFUNDS: &str = "/v3/refund/domestic/refunds";
/// Where the platform's certificates are fetched.
const CERTIFICATES: &str = "/v3/certificates";

/// Bytes of a refund's `reason` (gateways.md 2.5).
const REASON_MAX: usize = 80;

/// What is signed of an answer or a notice: lines, each with its end (gateways.md 2.2).
fn told_text(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    text
}

/// What is signed of a request (gateways.md 2.2). `target` is path and query as they are sent.
fn asked_text(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    text
}

fn sign(key: &PrivateKey, text: &[u8]) -> String {
    STANDARD.encode(key.sign_sha256(text))
}

/// Seconds since 1970, as text.
fn seconds(now: UnixMillis) -> String {
    now.0.div_euclid(1000).to_string()
}

/// Whether a stamp in seconds is too far from now; `None`: it is no stamp.
fn is_stale(timestamp: &str, now: UnixMillis) -> Option<bool> {
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let at: i64 = timestamp.parse().ok().filter(|_| digits)?;
    Some(now.0.div_euclid(1000).saturating_sub(at).saturating_abs() >= WINDOW_S)
}

/// A header that stands there once and is readable.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next().filter(|_| all.next().is_none())?;
    first.to_str().ok().filter(|text| !text.is_empty())
}

/// A number of ours inside a path: encoded before it is signed (gateways.md 2.4).
fn in_path(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A moment, RFC 3339 with an offset (gateways.md 2.4).
fn moment(text: &str) -> Option<UnixMillis> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(UnixMillis(at.as_millisecond()))
}

/// Foreign words in our log lines have an end.
fn clip(text: &str) -> String {
    truncate_bytes(text, 512).to_owned()
}

/// A notice as it comes (gateways.md 2.9).
#[derive(Deserialize)]
struct Envelope {
    id: Option<String>,
    event_type: String,
    resource: Sealed,
}

/// A sealed text, in notices and among certificates.
#[derive(Deserialize)]
struct Sealed {
    algorithm: String,
    ciphertext: String,
    #[serde(default)]
    associated_data: Option<String>,
    nonce: String,
}

/// The answer to `GET /v3/certificates` (gateways.md 2.6).
#[derive(Deserialize)]
struct Certificates {
    data: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
struct CertificateEntry {
    serial_no: String,
    encrypt_certificate: Sealed,
}

fn malformed(what: &str, error: impl core::fmt::Display) -> Fault {
    Fault::Malformed(format!("{what}: {}", clip(&error.to_string())))
}
