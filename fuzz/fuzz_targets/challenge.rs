//! See `larder::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzz::run("challenge", bytes));
