//! The operator's commands: against a running server, without one, and after a kill.

mod lab;
mod ls;
mod show;
mod socket;
