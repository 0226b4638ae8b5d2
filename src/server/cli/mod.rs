//! The command line: one binary, a subcommand for each thing to do. Never does anything itself: it reads
//! arguments and configuration, starts logging and the runtime, and minds the signals.
//! Exit status: 0 done, 1 failed, 2 wrong arguments or configuration.

mod doctor;
mod explain;
mod serve;

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::capability;
use super::config::{self, Config, ConfigError, ConfigHandle, StoreConfig};
use super::logging::{self, LogFormat};
use super::store::StoreError;
use super::store::sqlite::SqliteStore;
use crate::emulator::demo::{self, DemoArgs};
use crate::emulator::{self, EmulatorArgs};
use crate::runtime::random;
use crate::torture::{self, TortureArgs};

/// Shouyin (收银): the checkout beside a mall. WeChat Pay and Alipay in one binary.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Line {
    /// How log lines look; what is logged is set by `SHOUYIN_LOG`, such as `info` or `debug`.
    /// Without it `SHOUYIN_LOG_FORMAT` says, else it is `human`.
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take real payments.
    Serve(ConfigArg),
    /// Try everything here: the service, both gateways as an emulator, and a small mall, in one process.
    Demo(Demo),
    /// Play both gateways alone, for tests of any program in any language.
    Emulator(EmulatorArgs),
    /// Create the database, or bring it up to date.
    Migrate(ConfigArg),
    /// Check the configuration and what it names, and say in plain words what is wrong.
    Doctor(ConfigArg),
    /// Say why a signature is wrong: paste a request, an answer or a notice of either gateway.
    #[command(after_help = "Exit status: 0 right, 1 wrong or not checked, 2 not understood.")]
    Explain(explain::ExplainArgs),
    /// Make an API key: the key for the mall, its hash for `api_key_sha256`.
    Token,
    /// Show that no money is lost, doubled or silent: the service under kills, faults and load.
    Torture(TortureArgs),
}

impl Command {
    /// What is logged unless `SHOUYIN_LOG` says otherwise, where that is not the usual.
    fn quiet(&self) -> Option<String> {
        // Trouble is what it makes: its log would be longer than its report.
        matches!(self, Self::Torture(_)).then(|| "off".to_owned())
    }
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration; without it `SHOUYIN_CONFIG`, else `shouyin.toml` if that is there, else the
    /// environment alone.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Demo {
    #[command(flatten)]
    args: DemoArgs,
    /// Begin with an empty demo: what `--data` holds of an earlier one is deleted.
    #[arg(long)]
    fresh: bool,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let filter = std::env::var("SHOUYIN_LOG").ok().or_else(|| line.command.quiet());
    let format = match (line.log_format, std::env::var("SHOUYIN_LOG_FORMAT").as_deref()) {
        (Some(format), _) => format,
        (None, Ok(word)) => match LogFormat::from_str(word, true) {
            Ok(format) => format,
            Err(error) => return failed(&format_args!("SHOUYIN_LOG_FORMAT: {error}"), 2),
        },
        (None, Err(_)) => LogFormat::Human,
    };
    if let Err(error) = logging::init(format, filter.as_deref()) {
        return failed(&error, 2);
    }
    match run(line.command) {
        Ok(code) => code,
        Err(error) => failed(&format_args!("{error:#}"), if error.is::<ConfigError>() { 2 } else { 1 }),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arg) => {
            let config = ConfigHandle::load(arg.path(), environment())?;
            until_told(|stop| serve::run(config, stop))
        }
        Command::Demo(Demo { args, fresh }) => {
            if fresh {
                forget(&args.data)?;
            }
            until_told(|stop| demo::run(args, stop.cancelled_owned()))
        }
        Command::Emulator(arg) => until_told(|stop| emulator::run(arg, stop.cancelled_owned())),
        Command::Migrate(arg) => {
            let file = arg.path();
            let StoreConfig::Sqlite(path) = Config::load(file.as_deref(), environment())?.store;
            SqliteStore::open(&path, &random::base62(12)?)
                .map_err(|error| of_store(error, config::name_of(file.as_deref())))?;
            say(&format!("{} is up to date", path.display()))
        }
        Command::Doctor(arg) => doctor::run(arg.path().as_deref(), environment()),
        Command::Explain(args) => explain::run(&args, environment()),
        Command::Torture(args) => torture::run(args),
        Command::Token => {
            let key = random::base62(43)?;
            let hash = hex::encode(capability::hash(&key));
            say(&format!("key:            {key}\napi_key_sha256: {hash}"))
        }
    }
}

/// A database that cannot be used as it is, is a configuration that cannot be.
fn of_store(error: StoreError, file: String) -> anyhow::Error {
    match error {
        StoreError::Unusable { problem, cure } => {
            ConfigError { file, key: "store.url".to_owned(), problem, cure }.into()
        }
        StoreError::Unavailable(_) | StoreError::Inconsistent { .. } => error.into(),
    }
}

/// Runs a server until SIGTERM or SIGINT; it then drains. The second signal ends the process at once.
fn until_told<F: Future<Output = anyhow::Result<()>>>(
    server: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = stop.clone();
        tokio::spawn(async move {
            let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
            next().await;
            tracing::info!("stopping; a second signal stops at once");
            told.cancel();
            next().await;
            std::process::exit(1);
        });
        server(stop).await
    });
    // Whatever still blocks has had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

impl ConfigArg {
    fn path(&self) -> Option<PathBuf> {
        let usual = || Some(PathBuf::from("shouyin.toml")).filter(|path| path.exists());
        self.config.clone().or_else(|| std::env::var_os("SHOUYIN_CONFIG").map(PathBuf::from)).or_else(usual)
    }
}

/// The variables, except those that are not text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Deletes what an earlier demo kept. Only a directory that is one: `--data` may be mistyped.
fn forget(data: &Path) -> anyhow::Result<()> {
    if !data.exists() {
        return Ok(());
    }
    let empty = std::fs::read_dir(data)?.next().is_none();
    anyhow::ensure!(
        empty || data.join("credentials.json").exists(),
        "{} is no demo's directory, so --fresh does not delete it",
        data.display()
    );
    std::fs::remove_dir_all(data).with_context(|| format!("cannot delete {}", data.display()))
}

fn say(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &dyn Display, status: u8) -> ExitCode {
    // Nobody may be listening.
    let _ = writeln!(io::stderr(), "shouyin: {error}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_fresh_demo_deletes_only_a_demo() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        forget(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("mine.txt"), "x").unwrap();
        assert!(forget(&data).unwrap_err().to_string().contains("does not delete"));
        std::fs::write(data.join("credentials.json"), "{}").unwrap();
        forget(&data).unwrap();
        assert!(!data.exists());
    }
}
