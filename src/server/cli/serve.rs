//! `shouyin serve`: the service for real money. Nothing of the emulator or the demo is reachable from here.

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::of_store;
use crate::runtime::clock::Clock;
use crate::runtime::files;
use crate::runtime::transport::Internet;
use crate::server::checkout::Checkout;
use crate::server::config::ConfigHandle;
use crate::server::limits::Limits;
use crate::server::merchants::Merchants;
use crate::server::service::{self, StartError};

/// Serves until `stop`; SIGHUP reloads merchants and keys.
pub async fn run(handle: ConfigHandle, stop: CancellationToken) -> anyhow::Result<()> {
    let config = handle.current();
    let mut hangup = signal(SignalKind::hangup())?;
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; change server.listen or stop what uses it"))?;
    let listen = listener.local_addr()?;
    let clock = Clock::system(0);
    let checkout = service::open(&config, clock.clone()).await.map_err(|error| match error {
        StartError::Store(error) => of_store(error, handle.file()),
        other => other.into(),
    })?;
    let limits = Limits::new(clock, config.server.trusted_proxies.clone());
    if let Some(admin) = config.server.admin_listen {
        tracing::warn!(%admin, "admin_listen is set, but metrics are not built yet: nothing listens there");
    }
    if let Some(advice) = files::advice() {
        tracing::warn!("{advice}");
    }
    let merchants = config.merchants.len();
    tracing::info!(%listen, url = config.server.public_base_url, merchants, "serving");
    let reloads = async {
        while hangup.recv().await.is_some() {
            reload(&handle, &checkout);
        }
    };
    let served =
        service::run(checkout.clone(), limits, listener, axum::Router::new(), stop.cancelled_owned());
    tokio::select! {
        served = served => served.context("the listener failed"),
        () = reloads => anyhow::bail!("the system takes no more signal handlers"),
    }
}

/// All or nothing: a bad file leaves what held.
fn reload(handle: &ConfigHandle, checkout: &Checkout) {
    let before = handle.current();
    match handle.reload() {
        Ok(config) => match Merchants::new(&config.merchants, &config.gateways, &Internet) {
            Ok(merchants) => {
                checkout.set_merchants(merchants);
                tracing::info!(merchants = config.merchants.len(), "reloaded");
                if config.server != before.server
                    || config.store != before.store
                    || config.gateways != before.gateways
                    || config.secret.expose() != before.secret.expose()
                {
                    tracing::warn!(
                        "changes in [server], [store] and [gateways] take effect at the next start"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "not reloaded; the merchants from before stay"),
        },
        Err(error) => tracing::error!(%error, "not reloaded; the merchants from before stay"),
    }
}
