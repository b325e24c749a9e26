//! Larder against real clients and real registries, all of them on this machine's loopback.
//!
//! Upstream is Debian's `docker-registry` (plain, behind htpasswd, behind distribution's token
//! server over TLS) or olareg, whose access log is the record of what Larder asked for. Clients are
//! those of `support/client.rs`, curl, and the conformance program of the distribution
//! specification. Images are made here once and kept under `target/e2e/`.
//!
//! `tests/run` installs what this needs. A missing program skips its tests with a printed reason;
//! with `LARDER_E2E_REQUIRE=1` it fails them.
//!
//! The tests reach no other machine while they run (debootstrap fetches Debian packages once,
//! before), and touch no daemon that they did not start.
#![allow(clippy::print_stdout, reason = "a test's findings and skips are for whoever ran it")]

mod access;
mod archives;
mod artifacts;
mod browser;
mod carry;
mod clients;
mod conformance;
mod control;
mod crash;
mod credentials;
mod disk;
mod documents;
mod large;
mod limits;
mod lookalikes;
mod metrics;
mod packages;
mod prometheus;
mod push;
mod ranges;
mod setup;
mod support;
mod traces;
