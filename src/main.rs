//! The `larder` program.

use std::process::ExitCode;

use larder::cli;
use larder::config::Environment;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    cli::run(std::env::args_os(), &Environment::of_process(), &mut out, &mut err).into()
}
