//! AES-256-GCM as notices and certificates are sealed with, under the merchant's `APIv3` key
//! (gateways.md 2.9). Never panics at what comes from outside: a nonce or a tag of a wrong length is a seal
//! that does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Fault;
use super::super::keys::Secret;
use super::Sealed;

/// The only way there is.
pub(super) const ALGORITHM: &str = "AEAD_AES_256_GCM";

impl Sealed {
    /// What is sealed, or that it is not ours to open. All reasons look alike but the algorithm.
    pub(super) fn open(&self, key: &Secret) -> Result<Vec<u8>, Fault> {
        if self.algorithm != ALGORITHM {
            return Err(Fault::Malformed(format!("sealed with {}", super::clip(&self.algorithm))));
        }
        let aad = self.associated_data.as_deref().unwrap_or_default();
        let opened = open(key, &self.nonce, aad, &self.ciphertext);
        opened.ok_or_else(|| Fault::BadSignature("the seal does not open with the APIv3 key".to_owned()))
    }
}

fn cipher(key: &Secret) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose().as_bytes()).ok()?))
}

pub(super) fn open(key: &Secret, nonce: &str, aad: &str, ciphertext: &str) -> Option<Vec<u8>> {
    let mut bytes = STANDARD.decode(ciphertext).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).ok()?;
    let plain = cipher(key)?.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut bytes).ok()?.len();
    bytes.truncate(plain);
    Some(bytes)
}

/// `None` only if the key has not 32 bytes or the nonce not 12.
pub(super) fn seal(key: &Secret, nonce: &str, aad: &str, plain: &[u8]) -> Option<String> {
    let mut bytes = plain.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).ok()?;
    cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(aad.as_bytes()), &mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}
