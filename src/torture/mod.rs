//! `shouyin torture`: does the promise hold? Starts the service, the emulator and malls, breaks them in every
//! way it knows, and compares what the service says with the emulator's ledger. Never reachable from
//! `serve`. `world` is what is broken, `oracle` what must hold, `experiments` the ways of breaking it.

mod bare;
mod child;
mod dice;
mod effort;
mod evidence;
mod experiments;
mod line;
mod load;
mod mall;
mod oracle;
mod settings;
pub mod simulation;
mod table;
mod world;

use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::runtime::clock::Stopwatch;
use crate::runtime::random;
use child::ChildArgs;
pub use experiments::Experiment;
use table::{Row, Verdict, span};

/// `shouyin torture …`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct TortureArgs {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// Repeats the decisions of an earlier run: who pays what, when the service is killed. The scheduling of
    /// processes is not repeated, except in the simulation.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs these experiments only.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Experiment>,
    /// How often the service is killed [default: 30; with --long 1000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    kills: Option<u32>,
    /// How many seeds are simulated [default: 5000; with --long 1000000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// As before a release: for an hour or more.
    #[arg(long)]
    long: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Hidden {
    /// The service that is killed.
    #[command(hide = true)]
    Child(ChildArgs),
}

const AFTER_HELP: &str = "\
Everything runs on this machine, on loopback, with invented money, in a directory of its own that is removed \
when all held and kept when not. One line is printed for each thing that was asked: what, the number asked \
for, the number seen, and whether it held.

Exit status: 0 all held, 1 something broke, 2 wrong arguments. What this machine does not allow (such as a \
full disk without the right to mount one) says \"not run here\" and why.

The invariants, against the emulator's ledger:
  I1  every notice answered with success is stored, and its order shows it
  I2  all money at the gateways stands here, as paid or as an anomaly; nothing else does
  I3  an order is paid once, and order.paid is told once
  I4  every event reaches its mall, with the same id and the same bytes each time
  I5  no state goes backwards
  I6  an order that was paid without any notice becomes paid here
  I7  no more is refunded than was paid; one refund at the gateway for each here
  I8  a notice that is not believed changes no row but the inbox";

/// What one run does.
pub(crate) struct Plan {
    /// Where decisions come from.
    pub seed: u64,
    /// How often the service is killed.
    pub kills: u32,
    /// How many seeds are simulated.
    pub seeds: u64,
    /// Whether there is time.
    pub long: bool,
    /// Where everything lies.
    pub ground: PathBuf,
}

/// Runs what the arguments ask for.
///
/// # Errors
/// Nothing could be started.
pub fn run(args: TortureArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Hidden::Child(args)) = args.hidden {
        runtime.block_on(child::serve(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from(u32::from_le_bytes(random::bytes::<4>()?)),
    };
    let ground = std::env::temp_dir().join(format!("shouyin-torture-{}", random::base62(8)?));
    std::fs::DirBuilder::new().mode(0o700).create(&ground)?;
    let plan = Plan {
        seed,
        kills: args.kills.unwrap_or(if args.long { 1000 } else { 30 }),
        seeds: args.seeds.unwrap_or(if args.long { 1_000_000 } else { 5_000 }),
        long: args.long,
        ground,
    };
    let only = if args.only.is_empty() { Experiment::ALL.to_vec() } else { args.only };
    let held = runtime.block_on(all(&plan, &only))?;
    if held {
        std::fs::remove_dir_all(&plan.ground)?;
    } else {
        say(&format!("\nKept for a look: {}\nAgain: --seed {}", plan.ground.display(), plan.seed))?;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One after the other: each has the machine for itself.
async fn all(plan: &Plan, only: &[Experiment]) -> anyhow::Result<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    say(&format!("Machine: {cores} cores, {system}; build: {build}; seed: {}\n", plan.seed))?;
    table::head()?;
    let whole = Stopwatch::start();
    let (mut broken, mut not_run) = (Vec::new(), 0_u32);
    for experiment in only {
        let rows = experiments::run(*experiment, plan).await.unwrap_or_else(|error| {
            vec![Row::new(experiment.to_string(), "runs to its end", format!("{error:#}"), false)]
        });
        for row in rows {
            row.print()?;
            not_run += u32::from(row.verdict == Verdict::NotRun);
            if row.verdict == Verdict::Broken {
                broken.push(row);
            }
        }
    }
    let end = if broken.is_empty() { "all held" } else { "NOT ALL HELD" };
    let (number, took) = (broken.len(), span(whole.elapsed()));
    say(&format!("\n{end}: {number} broken, {not_run} not run here, in {took}"))?;
    // Once more at the end: of a long run often only that is kept.
    for row in &broken {
        row.print()?;
    }
    Ok(broken.is_empty())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
