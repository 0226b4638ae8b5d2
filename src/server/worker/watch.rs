//! Asks the gateways about orders that somebody looks at, sooner than their tasks would. Never changes when
//! a task is due, and never asks more than once however many look.

use core::time::Duration;
use std::future::Future;

use tokio_util::task::TaskTracker;

use crate::server::checkout::{Checkout, Question};

/// How often it is looked at who watches.
const TICK: Duration = Duration::from_millis(500);

/// Asks until `stopped`; calls under way then end by their own timeouts or with the process.
pub async fn run(checkout: &Checkout, stopped: impl Future<Output = ()>) {
    let running = TaskTracker::new();
    tokio::pin!(stopped);
    loop {
        for question in checkout.questions() {
            let checkout = checkout.clone();
            running.spawn(async move { ask(&checkout, question).await });
        }
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Asks one question; the answer goes the way of all answers.
pub async fn ask(checkout: &Checkout, question: Question) {
    let Question { order, trade, permit } = question;
    if let Err(error) = checkout.query(order, trade.clone()).await {
        tracing::debug!(%trade, %error, "a gateway did not say how a watched trade stands");
    }
    drop(permit);
}
