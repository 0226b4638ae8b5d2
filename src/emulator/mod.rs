//! The other side: both gateways, for demos and tests. Never reachable from `serve`, never imports `server`
//! (only `demo` does, which puts service, emulator and a small mall into one process).
//! Read `trades` for what the gateways do, `protocol` for how they are asked, `control` for the phone.

pub mod control;
pub mod credentials;
pub mod demo;
mod draw;
pub mod faults;
pub mod gateways;
pub mod ledger;
pub mod log;
pub mod mall;
pub mod mall_pages;
pub mod notices;
mod page;
mod phone;
mod protocol;
pub mod refunds;
pub mod statement;
#[cfg(test)]
mod tests;
pub mod trades;

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::runtime::clock::Clock;
use crate::runtime::listen::{self, Limits};
use crate::runtime::transport::{NoClient, Timeouts, Transport};
use credentials::{Addresses, Credentials, CredentialsError};
use faults::Faults;
use gateways::Gateways;
use ledger::{Ledger, LedgerError};
use log::Log;
use trades::{Book, Record};

/// Both gateways, one set of books.
#[derive(Clone)]
pub struct Emulator {
    inner: Arc<Inner>,
}

struct Inner {
    credentials: Credentials,
    payee: String,
    clock: Clock,
    gateways: Gateways,
    book: Mutex<Book>,
    ledger: Ledger,
    faults: Faults,
    log: Log,
    transport: Transport,
    /// Something may have fallen due.
    wake: Notify,
    /// A notice was sent.
    delivered: Notify,
}

/// What an emulator needs to start.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// Where keys and ledger are kept; made if missing.
    pub data: PathBuf,
    /// Where everything listens, for `credentials.json`.
    pub addresses: Addresses,
    /// The name that the phone shows as the payee.
    pub payee: String,
}

/// Why an emulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Books.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Random source.
    #[error(transparent)]
    NoRandomness(#[from] crate::runtime::random::NoRandomness),
    /// A socket.
    #[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The HTTP client for notices.
    #[error(transparent)]
    Transport(#[from] NoClient),
}

impl Emulator {
    /// Reads or makes the keys, replays the ledger and moves `clock` to where it was left.
    /// Everyone who shares `clock` (the demo's service) moves with it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: &EmulatorConfig, clock: Clock) -> Result<Self, StartError> {
        let credentials = Credentials::load_or_make(&config.data, config.addresses)?;
        let gateways = Gateways::new(&credentials)?;
        let (ledger, records) = Ledger::open::<Record>(&config.data.join("ledger.jsonl"))?;
        let mut book = Book::default();
        for record in records {
            book.apply(record);
        }
        clock.advance(book.offset_ms().saturating_sub(clock.offset_ms()));
        let book = Mutex::new(book);
        let inner = Inner {
            credentials,
            payee: config.payee.clone(),
            clock,
            gateways,
            book,
            ledger,
            faults: Faults::default(),
            log: Log::default(),
            transport: Transport::anywhere(Timeouts::NOTICES)?,
            wake: Notify::new(),
            delivered: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What a script, or the demo's service, needs to be this emulator's merchant.
    pub fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    /// The gateways' face.
    pub fn protocol_router(&self) -> axum::Router {
        protocol::router(self.clone())
    }

    /// The face for people and tests. It moves money: listen on loopback.
    pub fn control_router(&self) -> axum::Router {
        control::router(self.clone())
    }

    /// Serves both faces and sends notices until `shutdown`.
    ///
    /// # Errors
    /// Those of the accept loops.
    pub async fn serve(
        self,
        protocol: TcpListener,
        control: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let stop = CancellationToken::new();
        let faces = async {
            let served = tokio::try_join!(
                listen::serve(protocol, self.protocol_router(), Limits::default(), stop.cancelled()),
                listen::serve(control, self.control_router(), Limits::default(), stop.cancelled()),
            );
            stop.cancel();
            served
        };
        let notices = stop.run_until_cancelled(self.keep_delivering());
        let signal = async {
            tokio::select! {
                () = shutdown => stop.cancel(),
                () = stop.cancelled() => {}
            }
        };
        let (served, _, ()) = tokio::join!(faces, notices, signal);
        served.map(drop)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down and applies one decision. The guard keeps file and book in the same order; await
    /// `ledger.settled()` after it is gone and before anybody is answered.
    fn record(&self, book: &mut Book, record: Record) {
        self.inner.ledger.push(&record);
        book.apply(record);
    }
}

/// `shouyin emulator`: the two gateways alone.
///
/// # Errors
/// [`StartError`], and those of the accept loops.
pub async fn run(
    listen: SocketAddr,
    control_listen: SocketAddr,
    data: PathBuf,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (protocol, protocol_address) = bind(listen).await?;
    let (control, control_address) = bind(control_listen).await?;
    let addresses = Addresses { service: None, protocol: protocol_address, control: control_address };
    let config = EmulatorConfig { data, addresses, payee: "示例商城 Demo Mall".to_owned() };
    let emulator = Emulator::new(&config, Clock::system(0))?;
    // Nobody may be listening.
    announce(emulator.credentials()).ok();
    emulator.serve(protocol, control, shutdown).await?;
    Ok(())
}

fn announce(known: &Credentials) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "WeChat Pay and Alipay, emulated; nothing here moves real money.\n")?;
    writeln!(out, "  WeChat Pay v2    {}/pay/…", known.emulator_url)?;
    writeln!(out, "  Alipay           {}", known.alipay.gateway_url)?;
    writeln!(out, "  the phone        {}/phone", known.control_url)?;
    writeln!(out, "  why refused?     {}/log", known.control_url)?;
    writeln!(out, "  for scripts      {}", known.file().display())?;
    out.flush()
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let at = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(at)?;
    let address = listener.local_addr().map_err(at)?;
    Ok((listener, address))
}
