//! The ways of breaking it, a file each. Each gives the rows of the report that are its own.

mod disk;
mod duplicates;
mod kills;
mod malls;
mod money;
mod notices;
mod points;
mod rejected;
mod seeds;
mod silence;

use super::Plan;
use super::table::Row;
use crate::domain::id::word_enum;

word_enum!(
    /// What can be asked for with `--only`.
    Experiment {
        /// Durable notices per second. First: it wants a quiet machine.
        Notices = "notices",
        /// 64 copies of each notice at once.
        Duplicates = "duplicates",
        /// The service is killed under load.
        Kills = "kills",
        /// The service dies at every named point.
        Points = "points",
        /// Two channels pay one order.
        Races = "races",
        /// Paid after the close.
        Late = "late",
        /// No notice ever comes.
        Dropped = "dropped",
        /// Calls do their work and their answers are lost.
        Timeouts = "timeouts",
        /// A mall is dead for 80 hours.
        Malls = "malls",
        /// The disk is full.
        Disk = "disk",
        /// The database is locked.
        Locked = "locked",
        /// Notices that must not be believed.
        Rejected = "rejected",
        /// The core alone, from seeds.
        Simulation = "simulation",
    }
);

/// Runs one.
pub(super) async fn run(experiment: Experiment, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    match experiment {
        Experiment::Notices => Box::pin(notices::run(plan)).await,
        Experiment::Duplicates => Box::pin(duplicates::run(plan)).await,
        Experiment::Kills => Box::pin(kills::run(plan)).await,
        Experiment::Points => Box::pin(points::run(plan)).await,
        Experiment::Races => Box::pin(money::races(plan)).await,
        Experiment::Late => Box::pin(money::late(plan)).await,
        Experiment::Dropped => Box::pin(silence::dropped(plan)).await,
        Experiment::Timeouts => Box::pin(silence::timeouts(plan)).await,
        Experiment::Malls => Box::pin(malls::run(plan)).await,
        Experiment::Disk => Box::pin(disk::full(plan)).await,
        Experiment::Locked => Box::pin(disk::locked(plan)).await,
        Experiment::Rejected => Box::pin(rejected::run(plan)).await,
        Experiment::Simulation => seeds::run(plan).await,
    }
}
