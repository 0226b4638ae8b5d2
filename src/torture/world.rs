//! A world to break: the emulator and malls in this process, and the service beside them, as a child process
//! that can be killed or as tasks that share the emulator's clock. Never a shortcut: they talk over HTTP.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::child::Child;
use super::mall::Mall;
use super::settings;
use crate::emulator::credentials::{Addresses, Credentials};
use crate::emulator::{Emulator, EmulatorConfig};
use crate::runtime::clock::{Clock, Stopwatch};
use crate::runtime::crash::Point;
use crate::runtime::listen;
use crate::runtime::transport::{Timeouts, Transport};
use crate::server::checkout::Checkout;
use crate::server::config::Config;
use crate::server::limits::Limits;
use crate::server::service;

/// Everything that one experiment plays with.
pub struct World {
    /// Where it all lies.
    pub data: PathBuf,
    /// The clock of the emulator, and of a service in this process.
    pub clock: Clock,
    /// Keys and addresses.
    pub known: Credentials,
    /// At least one.
    pub malls: Vec<Mall>,
    /// Where the service listens, whenever it does.
    pub service: SocketAddr,
    control: Router,
    caller: Transport,
    running: Running,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Where the service is.
enum Running {
    No,
    Child(Child),
    Here { checkout: Checkout, stop: CancellationToken, task: JoinHandle<std::io::Result<()>> },
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// `data` of the envelope, or the whole body where there is none.
    pub data: Value,
}

impl World {
    /// Emulator and malls, running; the service not yet.
    ///
    /// # Errors
    /// What a start can fail of.
    pub async fn new(ground: &Path, name: &str, malls: usize) -> anyhow::Result<Self> {
        let data = ground.join(name);
        std::fs::create_dir_all(&data)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (protocol, control) = (TcpListener::bind(any).await?, TcpListener::bind(any).await?);
        let hooks = TcpListener::bind(any).await?;
        let service = settings::free_address()?;
        let addresses = Addresses {
            service: Some(service),
            protocol: protocol.local_addr()?,
            tls: None,
            control: control.local_addr()?,
        };
        let clock = Clock::system(0);
        let config = EmulatorConfig {
            data: data.clone(),
            addresses,
            payee: "Torture Mall 折磨商城".to_owned(),
            domain: None,
            pay_directory: crate::emulator::PAY_DIRECTORY.to_owned(),
        };
        let emulator = Emulator::new(&config, clock.clone())?;
        let known = emulator.credentials().clone();
        let malls = settings::malls(&known, malls)?;
        settings::write(&data, &known, service, &malls, hooks.local_addr()?)?;
        let stop = CancellationToken::new();
        let control_router = emulator.control_router();
        let faces = malls.iter().fold(Router::new(), |all, mall| all.merge(mall.router()));
        let (token, hooked) = (stop.clone(), stop.clone());
        let tasks = vec![
            tokio::spawn(async move {
                if let Err(error) = emulator.serve(protocol, control, token.cancelled_owned()).await {
                    tracing::error!(%error, "the emulator ended");
                }
            }),
            tokio::spawn(async move {
                if let Err(error) = listen::serve(hooks, faces, patience(), hooked.cancelled()).await {
                    tracing::error!(%error, "the malls ended");
                }
            }),
        ];
        let caller = Transport::anywhere(CALLS)?;
        let control = control_router;
        Ok(Self { data, clock, known, malls, service, control, caller, running: Running::No, stop, tasks })
    }

    /// The first mall.
    ///
    /// # Errors
    /// There is none.
    pub fn mall(&self) -> anyhow::Result<&Mall> {
        self.malls.first().context("a world without a mall")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.database_dir().join(settings::DATABASE_NAME)
    }

    /// The directory that holds nothing but the database.
    pub fn database_dir(&self) -> PathBuf {
        self.data.join(settings::DATABASE_DIR)
    }

    /// The configuration as an operator would have written it.
    ///
    /// # Errors
    /// [`crate::server::config::ConfigError`].
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(Some(&self.data.join(settings::FILE)), [])?)
    }

    /// Starts the service as a child and waits until it serves; how long that took.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_child(&mut self, dies_at: Option<(Point, u32)>) -> anyhow::Result<Duration> {
        let mut child = Child::start(&self.data, self.clock.offset_ms(), dies_at)?;
        let took = child.until_ready(self.service).await;
        self.running = Running::Child(child);
        took
    }

    /// Starts the service as a child whose database lies on a disk of its own, of so many MiB; where that
    /// disk is, as seen from here.
    ///
    /// # Errors
    /// The system does not let us mount one.
    pub async fn start_on_small_disk(&mut self, mib: u32) -> anyhow::Result<PathBuf> {
        let dir = self.database_dir();
        std::fs::create_dir_all(&dir)?;
        let mut child = Child::start_on_small_disk(&self.data, &dir, mib)?;
        child.until_ready(self.service).await?;
        let seen = PathBuf::from(format!("/proc/{}/root{}", child.id(), dir.display()));
        self.running = Running::Child(child);
        ensure!(seen.join(settings::DATABASE_NAME).exists(), "the child's mounts cannot be looked into");
        Ok(seen)
    }

    /// Ends the service, and takes its database from the disk that goes with it: SQLite would not find it
    /// there.
    ///
    /// # Errors
    /// The service did not end well, or there is nothing to be taken.
    pub async fn rescue(&mut self, disk: &Path) -> anyhow::Result<()> {
        // As long as it is open the disk is there.
        let open = std::fs::File::open(disk)?;
        self.stop_service().await?;
        // The newest pages stand in the log beside it.
        for name in [settings::DATABASE_NAME, settings::DATABASE_LOG] {
            let from = PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
            if from.exists() {
                std::fs::copy(from, self.database_dir().join(name))?;
            }
        }
        Ok(())
    }

    /// The child.
    ///
    /// # Errors
    /// There is none.
    pub fn child(&mut self) -> anyhow::Result<&mut Child> {
        match &mut self.running {
            Running::Child(child) => Ok(child),
            Running::No | Running::Here { .. } => bail!("the service is no child"),
        }
    }

    /// kill -9.
    ///
    /// # Errors
    /// There is no child.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.running, Running::No) {
            Running::Child(child) => child.kill(),
            Running::No | Running::Here { .. } => bail!("the service is no child"),
        }
    }

    /// Waits for the child to die where it was told to. The answer says whether it did.
    ///
    /// # Errors
    /// There is no child.
    pub async fn until_dead(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let watch = Stopwatch::start();
        while watch.elapsed() < patience {
            if self.child()?.died()?.is_some() {
                self.running = Running::No;
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(false)
    }

    /// Starts the service in this process, on the emulator's clock.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_here(&mut self) -> anyhow::Result<Checkout> {
        let listener = TcpListener::bind(self.service).await?;
        let checkout = service::open(&self.config()?, self.clock.clone()).await?;
        let stop = CancellationToken::new();
        let limits = Limits::new(self.clock.clone(), Vec::new());
        let shutdown = stop.clone().cancelled_owned();
        let run = service::run(checkout.clone(), limits, listener, Router::new(), shutdown);
        self.running = Running::Here { checkout: checkout.clone(), stop, task: tokio::spawn(run) };
        Ok(checkout)
    }

    /// Ends the service as an operator would. The database is then closed.
    ///
    /// # Errors
    /// It did not end well.
    pub async fn stop_service(&mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.running, Running::No) {
            Running::No => Ok(()),
            Running::Child(child) => child.stop().await,
            Running::Here { checkout, stop, task } => {
                stop.cancel();
                task.await??;
                drop(checkout);
                Ok(())
            }
        }
    }

    /// Ends everything.
    ///
    /// # Errors
    /// The service did not end well.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.stop_service().await?;
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }

    /// Moves the clocks of the emulator and of the service ahead.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn advance(&mut self, ms: i64) -> anyhow::Result<()> {
        self.emulator(Method::POST, "/clock", json!({ "advance_ms": ms })).await?;
        match &mut self.running {
            Running::Child(child) => child.advance(ms),
            Running::No | Running::Here { .. } => Ok(()),
        }
    }

    /// Somebody uses the emulator's control port; `data` of the answer.
    ///
    /// # Errors
    /// The emulator's refusal.
    pub async fn emulator(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        control(&self.control, method, path, body).await
    }

    /// A hand on the emulator and the service that tasks can keep.
    pub fn hand(&self) -> Hand {
        Hand { service: self.service, control: self.control.clone(), caller: self.caller.clone() }
    }

    /// Puts faults in place of all others.
    ///
    /// # Errors
    /// The emulator's refusal.
    pub async fn faults(&self, faults: Value) -> anyhow::Result<()> {
        self.emulator(Method::PUT, "/faults", json!({ "faults": faults })).await.map(drop)
    }
}

/// Whatever went wrong, nothing goes on in the background.
impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Running::Here { stop, .. } = &self.running {
            stop.cancel();
        }
    }
}

/// What shoppers and malls do, from any task.
#[derive(Clone)]
pub struct Hand {
    service: SocketAddr,
    control: Router,
    caller: Transport,
}

impl Hand {
    /// A mall calls the service.
    ///
    /// # Errors
    /// No answer, or one that is no JSON.
    pub async fn call(&self, mall: &Mall, method: Method, path: &str, body: &Value) -> anyhow::Result<Reply> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.service))
            .header("authorization", &mall.api_key)
            .body(body)?;
        let answer = self.caller.send(request).await?;
        let json: Value = serde_json::from_slice(answer.body())
            .with_context(|| format!("{path}: {}", String::from_utf8_lossy(answer.body())))?;
        let data = json.get("data").unwrap_or(&json).clone();
        Ok(Reply { status: answer.status(), data })
    }

    /// What the service answers a mall that reads, as bytes.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn bytes(&self, mall: &Mall, path: &str) -> anyhow::Result<Bytes> {
        let request = Request::get(format!("http://{}{path}", self.service))
            .header("authorization", &mall.api_key)
            .body(Bytes::new())?;
        let answer = self.caller.send(request).await?;
        ensure!(answer.status() == StatusCode::OK, "{path}: {}", String::from_utf8_lossy(answer.body()));
        Ok(answer.into_body())
    }

    /// Calls until the service answers with something else than "later"; gives up after a minute.
    ///
    /// # Errors
    /// It never answered.
    pub async fn insist(
        &self,
        mall: &Mall,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Reply> {
        let mut last = String::new();
        for _ in 0..1200 {
            match self.call(mall, method.clone(), path, body).await {
                Ok(reply) if reply.status.is_server_error() => last = reply.data.to_string(),
                Ok(reply) if reply.status == StatusCode::TOO_MANY_REQUESTS => last = reply.data.to_string(),
                Ok(reply) => return Ok(reply),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{path}: no answer within a minute; last: {last}")
    }

    /// Somebody uses the emulator.
    ///
    /// # Errors
    /// The emulator's refusal.
    pub async fn emulator(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        control(&self.control, method, path, body).await
    }

    /// A new order of so many fen.
    ///
    /// # Errors
    /// The service did not take it.
    pub async fn order(&self, mall: &Mall, number: &str, fen: i64) -> anyhow::Result<()> {
        let body = json!({
            "order_type": "Order", "order_number": number, "title": "torture", "total_fee": fen,
        });
        let reply = self.insist(mall, Method::POST, "/rest/orders", &body).await?;
        ensure!(reply.status.is_success(), "an order was not taken: {}", reply.data);
        Ok(())
    }

    /// The code that a push gives, or the name of the refusal.
    ///
    /// # Errors
    /// No answer within a minute.
    pub async fn push(
        &self,
        mall: &Mall,
        number: &str,
        channel: &str,
    ) -> anyhow::Result<Result<String, String>> {
        let (scene, field) = if channel == "wx" { ("NATIVE", "codeUrl") } else { ("QRCODE", "qr_code") };
        let body = json!({ "order_type": "Order", "order_number": number, "type": scene });
        let reply = self.insist(mall, Method::POST, &format!("/rest/{channel}/push_order"), &body).await?;
        Ok(match reply.data.get(field).and_then(Value::as_str) {
            Some(code) => Ok(code.to_owned()),
            None => Err(reply.data.get("error").and_then(Value::as_str).unwrap_or("?").to_owned()),
        })
    }

    /// The code that a push gives.
    ///
    /// # Errors
    /// It was refused.
    pub async fn code(&self, mall: &Mall, number: &str, channel: &str) -> anyhow::Result<String> {
        let pushed = self.push(mall, number, channel).await?;
        pushed.map_err(|refused| anyhow::anyhow!("the push of {number} was refused: {refused}"))
    }

    /// Somebody pays a code.
    ///
    /// # Errors
    /// The wallet's refusal.
    pub async fn pay(&self, code: &str) -> anyhow::Result<Value> {
        self.emulator(Method::POST, "/pay", json!({ "code": code })).await
    }

    /// Waits until the order is in a state.
    ///
    /// # Errors
    /// It is not, after a minute.
    pub async fn until(&self, mall: &Mall, number: &str, state: &str) -> anyhow::Result<Value> {
        let mut order = Value::Null;
        for _ in 0..600 {
            order = self.read(mall, number).await?;
            if order.get("state").and_then(Value::as_str) == Some(state) {
                return Ok(order);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("not {state} after a minute: {order}")
    }

    /// The order as the mall sees it.
    ///
    /// # Errors
    /// No answer.
    pub async fn read(&self, mall: &Mall, number: &str) -> anyhow::Result<Value> {
        let path = format!("/rest/orders/Order/{number}");
        Ok(self.insist(mall, Method::GET, &path, &Value::Null).await?.data)
    }
}

async fn control(router: &Router, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).body(body)?;
    let answer = router.clone().oneshot(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let mut json: Value = serde_json::from_slice(&bytes)?;
    ensure!(status == StatusCode::OK, "{path}: {json}");
    Ok(json.get_mut("data").map(Value::take).unwrap_or_default())
}

fn patience() -> listen::Limits {
    listen::Limits { drain: Duration::from_millis(100), ..listen::Limits::of_process() }
}

/// Malls and shoppers give up sooner than the service does.
const CALLS: Timeouts = Timeouts { connect: Duration::from_secs(1), total: Duration::from_secs(15) };
