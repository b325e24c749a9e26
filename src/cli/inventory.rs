//! `larder inventory`: the contents in the cache, for `larder export --minus` on another machine.

use std::io::Write;

use super::command_cache::{CommandCache, CommandError};
use super::output::say;

/// Prints each content with its length in bytes on a line, sorted.
pub(super) fn run(cache: &CommandCache, out: &mut dyn Write) -> Result<(), CommandError> {
    let mut lines = String::new();
    cache.view()?.each_content(&mut |digest, len| {
        lines.extend([digest.as_str(), " ", &len.to_string(), "\n"]);
        if lines.len() >= LINES_BYTES {
            say(out, &std::mem::take(&mut lines));
        }
    })?;
    say(out, &lines);
    Ok(())
}

/// Bytes that are printed at once.
const LINES_BYTES: usize = 64 << 10;
