//! Bytes by digest, and the few facts kept beside them, as files.

mod options;

pub use options::Options;
