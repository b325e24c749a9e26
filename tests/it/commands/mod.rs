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
mod verify;
mod why;
