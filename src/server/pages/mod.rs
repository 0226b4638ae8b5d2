//! Pages that shoppers see. Never decides anything about money: it shows what is stored.

use axum::Router;

use super::router::App;

/// The routes of the pages.
pub fn routes() -> Router<App> {
    Router::new()
}
