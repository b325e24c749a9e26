//! What the tests stand on: scripted registries, a network in memory, clients, and Larder between.

#![allow(dead_code, reason = "the vocabulary of faults and clients is larger than today's tests")]

pub mod client;
pub mod clock;
pub mod image;
pub mod network;
pub mod registry;
pub mod tls;

pub use client::{Client, Reply, Version};
pub use clock::TestClock;
pub use image::{Blob, Image, Manifest};
pub use network::{Reach, TestNetwork};
pub use registry::{Auth, Fault, Gate, Place, ScriptedRegistry, When};
