//! See `larder::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzz::run("content_range", bytes));
