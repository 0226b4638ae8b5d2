//! What a browser keeps for us and must neither read nor change: AES-256-GCM under a key that derives from
//! the server's secret. Never makes a capability; those are `capability`'s.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::runtime::random;

/// What is sealed. A text that was sealed for one purpose opens for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// That this browser was sent to WeChat, for one order.
    WechatState,
    /// Who looks at the page inside WeChat.
    WechatPayer,
    /// That staff typed the PIN at this tablet.
    PadStaff,
}

/// Seals and opens.
pub struct Sealing {
    key: Zeroizing<[u8; 32]>,
}

impl Sealing {
    /// `secret` is the content of `server.secret_file`.
    pub fn new(secret: &[u8]) -> Self {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"sealing\n");
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(mac.as_ref());
        Self { key }
    }

    /// The text, sealed, as letters, digits, `-` and `_`. It opens only with the same purpose and context.
    /// `None`: the system gives no randomness.
    pub fn seal(&self, purpose: Purpose, context: &str, text: &str) -> Option<String> {
        let nonce = random::bytes::<NONCE_LEN>().ok()?;
        let mut sealed = text.as_bytes().to_vec();
        let aad = Aad::from(bound(purpose, context));
        self.key()?.seal_in_place_append_tag(Nonce::from(&nonce), aad, &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The text, if it was sealed here for this purpose and context. The tag is compared in constant time.
    pub fn open(&self, purpose: Purpose, context: &str, sealed: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.key()?.open_in_place(nonce, Aad::from(bound(purpose, context)), sealed).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn key(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.key.as_slice()).ok().map(LessSafeKey::new)
    }
}

fn bound(purpose: Purpose, context: &str) -> Vec<u8> {
    let name = match purpose {
        Purpose::WechatState => "wechat-state",
        Purpose::WechatPayer => "wechat-payer",
        Purpose::PadStaff => "pad-staff",
    };
    format!("{name}\n{context}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_own_purpose_context_and_secret_only() {
        use Purpose::{WechatPayer, WechatState};
        let (one, other) = (Sealing::new(b"one"), Sealing::new(b"other"));
        let sealed = one.seal(WechatState, "app", "oUpF8u").unwrap();
        assert_eq!(one.open(WechatState, "app", &sealed).as_deref(), Some("oUpF8u"));
        assert_eq!(one.open(WechatPayer, "app", &sealed), None);
        assert_eq!(one.open(WechatState, "ap", &sealed), None);
        assert_eq!(other.open(WechatState, "app", &sealed), None);
        assert_ne!(one.seal(WechatState, "app", "oUpF8u"), Some(sealed.clone()), "each has its own nonce");
        assert!(!String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(&sealed).unwrap()).contains("oUpF8u"));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(one.open(WechatState, "app", &String::from_utf8(bent).unwrap()), None, "{at}");
        }
        for wrong in ["", "AAAA", "!", "oUpF8u", &sealed[..sealed.len() - 1]] {
            assert_eq!(one.open(WechatState, "app", wrong), None, "{wrong}");
        }
    }
}
