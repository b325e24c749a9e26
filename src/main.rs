//! The `larder` program.

use std::process::ExitCode;

use larder::cli;
use larder::config::Environment;

/// Gives back what a burst of clients took; docs/decisions/0013-allocator.md.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    cli::run(std::env::args_os(), &Environment::of_process(), &mut out, &mut err).into()
}
