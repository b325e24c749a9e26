//! Checks of the code itself: what may depend on what, which file may name a vendor, and figures of
//! its shape that may only get better.
//!
//! Rust keeps crates apart but not modules, so these tests are the fence inside our one crate. To
//! move the fence, change its table in a commit of its own and say why.

mod circles;
mod figures;
mod files;
mod layers;
mod limits;
mod lists;
mod messages;
mod rooms;
mod source;
mod vendors;
