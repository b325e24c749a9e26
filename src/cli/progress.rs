//! Progress for people, on stderr: one line that changes on a terminal, else a line now and then.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use super::output::say;
use crate::amounts::bytes;

/// The progress of a command.
pub(super) struct ProgressLine {
    is_terminal: bool,
    shown_at: Instant,
    is_shown: bool,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, shown_at: Instant::now(), is_shown: false }
    }

    /// Shows a line, in the place of the one before, unless that is too young.
    pub(super) fn show(&mut self, line: &str) {
        let pause = if self.is_terminal { REDRAW_EVERY } else { LINE_EVERY };
        if self.shown_at.elapsed() < pause {
            return;
        }
        self.shown_at = Instant::now();
        self.is_shown = self.is_terminal;
        let line = if self.is_terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") };
        say(&mut std::io::stderr(), &line);
    }

    /// Leaves the line to what follows.
    pub(super) fn finish(self) {
        if self.is_shown {
            say(&mut std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A bar of the share that is done, and both figures.
pub(super) fn bar(done: u64, of: u64) -> String {
    let share = u128::from(done) * 100 / u128::from(of.max(1));
    let percent = usize::try_from(share.min(100)).unwrap_or(100);
    let filled = percent * BAR_CELLS / 100;
    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_CELLS - filled));
    format!("[{bar}] {percent:>3} %  {} of {}", bytes(done), bytes(of))
}

const BAR_CELLS: usize = 30;

/// The time between two states of the line on a terminal: people read no faster.
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// The time between two lines of progress in a file.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        assert_eq!(bar(0, 0), format!("[{}]   0 %  0 B of 0 B", "-".repeat(30)));
        let half = format!("[{}{}]  50 %  1.0 KiB of 2.0 KiB", "#".repeat(15), "-".repeat(15));
        assert_eq!(bar(1024, 2048), half);
        assert!(bar(4096, 2048).contains(&format!("[{}] 100 %", "#".repeat(30))));
    }
}
