//! The keys that WeChat Pay signs with, by their serial: public keys and platform certificates, all of them
//! good at once, so that one may be changed for another (gateways.md 2.2).
//! Never forgets a key that was configured; a certificate ends by its own date.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::super::Fault;
use super::super::keys::{KeyError, PublicKey};
use super::PUBLIC_KEY_ID;
use crate::domain::id::UnixMillis;
use crate::domain::time;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformKey {
    /// `PUB_KEY_ID_…`, or a certificate's serial number in upper-case hex.
    pub serial: String,
    /// The key itself.
    pub key: PublicKey,
    /// A certificate's first and last moment.
    pub valid: Option<(UnixMillis, UnixMillis)>,
}

impl PlatformKey {
    /// Reads a certificate, PEM.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn certificate(pem: &str) -> Result<Self, KeyError> {
        const DAMAGED: KeyError = KeyError::Damaged { what: "the certificate's structure" };
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| DAMAGED)?;
        let certificate = block.parse_x509().map_err(|_| DAMAGED)?;
        let moment = |at: x509_parser::time::ASN1Time| UnixMillis(at.timestamp().saturating_mul(1000));
        let validity = certificate.validity();
        Ok(Self {
            // A zero in front only says that the number is positive.
            serial: hex::encode_upper(match certificate.raw_serial() {
                [0, rest @ ..] => rest,
                all => all,
            }),
            key: PublicKey::read(pem)?,
            valid: Some((moment(validity.not_before), moment(validity.not_after))),
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: RwLock<Arc<BTreeMap<String, PlatformKey>>>,
}

impl KeyRing {
    /// With what is configured.
    pub fn new(keys: impl IntoIterator<Item = PlatformKey>) -> Self {
        let ring = Self::default();
        ring.learn(keys);
        ring
    }

    /// Adds keys, and replaces those of the same serial.
    pub fn learn(&self, keys: impl IntoIterator<Item = PlatformKey>) {
        let mut all = BTreeMap::clone(&self.all());
        all.extend(keys.into_iter().map(|key| (key.serial.clone(), key)));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    /// As they are now.
    pub fn all(&self) -> Arc<BTreeMap<String, PlatformKey>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key of this serial, if it is good now.
    pub(super) fn find(&self, serial: &str, now: UnixMillis) -> Result<PublicKey, Fault> {
        let all = self.all();
        let known = all.get(serial).ok_or_else(|| Fault::UnknownKey(super::clip(serial)))?;
        match known.valid {
            Some((from, to)) if now < from || now > to => Err(Fault::UnknownKey(format!(
                "{serial} is good from {} to {} only",
                time::rfc3339(from),
                time::rfc3339(to)
            ))),
            _ => Ok(known.key.clone()),
        }
    }

    /// The public key that answers are asked to be signed with: the greatest id is the newest.
    pub(super) fn preferred(&self) -> Option<String> {
        self.all().keys().rev().find(|serial| serial.starts_with(PUBLIC_KEY_ID)).cloned()
    }

    /// When the last certificate ends, if there is one; with a public key nothing ends.
    pub fn ends_at(&self) -> Option<UnixMillis> {
        let all = self.all();
        if all.values().any(|key| key.valid.is_none()) {
            return None;
        }
        all.values().filter_map(|key| key.valid).map(|(_, to)| to).max()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }
}
