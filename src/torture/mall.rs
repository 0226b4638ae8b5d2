//! Malls for the torture: they take webhooks, check them, and keep what they were told: id, bytes, effect.
//! Never forgives: an id that comes with other bytes is written down as such.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::dice::Dice;
use crate::domain::id::UnixMillis;
use crate::emulator::mall::verify;
use crate::gateway::keys::Secret;
use crate::runtime::clock::Clock;

/// SHA-256 of a body.
pub type Hash = [u8; 32];

/// What a mall was told under one id.
#[derive(Clone, Debug)]
pub struct Told {
    /// `order.paid`, …
    pub kind: String,
    /// Which order.
    pub number: String,
    /// The bytes of the first delivery.
    pub hash: Hash,
    /// How often it came with these bytes.
    pub times: u32,
    /// How often it came with others.
    pub altered: u32,
    /// When it came first, in real time.
    pub first_at: UnixMillis,
}

/// How a mall behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes everything.
    Well,
    /// Takes most things; answers 503 to a few that it took, and drops a few.
    Moody,
    /// Answers 503.
    Dead,
    /// Never answers.
    Hanging,
}

/// One mall.
#[derive(Clone)]
pub struct Mall {
    /// Its name in the configuration.
    pub id: String,
    /// What it calls the service with.
    pub api_key: String,
    /// What webhooks to it are signed with.
    pub secret: Secret,
    inner: Arc<Inner>,
}

struct Inner {
    mood: AtomicU8,
    throws: AtomicU64,
    unbelievable: AtomicU64,
    told: Mutex<BTreeMap<String, Told>>,
}

impl Mall {
    /// A mall that is well.
    pub fn new(id: String, api_key: String, secret: Secret) -> Self {
        let inner = Inner {
            mood: AtomicU8::new(0),
            throws: AtomicU64::new(0),
            unbelievable: AtomicU64::new(0),
            told: Mutex::default(),
        };
        Self { id, api_key, secret, inner: Arc::new(inner) }
    }

    /// Where it takes webhooks.
    pub fn path(&self) -> String {
        format!("/hook/{}", self.id)
    }

    /// Its face.
    pub fn router(&self) -> Router {
        Router::new()
            .route(&self.path(), post(hear))
            .layer(DefaultBodyLimit::max(1024 * 1024))
            .with_state(self.clone())
    }

    /// Changes how it behaves.
    pub fn set(&self, mood: Mood) {
        let number = match mood {
            Mood::Well => 0,
            Mood::Moody => 1,
            Mood::Dead => 2,
            Mood::Hanging => 3,
        };
        self.inner.mood.store(number, Ordering::SeqCst);
    }

    fn mood(&self) -> Mood {
        match self.inner.mood.load(Ordering::SeqCst) {
            0 => Mood::Well,
            1 => Mood::Moody,
            2 => Mood::Dead,
            _ => Mood::Hanging,
        }
    }

    /// What it was told, by id.
    pub fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deliveries that were not signed as they must be.
    pub fn unbelievable(&self) -> u64 {
        self.inner.unbelievable.load(Ordering::SeqCst)
    }

    fn write_down(&self, id: String, body: &Bytes) -> Option<()> {
        #[derive(Deserialize)]
        struct Event {
            r#type: String,
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            order_number: String,
        }
        let hash = hash(body);
        let Event { r#type: kind, data } = serde_json::from_slice(body).ok()?;
        let number = data.order_number;
        let mut told = self.told();
        let first_at = Clock::real();
        let entry =
            told.entry(id).or_insert_with(|| Told { kind, number, hash, times: 0, altered: 0, first_at });
        if entry.hash == hash {
            entry.times = entry.times.saturating_add(1);
        } else {
            entry.altered = entry.altered.saturating_add(1);
        }
        Some(())
    }
}

/// SHA-256.
pub fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

async fn hear(State(mall): State<Mall>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut dice = Dice::new(mall.inner.throws.fetch_add(1, Ordering::SeqCst), 77);
    let mood = mall.mood();
    match mood {
        Mood::Moody if dice.percent(5) => return StatusCode::SERVICE_UNAVAILABLE,
        Mood::Well | Mood::Moody => {}
        Mood::Dead => return StatusCode::SERVICE_UNAVAILABLE,
        Mood::Hanging => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
    }
    let Ok(id) = verify(&mall.secret, &headers, &body, Clock::real()) else {
        mall.inner.unbelievable.fetch_add(1, Ordering::SeqCst);
        return StatusCode::BAD_REQUEST;
    };
    if mall.write_down(id, &body).is_none() {
        mall.inner.unbelievable.fetch_add(1, Ordering::SeqCst);
        return StatusCode::BAD_REQUEST;
    }
    // What was taken may still be told again.
    if mood == Mood::Moody && dice.percent(5) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::NO_CONTENT
    }
}
