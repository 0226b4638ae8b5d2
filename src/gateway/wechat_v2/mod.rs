//! WeChat Pay API v2: flat XML, signed with MD5 or HMAC-SHA256 under the merchant's 32-character key.
//! Never trusts a field before the signature over all of them is checked (gateways.md 1).
//! `merchant` is our half, `gateway` and `bridge` theirs; `sealed` is what both know of the encrypted refund
//! notice.

mod bridge;
mod gateway;
mod merchant;
#[cfg(test)]
mod refund_tests;
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

pub use self::gateway::{GatewayConfig, WechatV2Gateway};
pub use self::merchant::{Config, WechatV2, encode_ack};
use super::keys::{Secret, same};
use super::xml::{self, XmlError};
use super::{Fault, Stamp, truncate_bytes, untitled, whole_second};
use crate::domain::id::{UnixMillis, word_enum};

word_enum!(
    /// How messages are signed.
    SignType {
        /// The default of the protocol.
        Md5 = "MD5",
        /// The better one.
        HmacSha256 = "HMAC-SHA256",
    }
);

/// What a page hands to WeChat's browser (gateways.md 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayParams {
    /// Ours.
    pub app_id: String,
    /// Seconds since 1970, as text.
    pub time_stamp: String,
    /// Fresh.
    pub nonce_str: String,
    /// `prepay_id=…`.
    pub package: String,
    /// `MD5` or `HMAC-SHA256`, that of the creation.
    pub sign_type: String,
    /// The signature over the five fields above.
    pub pay_sign: String,
}

/// A message's fields, by name.
type Fields = BTreeMap<String, String>;

/// Whose keys to try on a notice: its `appid` and `mch_id`, not verified, good for nothing else.
///
/// # Errors
/// [`Fault::Malformed`].
pub fn identify(body: &[u8]) -> Result<(String, String), Fault> {
    let fields = read(body)?;
    Ok((need(&fields, "appid")?.to_owned(), need(&fields, "mch_id")?.to_owned()))
}

/// The title as WeChat takes it for `body`: no characters of four bytes, at most 127 bytes (gateways.md
/// 1.2 and pitfall 28); `fallback` if nothing is left.
pub fn clean_title(title: &str, fallback: &str) -> String {
    let cut = clean(title, 127);
    if cut.is_empty() { truncate_bytes(fallback, 127).to_owned() } else { cut }
}

/// What WeChat takes of a text: at most `max` bytes, no characters of four.
pub(super) fn clean(text: &str, max: usize) -> String {
    let kept: String = text.chars().filter(|letter| !untitled(*letter)).collect();
    truncate_bytes(kept.trim(), max).trim_end().to_owned()
}

/// `wanted`, but at least 5 min 30 s away: WeChat refuses less than 5 minutes by its own clock
/// (gateways.md 1.2). In whole seconds.
pub const fn round_expiry(now: UnixMillis, wanted: UnixMillis) -> UnixMillis {
    let least = now.plus(330_000);
    whole_second(if wanted.0 < least.0 { least } else { wanted })
}

/// Signs `fields` (gateways.md 1.3): upper-case hex.
fn sign(fields: &Fields, key: &Secret, sign_type: SignType) -> String {
    let text = Zeroizing::new(format!("{}&key={}", canonical(fields), key.expose()));
    sign_text(text.as_bytes(), key, sign_type)
}

/// Signs a text that ends in `&key=…` already: upper-case hex.
pub(super) fn sign_text(text: &[u8], key: &Secret, sign_type: SignType) -> String {
    match sign_type {
        SignType::Md5 => hex::encode_upper(Md5::digest(text)),
        SignType::HmacSha256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
            hex::encode_upper(hmac::sign(&key, text))
        }
    }
}

/// The document inside a refund notice, if it opens.
pub(super) fn open_refund(req_info: &str, key: &Secret) -> Option<Fields> {
    sealed::open(req_info, key).ok()
}

/// The signed text without the key: every field but `sign`, unknown ones too, empty ones not, in byte
/// order, values as they are (gateways.md 1.3, pitfall 27).
fn canonical(fields: &Fields) -> String {
    let signed = fields.iter().filter(|(name, value)| *name != "sign" && !value.is_empty());
    signed.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Checks that `fields` carry a signature of exactly `sign_type`. The type is ours to say: a message that
/// asks for a weaker one is refused (gateways.md 5, pitfall 2).
fn verify(fields: &Fields, key: &Secret, sign_type: SignType) -> Result<(), Fault> {
    let bad = |why: String| Err(Fault::BadSignature(why));
    let Some(received) = get(fields, "sign") else {
        return bad("there is no sign".to_owned());
    };
    if let Some(named) = get(fields, "sign_type")
        && named != sign_type.as_str()
    {
        return bad(format!("sign_type is {}, expected {sign_type}", clip(named)));
    }
    let length = match sign_type {
        SignType::Md5 => 32,
        SignType::HmacSha256 => 64,
    };
    if received.len() != length {
        return bad(format!("sign has {} characters, {sign_type} has {length}", received.len()));
    }
    if !same(received, &sign(fields, key, sign_type)) {
        // The text itself holds the payer's openid and stays out of logs.
        return bad(format!("sign does not fit the {} fields and the key", fields.len()));
    }
    Ok(())
}

/// Fills in nonce and signature and writes the document, without empty fields.
fn seal(mut fields: Fields, key: &Secret, sign_type: SignType, stamp: &Stamp) -> String {
    fields.retain(|_, value| !value.is_empty());
    put(&mut fields, "nonce_str", &stamp.nonce);
    let signature = sign(&fields, key, sign_type);
    put(&mut fields, "sign", &signature);
    write(&fields)
}

fn read(body: &[u8]) -> Result<Fields, Fault> {
    xml::read(body, "xml").map_err(|error: XmlError| Fault::Malformed(error.to_string()))
}

fn write(fields: &Fields) -> String {
    xml::write("xml", fields.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// A field that is there and not empty.
fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn need<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Fault> {
    get(fields, name).ok_or_else(|| Fault::Malformed(format!("{name} is missing")))
}

fn put(fields: &mut Fields, name: &str, value: &str) {
    fields.insert(name.to_owned(), value.to_owned());
}

/// Bytes of a `refund_desc` (gateways.md 1.5).
const REFUND_DESC_MAX: usize = 80;

/// Foreign words in our log lines have an end.
fn clip(text: &str) -> String {
    truncate_bytes(text, 512).to_owned()
}
