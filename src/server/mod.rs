//! What touches the world: configuration, store, the service itself, its HTTP faces and its workers.
//! Read `checkout` first; `router` lists every route.
pub mod api;
pub mod checkout;
pub mod cli;
pub mod config;
pub mod error;
pub mod json;
pub mod notice;
pub mod pages;
pub mod router;
pub mod store;
pub mod worker;
