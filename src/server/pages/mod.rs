//! Pages that shoppers see: `pay` decides what is on the checkout page, `shell` writes it as HTML,
//! `live` tells its state, `calls` answers its islands, `ways` knows what works where, `guard` keeps other
//! sites out, `around` is what happens around the card. `wpay` is the page inside WeChat. `pad` is the tablet
//! in the shop, `pad_screen` writes it, `pad_live` tells it that something changed, `pad_lock` asks staff for
//! a PIN.
//! Never decides anything about money: it shows what is stored.

mod around;
pub mod calls;
mod guard;
mod live;
mod look;
mod pad;
mod pad_live;
mod pad_lock;
mod pad_screen;
mod pay;
mod shell;
mod ways;
mod wpay;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use leptos::server_fn::ServerFn as _;

use super::limits::{Rule, misses};
use super::router::App;
use crate::ui::api::PushOrder;

pub use guard::csrf_guard;

/// The routes of the pages.
pub fn routes(app: &App) -> Router<App> {
    Router::new()
        .route("/pay/{page}", get(pay::show).post(pay::act))
        .route("/pay/{page}/status", get(live::status))
        .route("/pay/{page}/events", get(live::events))
        .route("/pad/{merchant}", get(pad::show).post(pad::act))
        .route("/pad/{merchant}/status", get(pad_live::status))
        .route("/pad/{merchant}/events", get(pad_live::events))
        .route(PushOrder::PATH, post(calls::serve))
        .layer(from_fn_with_state((Arc::clone(&app.limits), Rule::UnknownPage), misses))
        .layer(from_fn_with_state(app.checkout.clone(), csrf_guard))
        .merge(wpay::routes(app))
}
