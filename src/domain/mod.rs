//! What is true: orders, attempts, money and the one function that changes them.
//! Never does IO, reads a clock, draws randomness or knows a gateway's wire format.
//! Read `order` first: it is the state machine everything else serves.

mod event;
pub mod id;
pub mod money;
pub mod number;
pub mod order;
pub mod outbox;
pub mod pad;
pub mod plain;
pub mod refund;
pub mod snapshot;
pub mod time;
