//! Alipay OpenAPI, the classic gateway: a form signed with RSA2, answered by JSON with a signed node.
//! Never trusts a value before the signature is checked, never decodes a form twice (gateways.md 4).
//! `merchant` is our half, `gateway` theirs, and `page` what theirs says to a shopper's browser.

mod gateway;
mod merchant;
mod page;
#[cfg(test)]
mod refund_tests;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

pub use self::gateway::{AlipayGateway, GatewayConfig};
pub use self::merchant::{Alipay, Config, encode_ack};
use super::keys::PrivateKey;
use super::{Fault, truncate_bytes, untitled, whole_second};
use crate::domain::id::{Scene, UnixMillis};

/// A message's parameters, by name.
type Params = BTreeMap<String, String>;

/// Whose keys to try on a notice: its `app_id` and `seller_id`, not verified, good for nothing else.
///
/// # Errors
/// [`Fault::Malformed`].
pub fn identify(body: &[u8]) -> Result<(String, String), Fault> {
    let params = read_form(body)?;
    Ok((need(&params, "app_id")?.to_owned(), need(&params, "seller_id")?.to_owned()))
}

/// The title as Alipay takes it for `subject`: without `/ = &` (each becomes a space) and characters of
/// four bytes, at most 256 characters (gateways.md 4.6); `fallback` if nothing is left.
pub fn clean_title(title: &str, fallback: &str) -> String {
    let kept = title.chars().filter(|letter| !untitled(*letter));
    let kept: String = kept.map(|letter| if "/=&".contains(letter) { ' ' } else { letter }).collect();
    let cut = first_chars(kept.trim(), 256).trim_end();
    if cut.is_empty() { fallback.to_owned() } else { cut.to_owned() }
}

/// What places a trade of this scene, and under which product (gateways.md 4.4); `None`: a scene of WeChat.
const fn placing(scene: Scene) -> Option<(&'static str, &'static str)> {
    match scene {
        Scene::QrCode => Some(("alipay.trade.precreate", "FACE_TO_FACE_PAYMENT")),
        Scene::App => Some(("alipay.trade.app.pay", "QUICK_MSECURITY_PAY")),
        Scene::Wap => Some(("alipay.trade.wap.pay", "QUICK_WAP_WAY")),
        Scene::Page => Some(("alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY")),
        Scene::Native | Scene::Jsapi | Scene::Mweb => None,
    }
}

/// `wanted` in whole seconds; for the app's string at least 5 minutes away (gateways.md 4.7).
pub fn round_expiry(scene: Scene, now: UnixMillis, wanted: UnixMillis) -> UnixMillis {
    match scene {
        Scene::App => whole_second(wanted.max(now.plus(300_000))),
        Scene::Native | Scene::Jsapi | Scene::Mweb | Scene::QrCode | Scene::Wap | Scene::Page => {
            whole_second(wanted)
        }
    }
}

/// Reads `application/x-www-form-urlencoded`, exactly once (gateways.md 4.5). A name that stands twice is
/// refused: two readers could see two values.
fn read_form(body: &[u8]) -> Result<Params, Fault> {
    let wrong = |what: &str| Fault::Malformed(what.to_owned());
    if body.len() > MAX_BYTES {
        return Err(wrong("more than 64 KiB"));
    }
    let mut params = Params::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            return Err(wrong("not UTF-8"));
        };
        if params.contains_key(&name) {
            return Err(Fault::Malformed(format!("{} stands twice", clip(&name))));
        }
        params.insert(name, value);
    }
    Ok(params)
}

fn decode(part: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

/// Writes a form or a query: names as they are, values percent-encoded, spaces as `%20`.
fn write_form<'a>(params: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pair = |(name, value): (&String, &String)| format!("{name}={}", utf8_percent_encode(value, ESCAPED));
    params.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

/// The signed text: byte order, raw values, without the names in `skip` (gateways.md 4.2, 4.5).
fn canonical(params: &Params, skip: &[&str], empties: Empties) -> String {
    let signed = params.iter().filter(|(name, value)| {
        !skip.contains(&name.as_str()) && (empties == Empties::Kept || !value.is_empty())
    });
    signed.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// `SHA256withRSA`, base64 (gateways.md 4.2).
fn sign(key: &PrivateKey, text: &str) -> String {
    STANDARD.encode(key.sign_sha256(text.as_bytes()))
}

/// A parameter that is there and not empty.
fn get<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn need<'a>(params: &'a Params, name: &str) -> Result<&'a str, Fault> {
    get(params, name).ok_or_else(|| Fault::Malformed(format!("{name} is missing")))
}

fn put(params: &mut Params, name: &str, value: &str) {
    params.insert(name.to_owned(), value.to_owned());
}

fn first_chars(text: &str, count: usize) -> &str {
    let end = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    truncate_bytes(text, end)
}

/// Foreign words in our log lines have an end.
fn clip(text: &str) -> String {
    truncate_bytes(text, 512).to_owned()
}

/// Whether empty values are part of the signed text. SDKs disagree (gateways.md 4.2, 4.5).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empties {
    Kept,
    Dropped,
}

/// Bytes a message may have.
const MAX_BYTES: usize = 64 * 1024;
/// Everything but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
