//! The simulation of the core, seed after seed. A seed that breaks something is named, and what happened in
//! it is kept as a file.

use super::super::table::{Row, thousands};
use super::super::{Plan, simulation};

/// As many seeds as the plan wants, from its own seed on.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (first, count) = (plan.seed, plan.seeds);
    let report = tokio::task::spawn_blocking(move || simulation::run(first, count, threads)).await?;
    for broken in &report.broken {
        let file = plan.ground.join(format!("simulation-{}.txt", broken.seed));
        std::fs::write(file, format!("{}\n\n{}\n", broken.what, broken.trace.join("\n")))?;
    }
    let words = |broken: &simulation::Broken| format!("--seed {}: {}", broken.seed, broken.what);
    let broken: Vec<String> = report.broken.iter().map(words).collect();
    let many = |number: u64| usize::try_from(number).map_or_else(|_| number.to_string(), thousands);
    let each = report.elapsed.as_secs_f64() * 1_000.0 / f64::from(u32::try_from(report.seeds.max(1))?);
    let events: Vec<String> = report.events.iter().map(|(what, n)| format!("{n} {what}")).collect();
    Ok(vec![
        Row::none(format!("simulation: {} seeds from {first}", many(report.seeds)), "0 broken", &broken),
        Row::told("simulation: steps", format!("{}, {each:.2} ms a seed", many(report.steps))),
        Row::told("simulation: what happened", events.join(", ")),
    ])
}
