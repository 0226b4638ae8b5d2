//! Shouyin: the checkout beside a mall. One binary takes WeChat Pay and Alipay, shows the QR code,
//! settles every notice exactly once, tells the mall, and brings both gateways along as an emulator.
//!
//! The map, in reading order:
//!
//! | module | question | may import |
//! |---|---|---|
//! | [`domain`] | what is true? | nothing of ours |
//! | [`gateway`] | what goes on the wire? | domain |
//! | [`ui`] | what runs in the browser? | domain (and `server` inside `#[server]` bodies, which the browser build drops) |
//! | [`runtime`] | what do both servers stand on? | `domain::id::UnixMillis` |
//! | [`server`] | what touches the world? | all of the above |
//! | [`emulator`] | what does the other side do? | gateway, domain, runtime; never server |
//! | [`torture`] | does it hold? | all of the above |
//!
//! Invariants, kept by types, tests and `tests/tidy.rs`:
//!
//! 1. domain and gateway do no IO, read no clock, spawn nothing, draw no randomness.
//! 2. Only `domain::order::advance` changes an order, in SQL too: `Store::apply` loads it inside the
//!    write transaction, calls `advance` and writes back `WHERE id = ? AND version = ?`.
//! 3. State, raw notice and effects are saved in one transaction. Effects are rows, run by workers. A
//!    gateway is never called inside a transaction.
//! 4. A gateway's success is answered after the commit; every failure so that the gateway comes again.
//! 5. Verified bytes are a type: business code cannot be given anything else.
//! 6. The gateway's word about money beats our clock. No money is silent.
//! 7. An unknown status is pending; an unknown outcome is asked again with the same stored request.
//! 8. A success page is shown only from stored state.
//! 9. Only `runtime::clock` reads the time, only `runtime::transport` opens connections, only
//!    `server::error` knows HTTP statuses.
//! 10. Secrets have no Display, a redacting Debug and no Serialize.
//! 11. `merchant_id` stands in every table that holds an order's data.
//! 12. Money counts once per (channel, account, `transaction_id`, kind); notices and queries meet there.
//! 13. In the group-committing writer a failed job is rolled back to its savepoint; if SQLite ended the
//!     whole transaction, every job of the batch fails and none is acknowledged.

#[cfg(any(all(feature = "ssr", feature = "hydrate"), not(any(feature = "ssr", feature = "hydrate"))))]
compile_error!("build with exactly one of the features `ssr` (server) and `hydrate` (browser)");

pub mod domain;
#[cfg(feature = "ssr")]
pub mod emulator;
#[cfg(feature = "ssr")]
pub mod gateway;
#[cfg(feature = "ssr")]
pub mod runtime;
#[cfg(feature = "ssr")]
pub mod server;
#[cfg(feature = "ssr")]
pub mod torture;
pub mod ui;

/// Makes the browser ready for islands; the page's loader calls it once, before it wakes them.
#[cfg(feature = "hydrate")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn hydrate() {
    leptos::mount::hydrate_islands();
}
