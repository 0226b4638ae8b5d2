//! What touches the world: configuration, store, the service itself, its HTTP faces and its workers.
//! Read `checkout` first; `router` lists every route.

pub mod api;
pub mod assets;
pub mod capability;
pub mod checkout;
pub mod cli;
pub mod config;
pub mod error;
pub mod flight;
pub mod hub;
pub mod json;
pub mod limits;
pub mod logging;
pub mod mall_tokens;
pub mod merchants;
pub mod notice;
pub mod pace;
pub mod pads;
pub mod pages;
pub mod router;
pub mod sealing;
pub mod service;
pub mod store;
pub mod worker;
