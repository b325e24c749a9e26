//! The behaviour of Larder as its clients and upstreams see it.

#![allow(unreachable_pub, reason = "a test binary exports nothing, and `pub` reads better")]
#![allow(clippy::print_stderr, reason = "a test says why it was skipped, or what a process said")]
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failing test")]

mod support;

mod accept;
mod access;
mod admin;
mod backoff;
mod between;
mod breaker;
mod capacity;
mod clients;
mod coded;
mod decisions;
mod denied;
mod disk;
mod documents;
mod doors;
mod egress;
mod failing_disk;
mod faults;
mod footers;
mod framing;
mod generations;
mod h2;
mod hostile;
mod hosts;
mod index;
mod kill;
mod lazy;
mod listeners;
mod lists;
mod manifests;
mod membership;
mod metrics;
mod mistakes;
mod negative;
mod no_login;
mod odd_lists;
mod odd_manifests;
mod odd_upstreams;
mod offline;
mod parallel;
mod parts;
mod passing;
mod projects;
mod pull;
mod push;
mod questions;
mod ranges;
mod redirects;
mod referrers;
mod regressions;
mod rejections;
mod reload;
mod restart;
mod resume;
mod rot;
mod rules;
mod scarce;
mod secrets;
mod selftest;
mod sendfile;
mod sha512;
mod stale;
mod tls;
mod together;
mod tokens;
mod upgrade;
mod upstreams;
mod users;
mod via;
mod waited;
mod wrong;
