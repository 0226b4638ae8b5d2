//! The service as a process of its own, so that it can be killed: started from this very binary, watched,
//! told to move its clock. Never outlives its parent: it ends when its standard input does.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::settings;
use crate::runtime::clock::{Clock, Stopwatch};
use crate::runtime::crash::{self, Point};
use crate::server::config::Config;
use crate::server::limits::Limits;
use crate::server::service;

/// What the child is told on its command line.
#[derive(Debug, clap::Args)]
pub struct ChildArgs {
    /// Where its configuration lies.
    #[arg(long)]
    data: PathBuf,
    /// How far its clock is ahead, in ms.
    #[arg(long, default_value_t = 0)]
    ahead: i64,
    /// Where it dies.
    #[arg(long)]
    dies_at: Option<Point>,
    /// At which time it comes there.
    #[arg(long, default_value_t = 1)]
    nth: u32,
}

/// The child itself: serves until its standard input ends.
///
/// # Errors
/// What a start can fail of.
pub async fn serve(args: ChildArgs) -> anyhow::Result<()> {
    let config = Config::load(Some(&args.data.join(settings::FILE)), [])?;
    let clock = Clock::system(args.ahead);
    let stop = CancellationToken::new();
    let (told, moved) = (stop.clone(), clock.clone());
    // Not a task: a read of standard input cannot be cancelled.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Some(ms) = line.strip_prefix("advance ").and_then(|ms| ms.parse().ok()) {
                moved.advance(ms);
            }
        }
        told.cancel();
    });
    let listener = TcpListener::bind(config.server.listen).await?;
    let checkout = service::open(&config, clock.clone()).await?;
    if let Some(point) = args.dies_at {
        crash::arm(point, args.nth);
    }
    let limits = Limits::new(clock, config.server.trusted_proxies.clone());
    service::run(checkout, limits, listener, axum::Router::new(), stop.cancelled_owned()).await?;
    Ok(())
}

/// The child as its parent sees it.
pub struct Child {
    process: process::Child,
    log: PathBuf,
    started: Stopwatch,
}

impl Child {
    /// Starts it; it does not serve yet.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(data: &Path, ahead_ms: i64, dies_at: Option<(Point, u32)>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["torture", "child", "--ahead", &ahead_ms.to_string()]).arg("--data").arg(data);
        if let Some((point, nth)) = dies_at {
            command.args(["--dies-at", point.as_str(), "--nth", &nth.to_string()]);
        }
        Self::spawn(command, data)
    }

    /// Starts it in a mount namespace of its own, with a disk of so many MiB at `dir`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_on_small_disk(data: &Path, dir: &Path, mib: u32) -> anyhow::Result<Self> {
        let script = "mount -t tmpfs -o size=\"$1\"m,mode=700 none \"$2\" && shift 2 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh", &mib.to_string()]).arg(dir);
        command.arg(std::env::current_exe()?).args(["torture", "child", "--data"]).arg(data);
        Self::spawn(command, data)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn spawn(mut command: Command, data: &Path) -> anyhow::Result<Self> {
        let log = data.join("service.log");
        let out = File::options().create(true).append(true).open(&log)?;
        let level = std::env::var("SHOUYIN_LOG").unwrap_or_else(|_| "error".to_owned());
        command.env("SHOUYIN_LOG", level).stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        let started = Stopwatch::start();
        let process = command.spawn().context("the service cannot be started")?;
        Ok(Self { process, log, started })
    }

    /// Waits until it is ready; how long that took from its start.
    ///
    /// # Errors
    /// It died, or is not ready within 30 s.
    pub async fn until_ready(&mut self, service: SocketAddr) -> anyhow::Result<Duration> {
        while self.started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.process.try_wait()? {
                bail!("the service ended at its start, {status}; see {}", self.log.display());
            }
            if ready(service).await {
                return Ok(self.started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the service is not ready within 30 s; see {}", self.log.display())
    }

    /// kill -9.
    ///
    /// # Errors
    /// There was nothing to kill.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Whether it is dead, and of what.
    ///
    /// # Errors
    /// The system does not say.
    pub fn died(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Moves its clock ahead.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn advance(&mut self, ms: i64) -> anyhow::Result<()> {
        let stdin = self.process.stdin.as_mut().context("the child has no standard input")?;
        writeln!(stdin, "advance {ms}")?;
        Ok(stdin.flush()?)
    }

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// It did not end well within 20 s.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.process.stdin.take());
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.process.try_wait()? {
                anyhow::ensure!(status.success(), "the service ended with {status}");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.process.kill()?;
        self.process.wait()?;
        bail!("the service did not end within 20 s")
    }
}

/// Why the system does not let us give a child a disk of its own at `dir`, if it does not.
pub fn no_disk_of_its_own(dir: &Path) -> Option<String> {
    let script = "mount -t tmpfs -o size=1m none \"$1\"";
    let tried = Command::new("unshare").args(["-rm", "sh", "-c", script, "sh"]).arg(dir).output();
    match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Nothing that was started is left behind, whatever went wrong.
impl Drop for Child {
    fn drop(&mut self) {
        // Already dead is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the service says that it can take work.
pub async fn ready(service: SocketAddr) -> bool {
    let ask = async {
        let mut line = Line::open(service).await.ok()?;
        let answer = line.exchange(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.ok()?;
        Some(answer.status == 200)
    };
    let answered = tokio::time::timeout(Duration::from_secs(2), ask).await;
    answered.ok().flatten().unwrap_or(false)
}
