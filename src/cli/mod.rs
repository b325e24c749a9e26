//! The command line: one file per subcommand.

mod arguments;
mod cache_commands;
mod check;
mod check_json;
mod check_online;
mod check_text;
mod command_cache;
mod completions;
mod config_arguments;
mod exit;
mod export;
mod healthcheck;
mod import;
mod inventory;
mod logging;
mod ls;
mod output;
mod pin;
mod progress;
mod pulls;
mod rm;
mod serve;
mod setup;
mod setup_check;
mod setup_files;
mod show;
mod stats;
mod table;
mod verify;
mod warm;
mod watch;
mod watch_screen;
mod why;

pub use arguments::run;
pub use exit::ExitStatus;
