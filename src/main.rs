//! The binary: hands the arguments to `server::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shouyin::server::cli::main()
}
