//! The binary: hands the arguments to `server::cli`.
fn main() {}
