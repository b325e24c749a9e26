//! The behaviour of Larder as its clients and upstreams see it.

#![allow(unreachable_pub, reason = "a test binary exports nothing, and `pub` reads better")]
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failing test")]

mod support;

mod selftest;
