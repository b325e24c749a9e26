//! The configuration files of clients that are to pull through this Larder.
//!
//! Decides the text of each client's files, given their text now. It reads and writes nothing:
//! `cli/setup` does. The formats, and why each line is there, are described in `docs/clients.md`.

mod containerd;
mod docker;
mod kubernetes;
mod mirrors;
mod plan;
mod programs;
mod toml_file;

pub use mirrors::{LarderAddress, MirrorTargets};
pub use plan::{ClientFileError, PlannedFile, SetupPlan};
pub use programs::{ClientProgram, hosts_directory, plan, undo_plan};

#[cfg(test)]
mod tests;
