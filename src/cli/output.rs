//! How commands write to their writers.

use std::io;
use std::io::Write;

/// Writes `text`; a reader that has gone away is no failure.
pub(super) fn say(to: &mut dyn Write, text: &str) {
    let written: io::Result<()> = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    drop(written);
}
