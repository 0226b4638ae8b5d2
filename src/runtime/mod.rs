//! What both servers stand on: the accept loop, outgoing HTTP, the clock and randomness.
//! Never imports anything of ours but `domain::id::UnixMillis`; the only place with ambient time,
//! randomness and sockets.

pub mod clock;
pub mod crash;
pub mod files;
pub mod listen;
pub mod random;
pub mod transport;
