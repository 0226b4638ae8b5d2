//! The ways of breaking it, a file each. Each gives the rows of the report that are its own.

mod duplicates;
mod kills;
mod notices;
mod points;
mod rejected;

use super::Plan;
use super::table::Row;
use crate::domain::id::word_enum;

word_enum!(
    /// What can be asked for with `--only`.
    Experiment {
        /// The service is killed under load.
        Kills = "kills",
        /// The service dies at every named point.
        Points = "points",
        /// 64 copies of each notice at once.
        Duplicates = "duplicates",
        /// Notices that must not be believed.
        Rejected = "rejected",
        /// Durable notices per second.
        Notices = "notices",
    }
);

/// Runs one.
pub(super) async fn run(experiment: Experiment, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    match experiment {
        Experiment::Kills => Box::pin(kills::run(plan)).await,
        Experiment::Points => Box::pin(points::run(plan)).await,
        Experiment::Duplicates => duplicates::run(plan).await,
        Experiment::Rejected => rejected::run(plan).await,
        Experiment::Notices => notices::run(plan).await,
    }
}
