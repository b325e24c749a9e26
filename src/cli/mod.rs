//! The command line: one file per subcommand.

mod arguments;
mod check;
mod command_cache;
mod exit;
mod logging;
mod output;
mod serve;
mod stats;

pub use arguments::run;
pub use exit::ExitStatus;
