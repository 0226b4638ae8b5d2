//! `cargo fuzz run oauth_answer`; what it does: `targets.rs`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("oauth_answer", data));
