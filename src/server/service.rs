//! The service put together from a configuration: store, merchants, checkout, workers, routes. Used by
//! `serve` and by the demo alike. Never reads the configuration's file itself.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::checkout::Checkout;
use super::config::{Config, StoreConfig};
use super::limits::Limits;
use super::merchants::Merchants;
use super::router::{self, App};
use super::store::sqlite::SqliteStore;
use super::store::{Store, StoreError};
use super::worker;
use crate::runtime::clock::Clock;
use crate::runtime::listen;
use crate::runtime::random::{self, NoRandomness};
use crate::runtime::transport::{Internet, NoClient};

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No HTTP client can be made.
    #[error(transparent)]
    Client(#[from] NoClient),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Opens the store (creating and migrating it) and everything that stands on it. Every open attempt is
/// then due for a query at once.
///
/// # Errors
/// [`StartError`].
pub async fn open(config: &Config, clock: Clock) -> Result<Checkout, StartError> {
    let StoreConfig::Sqlite(path) = &config.store;
    let store = SqliteStore::open(path, &random::base62(12)?)?;
    store.resume(clock.now()).await?;
    Ok(Checkout::new(
        Arc::new(store),
        Merchants::new(&config.merchants, &config.gateways, &Internet)?,
        clock,
        config.secret.expose().as_bytes(),
        config.server.public_base_url.clone(),
    ))
}

/// Serves until `shutdown`, then drains: requests under way are answered, tasks under way finish.
/// `extra` are routes beside the service's own: the demo's mall.
///
/// # Errors
/// [`io::Error`] of the listener.
pub async fn run(
    checkout: Checkout,
    limits: Limits,
    listener: TcpListener,
    extra: axum::Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let stop = CancellationToken::new();
    let workers = tokio::spawn(worker::run(checkout.clone(), stop.clone().cancelled_owned()));
    let pads = {
        let (checkout, stop) = (checkout.clone(), stop.clone());
        tokio::spawn(async move { checkout.keep_pads(stop.cancelled()).await })
    };
    let stopping = checkout.stopping().clone();
    let routes = router::service(App { checkout, limits: Arc::new(limits) }).merge(extra);
    let shutdown = async move {
        shutdown.await;
        stopping.cancel();
    };
    let served = listen::serve(listener, routes, listen::Limits::of_process(), shutdown).await;
    stop.cancel();
    workers.await.map_err(io::Error::other)?;
    pads.await.map_err(io::Error::other)?;
    served
}
