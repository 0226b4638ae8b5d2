//! The refund notice's `req_info`: AES-256-ECB with PKCS#7 under a key made of the API key. It is all the
//! authenticity that notice has (gateways.md 1.7), so what does not open is refused for one reason, whatever
//! part of it is wrong.

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use super::super::keys::Secret;
use super::super::{Fault, xml};
use super::Fields;

/// Opens `req_info` and reads the document in it.
pub(super) fn open(req_info: &str, key: &Secret) -> Result<Fields, Fault> {
    let opened = || {
        let mut bytes = STANDARD.decode(req_info.trim()).ok()?;
        let key = PaddedBlockDecryptingKey::ecb_pkcs7(cipher_key(key).ok()?).ok()?;
        let plain = key.decrypt(&mut bytes, DecryptionContext::None).ok()?;
        // A wrong key leaves right padding once in 256 times; only a document shows that it was ours.
        xml::read(plain, "root").ok()
    };
    opened().ok_or_else(|| Fault::BadSignature("req_info does not open with the API key".to_owned()))
}

/// Seals a document as `req_info`. `None` only if the library fails.
pub(super) fn seal(fields: &Fields, key: &Secret) -> Option<String> {
    seal_text(xml::write("root", fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))), key)
}

pub(super) fn seal_text(text: String, key: &Secret) -> Option<String> {
    let mut bytes = text.into_bytes();
    let key = PaddedBlockEncryptingKey::ecb_pkcs7(cipher_key(key).ok()?).ok()?;
    key.encrypt(&mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}

/// The 32 characters of the API key's MD5 in lower-case hex, as bytes.
fn cipher_key(key: &Secret) -> Result<UnboundCipherKey, Unspecified> {
    let hex = Zeroizing::new(hex::encode(Md5::digest(key.expose().as_bytes())));
    UnboundCipherKey::new(&AES_256, hex.as_bytes())
}
