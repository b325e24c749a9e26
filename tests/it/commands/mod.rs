//! The operator's commands: against a running server, without one, and after a kill.

mod healthcheck;
mod lab;
mod ls;
mod pin;
mod pulls;
mod rm;
mod setup;
mod show;
mod socket;
mod states;
mod stats;
mod verify;
mod versions;
mod why;
