//! The other side: both gateways, for demos and tests. Never reachable from `serve`, never imports `server`
//! (only `demo` does, which puts service, emulator and a small mall into one process).
//! Read `trades` for what the gateways do, `protocol` for how they are asked, `control` for the phone.

mod bridge;
mod browser;
mod cashier;
pub mod control;
pub mod credentials;
pub mod demo;
mod draw;
pub mod faults;
pub mod gateways;
pub mod ledger;
mod ledger_page;
pub mod log;
pub mod mall;
pub mod mall_pages;
mod mweb;
pub mod notices;
mod oauth;
mod page;
pub mod people;
mod phone;
mod protocol;
pub mod refunds;
pub mod statement;
mod tablet;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod trades;

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::runtime::clock::Clock;
use crate::runtime::listen::{self, Limits};
use crate::runtime::transport::{NoClient, Timeouts, Transport};
use cashier::Links;
use credentials::{Addresses, Credentials, CredentialsError};
use faults::Faults;
use gateways::Gateways;
use ledger::{Ledger, LedgerError};
use log::Log;
use oauth::Codes;
use people::People;
use tls::TlsError;
use trades::{Book, Record};

/// Both gateways, one set of books.
#[derive(Clone)]
pub struct Emulator {
    inner: Arc<Inner>,
}

struct Inner {
    credentials: Credentials,
    /// What the merchant must show where a certificate is wanted.
    merchant_certificate: Bytes,
    payee: String,
    domain: Option<String>,
    pay_directory: String,
    clock: Clock,
    gateways: Gateways,
    book: Mutex<Book>,
    ledger: Ledger,
    people: People,
    codes: Codes,
    links: Links,
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
    /// Where the merchant's pages are, besides this machine: the domain it has registered.
    pub domain: Option<String>,
    /// The path, from `/` to `/`, under which WeChat's wallet may be called.
    pub pay_directory: String,
}

/// The payment directory of Shouyin's own page.
pub const PAY_DIRECTORY: &str = "/app/payment/wpay/";

/// Where an emulator listens.
#[derive(Debug)]
pub struct Listeners {
    /// The gateways' face.
    pub protocol: TcpListener,
    /// The same over TLS.
    pub tls: Option<TcpListener>,
    /// The face for people and tests.
    pub control: TcpListener,
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
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
            merchant_certificate: tls::der(&credentials.wechat.merchant_certificate_file)?,
            people: People::new(&credentials.wechat),
            codes: Codes::default(),
            links: Links::default(),
            credentials,
            payee: config.payee.clone(),
            domain: config.domain.clone(),
            pay_directory: config.pay_directory.clone(),
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
    ) -> anyhow::Result<()> {
        self.serve_all(Listeners { protocol, tls: None, control }, shutdown).await
    }

    /// The same with the gateways' face over TLS, too.
    ///
    /// # Errors
    /// Those of the accept loops, and [`TlsError`].
    pub async fn serve_all(
        self,
        on: Listeners,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let tls = match on.tls {
            Some(listener) => Some((listener, tls::server_config(self.credentials().keys())?)),
            None => None,
        };
        let limits = Limits::of_process();
        let over_tls = async {
            match tls {
                Some((listener, config)) => {
                    let app = self.protocol_router();
                    listen::serve_tls(listener, config, app, limits, stop.cancelled()).await
                }
                None => Ok(()),
            }
        };
        let faces = async {
            let served = tokio::try_join!(
                listen::serve(on.protocol, self.protocol_router(), limits, stop.cancelled()),
                listen::serve(on.control, self.control_router(), limits, stop.cancelled()),
                over_tls,
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
        served?;
        Ok(())
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

/// `shouyin emulator …` (contract.md 2).
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = CONTROL)]
pub struct EmulatorArgs {
    /// Where both gateways listen. On this machine plain HTTP is served as if it were TLS: WeChat's v2
    /// refunds work without a client certificate.
    #[arg(long, default_value = "127.0.0.1:3001")]
    pub listen: SocketAddr,
    /// Where the phone, the ledger, the faults and the clock are. It moves the invented money: keep it on
    /// this machine.
    #[arg(long, default_value = "127.0.0.1:3002")]
    pub control_listen: SocketAddr,
    /// Where both gateways listen with TLS, too. WeChat's v2 refunds then want the merchant's certificate:
    /// `credentials.json` names it (`merchant_certificate_file`, `merchant_private_key_file`), and the
    /// authority to trust (`emulator_ca_file`; for most programs: `SSL_CERT_FILE`).
    #[arg(long, value_name = "ADDRESS")]
    pub tls_listen: Option<SocketAddr>,
    /// Where keys and ledger are kept; `credentials.json` in it tells a script everything.
    #[arg(long, default_value = "data/emulator")]
    pub data: PathBuf,
    /// Where the merchant's pages are, if not on this machine: WeChat takes no other host for its OAuth and
    /// H5 pages.
    #[arg(long, value_name = "HOST")]
    pub domain: Option<String>,
    /// The directory, registered at WeChat, under which the pages lie that call its wallet.
    #[arg(long, value_name = "PATH", default_value = PAY_DIRECTORY, value_parser = pay_directory)]
    pub pay_directory: String,
}

/// gateways.md 3.4: WeChat takes no directory without a slash at its end.
fn pay_directory(word: &str) -> Result<String, &'static str> {
    let right = word.starts_with('/') && word.ends_with('/') && !word.contains(['?', '#']);
    if right { Ok(word.to_owned()) } else { Err("write a path that begins and ends with /") }
}

/// `shouyin emulator`: the two gateways alone.
///
/// # Errors
/// [`StartError`], and those of the accept loops.
pub async fn run(
    args: EmulatorArgs,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (protocol, protocol_address) = bind(args.listen).await?;
    let (control, control_address) = bind(args.control_listen).await?;
    let (tls, tls_address) = match args.tls_listen {
        Some(address) => bind(address).await.map(|(tls, address)| (Some(tls), Some(address)))?,
        None => (None, None),
    };
    let addresses =
        Addresses { service: None, protocol: protocol_address, tls: tls_address, control: control_address };
    let config = EmulatorConfig {
        data: args.data,
        addresses,
        payee: "示例商城 Demo Mall".to_owned(),
        domain: args.domain,
        pay_directory: args.pay_directory,
    };
    let emulator = Emulator::new(&config, Clock::system(0))?;
    // Nobody may be listening.
    announce(emulator.credentials()).ok();
    emulator.serve_all(Listeners { protocol, tls, control }, shutdown).await
}

fn announce(known: &Credentials) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "WeChat Pay and Alipay, emulated; nothing here moves real money.\n")?;
    writeln!(out, "  WeChat Pay v2    {}/pay/…", known.emulator_url)?;
    writeln!(out, "  WeChat's OAuth   {}/connect/oauth2/authorize", known.emulator_url)?;
    writeln!(out, "  Alipay           {}", known.alipay.gateway_url)?;
    if let (Some(url), Some(authority)) = (&known.emulator_tls_url, &known.emulator_ca_file) {
        writeln!(out, "  over TLS         {url} (trust {})", authority.display())?;
    }
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

/// What can be asked of the control port, for who has no other documentation at hand.
const CONTROL: &str = "\
On the control port (answers: {\"status_code\":0,\"data\":…}; a browser gets pages):
  GET  /phone                    scan and pay by hand
  POST /scan   {\"code\"}          a wallet opens a code, prepay_id, order string, or link for a browser
  POST /pay    {\"code\",\"copies\"} … and pays; the notice leaves in so many copies (1)
  GET  /ledger                   every trade, refund and notice: the truth to compare with
  GET, PUT, DELETE /faults       {\"faults\":[{\"on\",\"kind\",\"rate\" or \"count\",…}]}
  GET, POST /clock               {\"advance_ms\"}: moves expiries, refunds and retries ahead
  GET  /log                      why each call was refused
  GET, POST /wechat              {\"user\",\"snapshot\"}: who holds the phone inside WeChat
  POST /bridge {\"params\",\"outcome\"} what a page hands to getBrandWCPayRequest; ok, cancel or fail;
                                 \"page\": its address, which must lie under --pay-directory
  GET  /bridge.js                WeixinJSBridge for a test's browser: ?outcome=ok|cancel|fail|silent
                                 (silent: paid, never called back), &delay_ms= for one that comes late

Pages inside WeChat: /connect/oauth2/authorize and /sns/oauth2/access_token are on the gateways' port, where
wechat_open and wechat_api of a configuration point; the browser's User-Agent must say MicroMessenger. A page
may not ask /bridge itself, so the test carries the messages, with Playwright:
  await page.exposeFunction('wechatClient', async (body) =>
    (await fetch(control + '/bridge', { method: 'POST', body })).json());
  await page.addInitScript(await (await fetch(control + '/bridge.js?outcome=cancel')).text());
Phones' and computers' browsers pay behind mweb_url and behind links to alipay.trade.wap.pay and .page.pay.

Faults strike \"on\" a call (wx.unifiedorder, wx.orderquery, wx.closeorder, wx.refund, wx.refundquery,
alipay.trade.precreate, .query, .close, .refund, alipay.trade.fastpay.refund.query, wx.oauth2.access_token;
all of them: *), a page (wx.oauth2.authorize, wx.checkmweb, alipay.trade.wap.pay, .page.pay; not by *) or a
notice (notify, wx.notify, alipay.notify; refunds have notices, too). A wrong word is answered with the
right ones. Rates add up: three faults of 0.1 on * strike three calls in ten.

Refunds are done a second after they were accepted, on the emulator's clock.";
