//! Integration tests: the store's story and the service's flows, through public surfaces only. One
//! binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails may panic"
)]

mod attack;
mod cli;
mod ends;
mod flows;
mod hosts;
mod malls;
mod outbox;
mod pads;
mod readers;
mod refunds;
mod routes;
mod schema;
mod store;
mod sweep;
mod torture;
mod world;
mod wpay;
