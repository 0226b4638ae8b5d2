//! Keys: reading them in every armour merchants paste, signing, verifying, and secrets that stay secret.
//! The `rsa` crate only reads and checks; every signature is made and checked by aws-lc-rs.
//! Facts: gateways.md 2.2 and 4.2.

use core::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::{self, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfoRef, SubjectPublicKeyInfoRef};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Text that must not be seen: an API key, a PEM private key. No Display, no Serialize, a redacting
/// Debug, wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// A merchant's or gateway's private RSA key, 2048 to 8192 bits.
#[derive(Clone)]
pub struct PrivateKey {
    pair: Arc<KeyPair>,
    public: PublicKey,
}

/// A public RSA key, 2048 to 8192 bits.
#[derive(Clone)]
pub struct PublicKey {
    /// The canonical PKCS#1 form, by which keys are compared.
    pkcs1: Arc<[u8]>,
    parsed: Arc<ParsedPublicKey>,
}

/// Why a text is not a usable key. The words are for the person who configures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing but white space.
    #[error("the key is empty")]
    Empty,
    /// The text between the armour, or all of it, is not base64.
    #[error("the key is neither PEM nor base64")]
    NotBase64,
    /// Another kind of PEM block, or none where one was begun.
    #[error("expected {wanted}, found a PEM block that is something else")]
    WrongKind {
        /// What the caller needs.
        wanted: &'static str,
    },
    /// A private key with a password.
    #[error("the private key is encrypted; store it without a password in a file only the service can read")]
    Encrypted,
    /// EC, SM2 or any other algorithm.
    #[error("not an RSA key")]
    NotRsa,
    /// A key that can be broken, or that gateways refuse.
    #[error("an RSA key of {bits} bits; at least 2048 are needed")]
    TooSmall {
        /// Its size.
        bits: usize,
    },
    /// Structure or numbers are wrong.
    #[error("the key is damaged: {what}")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// The library could not make a key.
    #[error("no key could be made")]
    NotMade,
}

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Every use of this is a place to look at twice.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PrivateKey {
    /// Reads PEM (PKCS#8 or PKCS#1) or the bare base64 of either, as Alipay's key tool gives it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(text: &str) -> Result<Self, KeyError> {
        const WANTED: &str = "an RSA private key";
        let (label, der) = unarmour(text)?;
        let key = match label.as_deref() {
            Some("RSA PRIVATE KEY") => private_from_pkcs1(&der),
            Some("PRIVATE KEY") => private_from_pkcs8(&der),
            Some("ENCRYPTED PRIVATE KEY") => Err(KeyError::Encrypted),
            Some(_) => Err(KeyError::WrongKind { wanted: WANTED }),
            None => private_from_pkcs8(&der).or_else(|error| match error {
                KeyError::Damaged { .. } => private_from_pkcs1(&der),
                other => Err(other),
            }),
        }?;
        let pkcs8 = key.to_pkcs8_der().map_err(|_| KeyError::Damaged { what: "its numbers" })?;
        let pair =
            KeyPair::from_pkcs8(pkcs8.as_bytes()).map_err(|_| KeyError::Damaged { what: "its numbers" })?;
        Ok(Self { pair: Arc::new(pair), public: PublicKey::of(key.as_ref())? })
    }

    /// Makes a key of 2048 bits and gives its PKCS#8 PEM. Used by the emulator at its first start
    /// only, never while an order is handled.
    ///
    /// # Errors
    /// [`KeyError::NotMade`].
    pub fn generate() -> Result<Secret, KeyError> {
        pem_of(&KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::NotMade)?)
    }

    /// Its PKCS#8 PEM, for a TLS library that signs with it.
    ///
    /// # Errors
    /// [`KeyError::NotMade`] if the library fails (out of memory).
    pub fn to_pem(&self) -> Result<Secret, KeyError> {
        pem_of(&self.pair)
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256, which WeChat calls SHA256-RSA2048 and Alipay RSA2.
    /// Empty if the library fails (out of memory): nobody takes an empty signature.
    pub fn sign_sha256(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        #[expect(clippy::disallowed_methods, reason = "the padding is deterministic; the library ignores it")]
        let unused = SystemRandom::new();
        match self.pair.sign(&RSA_PKCS1_SHA256, &unused, message, &mut signature) {
            Ok(()) => signature,
            Err(_) => Vec::new(),
        }
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether `public` is this key's other half. What a merchant uploads and what it keeps often differ.
    pub fn matches(&self, public: &PublicKey) -> bool {
        self.public == *public
    }
}

impl PublicKey {
    /// Reads PEM (SPKI, PKCS#1, an X.509 certificate) or the bare base64 of any of them.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(text: &str) -> Result<Self, KeyError> {
        const WANTED: &str = "an RSA public key or certificate";
        let (label, der) = unarmour(text)?;
        match label.as_deref() {
            Some("PUBLIC KEY") => public_from_spki(&der),
            Some("RSA PUBLIC KEY") => public_from_pkcs1(&der),
            Some("CERTIFICATE" | "TRUSTED CERTIFICATE") => public_from_certificate(&der),
            Some(_) => Err(KeyError::WrongKind { wanted: WANTED }),
            None => {
                let damaged = |error: &KeyError| matches!(error, KeyError::Damaged { .. });
                match public_from_spki(&der) {
                    Err(error) if damaged(&error) => match public_from_pkcs1(&der) {
                        Err(error) if damaged(&error) => public_from_certificate(&der),
                        other => other,
                    },
                    other => other,
                }
            }
        }
    }

    /// Whether `signature` (RSASSA-PKCS1-v1_5, SHA-256) is this key's over `message`.
    pub fn verify_sha256(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// The same for a base64 signature, strictly padded.
    pub fn verify_sha256_base64(&self, message: &[u8], signature: &str) -> bool {
        STANDARD.decode(signature).is_ok_and(|raw| self.verify_sha256(message, &raw))
    }

    /// What a signature holds (algorithm and hash, DER), if this key's private half made it, whatever was
    /// signed. For explaining only: `verify_sha256` is what decides.
    pub fn opened(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let key = self.numbers()?;
        let bits = u32::try_from(signature.len().checked_mul(8)?).ok()?;
        let number = rsa::BoxedUint::from_be_slice(signature, bits).ok()?;
        let raised = rsa::hazmat::rsa_encrypt(&key, &number).ok()?.to_be_bytes();
        // RFC 8017, 9.2: 00 01 ff … ff 00, then the hash with its algorithm.
        let padded = raised.strip_prefix(&[0, 1])?;
        let end = padded.iter().position(|byte| *byte != 0xff).filter(|end| *end >= 8)?;
        padded.get(end..)?.strip_prefix(&[0]).map(<[u8]>::to_vec)
    }

    fn numbers(&self) -> Option<rsa::PublicKey> {
        let key = pkcs1::RsaPublicKeyRef::try_from(&*self.pkcs1).ok()?;
        rsa::PublicKey::try_from(key).ok()
    }

    /// SPKI PEM, as gateways hand it out.
    pub fn to_pem(&self) -> String {
        // It was made from these very bytes, so neither step can fail.
        self.numbers().and_then(|key| key.to_public_key_pem(LineEnding::LF).ok()).unwrap_or_default()
    }

    fn of(key: &rsa::PublicKey) -> Result<Self, KeyError> {
        const WHAT: KeyError = KeyError::Damaged { what: "its numbers" };
        let pkcs1 = key.to_pkcs1_der().map_err(|_| WHAT)?;
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pkcs1.as_bytes()).map_err(|_| WHAT)?;
        Ok(Self { pkcs1: Arc::from(pkcs1.as_bytes()), parsed: Arc::new(parsed) })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl From<Zeroizing<String>> for Secret {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

/// In constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same(self.expose(), other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(***)")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bytes)", self.pkcs1.len())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.pkcs1 == other.pkcs1
    }
}

impl Eq for PublicKey {}

/// The PKCS#8 PEM of a key.
fn pem_of(pair: &KeyPair) -> Result<Secret, KeyError> {
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::NotMade)?;
    let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
    // Long enough from the start, so that no copy outside `Zeroizing` is left behind.
    let mut pem = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 64));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (at, letter) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    Ok(Secret(pem))
}

/// Whether two MACs are the same, without telling by the time taken where they differ.
pub fn same(left: &str, right: &str) -> bool {
    bool::from(left.as_bytes().ct_eq(right.as_bytes()))
}

/// Takes off PEM armour, if there is any. Environment variables and consoles bring keys with `\n` spelled
/// out, without line ends or with spaces: all of that is no part of the key.
fn unarmour(text: &str) -> Result<(Option<String>, Zeroizing<Vec<u8>>), KeyError> {
    let text = Zeroizing::new(text.replace("\\r", "").replace("\\n", "\n"));
    let (label, body) = match text.split_once("-----BEGIN ") {
        None => (None, text.as_str()),
        Some((_, rest)) => {
            let damaged = KeyError::Damaged { what: "its PEM armour" };
            let (label, rest) = rest.split_once("-----").ok_or(damaged)?;
            let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(damaged)?;
            if body.contains("ENCRYPTED") {
                return Err(KeyError::Encrypted);
            }
            (Some(label.to_owned()), body)
        }
    };
    let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_whitespace()).collect());
    if body.is_empty() {
        return Err(KeyError::Empty);
    }
    let der = STANDARD.decode(body.as_bytes()).map_err(|_| KeyError::NotBase64)?;
    Ok((label, Zeroizing::new(der)))
}

fn private_from_pkcs8(der: &[u8]) -> Result<rsa::PrivateKey, KeyError> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::Damaged { what: "its structure" })?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(KeyError::NotRsa);
    }
    private_from_pkcs1(info.private_key.as_bytes())
}

fn private_from_pkcs1(der: &[u8]) -> Result<rsa::PrivateKey, KeyError> {
    let key =
        pkcs1::RsaPrivateKeyRef::try_from(der).map_err(|_| KeyError::Damaged { what: "its structure" })?;
    check_size(key.modulus.as_bytes())?;
    // Checks that primes, exponents and modulus belong together.
    rsa::PrivateKey::try_from(key).map_err(|_| KeyError::Damaged { what: "its numbers do not fit together" })
}

fn public_from_spki(der: &[u8]) -> Result<PublicKey, KeyError> {
    let info =
        SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyError::Damaged { what: "its structure" })?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(KeyError::NotRsa);
    }
    public_from_pkcs1(info.subject_public_key.as_bytes().ok_or(KeyError::Damaged { what: "its structure" })?)
}

fn public_from_pkcs1(der: &[u8]) -> Result<PublicKey, KeyError> {
    let key =
        pkcs1::RsaPublicKeyRef::try_from(der).map_err(|_| KeyError::Damaged { what: "its structure" })?;
    check_size(key.modulus.as_bytes())?;
    let key = rsa::PublicKey::try_from(key).map_err(|_| KeyError::Damaged { what: "its numbers" })?;
    PublicKey::of(&key)
}

fn public_from_certificate(der: &[u8]) -> Result<PublicKey, KeyError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der)
        .map_err(|_| KeyError::Damaged { what: "the certificate's structure" })?;
    public_from_spki(certificate.tbs_certificate.subject_pki.raw)
}

/// Both gateways name 2048 bits; aws-lc-rs verifies nothing below.
fn check_size(modulus: &[u8]) -> Result<(), KeyError> {
    let zero_bits = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(zero_bits).unwrap_or(0));
    if bits < 2048 { Err(KeyError::TooSmall { bits }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing::{APP_KEY, APP_PUBLIC, OFFICIAL, alipay_key, vectors};

    /// A key of `vectors/keys`.
    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("vectors/keys/", $name))
        };
    }

    fn bare(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[test]
    fn private_keys_in_every_armour() {
        let key = PrivateKey::read(APP_KEY).unwrap();
        let signature = key.sign_sha256(b"message");
        for text in [
            pem!("app.pkcs1.pem").to_owned(),
            bare(APP_KEY),
            bare(pem!("app.pkcs1.pem")),
            APP_KEY.replace('\n', "\\n"),
            APP_KEY.replace('\n', "\r\n"),
            format!("  \n{}", APP_KEY.replace('\n', " ")),
            key.to_pem().unwrap().expose().to_owned(),
        ] {
            let again = PrivateKey::read(&text).unwrap();
            assert!(again.matches(key.public()));
            // The padding is deterministic, so the same key signs the same.
            assert_eq!(again.sign_sha256(b"message"), signature, "{text}");
        }
    }

    #[test]
    fn public_keys_in_every_armour() {
        let key = PrivateKey::read(APP_KEY).unwrap();
        for text in [APP_PUBLIC, pem!("app.pkcs1.pub.pem"), pem!("app.crt.pem")] {
            assert_eq!(PublicKey::read(text).as_ref(), Ok(key.public()));
            assert_eq!(PublicKey::read(&bare(text)).as_ref(), Ok(key.public()));
        }
        assert_eq!(key.public().to_pem(), APP_PUBLIC);
    }

    #[test]
    fn wrong_keys_are_refused_by_name() {
        use KeyError::{Damaged, Empty, Encrypted, NotBase64, NotRsa, TooSmall, WrongKind};
        let private = |text: &str| PrivateKey::read(text).map(|_| ()).unwrap_err();
        let public = |text: &str| PublicKey::read(text).map(|_| ()).unwrap_err();
        assert_eq!(private(" "), Empty);
        assert_eq!(private("not a key"), NotBase64);
        assert_eq!(private(pem!("small.pkcs8.pem")), TooSmall { bits: 1024 });
        assert_eq!(private(pem!("ec.pkcs8.pem")), NotRsa);
        assert_eq!(private(&bare(pem!("ec.pkcs8.pem"))), NotRsa);
        assert_eq!(private(pem!("app.encrypted.pem")), Encrypted);
        assert!(matches!(private(APP_PUBLIC), WrongKind { .. }));
        assert!(matches!(private(&bare(APP_PUBLIC)), Damaged { .. }));
        assert!(matches!(private(&APP_KEY.replace("-----END", "")), Damaged { .. }));
        assert_eq!(public(pem!("small.spki.pem")), TooSmall { bits: 1024 });
        assert_eq!(public(pem!("ec.spki.pem")), NotRsa);
        assert!(matches!(public(APP_KEY), WrongKind { .. }));
        assert!(matches!(public("AAAA"), Damaged { .. }));
        assert_eq!(TooSmall { bits: 1024 }.to_string(), "an RSA key of 1024 bits; at least 2048 are needed");
    }

    #[test]
    fn a_signature_by_somebody_else() {
        let rsa = &vectors(OFFICIAL)["rsa"];
        let text = |name: &str| rsa[name].as_str().unwrap();
        let key = PublicKey::read(text("public_key")).unwrap();
        assert!(key.verify_sha256_base64(text("message").as_bytes(), text("signature")));
        assert!(!key.verify_sha256_base64(b"sourcf", text("signature")));
        assert!(!key.verify_sha256_base64(text("message").as_bytes(), &text("signature").to_lowercase()));
        assert!(!key.verify_sha256_base64(text("message").as_bytes(), ""));
    }

    #[test]
    fn a_made_key_signs_and_is_not_shown() {
        let pem = PrivateKey::generate().unwrap();
        let key = PrivateKey::read(pem.expose()).unwrap();
        assert!(key.public().verify_sha256(b"x", &key.sign_sha256(b"x")));
        assert!(!key.matches(alipay_key().public()));
        assert!(PublicKey::read(&key.public().to_pem()).is_ok_and(|public| key.matches(&public)));
        assert_eq!(format!("{key:?} {pem:?}"), "PrivateKey(***) Secret(***)");
    }
}
