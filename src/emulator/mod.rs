//! The other side: both gateways, for demos and tests. Never reachable from `serve`, never imports `server`
//! (only `demo` does, which puts service, emulator and a small mall into one process).
