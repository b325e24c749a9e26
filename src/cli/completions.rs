//! `larder completions`, and the manual pages: both are made from the declared commands.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::exit::ExitStatus;
use super::output::say;
use crate::config;

/// Prints the script for a shell.
pub(super) fn print(shell: Shell, mut command: Command, out: &mut dyn Write) -> ExitStatus {
    // A writer that fails would end the program.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "larder", &mut script);
    say(out, &String::from_utf8_lossy(&script));
    ExitStatus::Done
}

/// Writes `larder.1`, a page for each subcommand, and `larder.toml.5`.
pub(super) fn man_pages(dir: &Path, command: Command, err: &mut dyn Write) -> ExitStatus {
    let written = clap_mangen::generate_to(command, dir)
        .and_then(|()| std::fs::write(dir.join("larder.toml.5"), config::manual()));
    match written {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            say(
                err,
                &format!("error: cannot write manual pages into {}: {error}\n", dir.display()),
            );
            ExitStatus::Failed
        }
    }
}
