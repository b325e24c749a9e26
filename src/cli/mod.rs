//! The command line: one file per subcommand.

mod arguments;
mod check;
mod exit;
mod logging;
mod output;
mod serve;

pub use arguments::run;
pub use exit::ExitStatus;
