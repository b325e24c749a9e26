//! The parts of the tests: scripted registries, a network in memory, clients, and Larder between.

#![allow(dead_code, reason = "the vocabulary of faults and clients is larger than today's tests")]

pub mod client;
pub mod clock;
pub mod egress;
pub mod frames;
pub mod h2;
pub mod image;
pub mod instance;
pub mod log;
pub mod metrics;
pub mod network;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod small_disk;
pub mod strace;
pub mod tls;
pub mod usage;

pub use client::{Client, Decision, Reply, Version};
pub use image::{Blob, Image, Manifest};
pub use instance::Instance;
pub use log::Log;
pub use network::{Reach, TestNetwork};
pub use process::Process;
pub use proxy::{Proxy, STALE_WAIT, Setup, TAG_TTL, VERIFY_EVERY, settle};
pub use registry::{Auth, Fault, Gate, Place, ScriptedRegistry, When};

/// How often a test does a thing: as often as this variable of the environment says, or else as is
/// enough for each change.
#[allow(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
pub fn often(variable: &str, by_default: u64) -> u64 {
    std::env::var(variable).map_or(by_default, |often| often.parse().expect("a number"))
}
