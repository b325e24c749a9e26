//! Progress for people, on stderr: one line that changes on a terminal, with a few others below it
//! where a command has them, else a line now and then.

use std::io::IsTerminal as _;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::time::Instant;

use super::output::say;
use crate::amounts::bytes;

/// The progress of a command.
pub(super) struct ProgressLine {
    is_terminal: bool,
    shown_at: Instant,
    /// The number of lines that the terminal shows.
    lines_shown: usize,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, shown_at: Instant::now(), lines_shown: 0 }
    }

    /// Shows a line, in the place of the one before, unless that is too young.
    pub(super) fn show(&mut self, line: &str) {
        self.show_with(line, &[]);
    }

    /// The same with others below it on a terminal, as far as they fit.
    pub(super) fn show_with(&mut self, line: &str, below: &[String]) {
        let pause = if self.is_terminal { REDRAW_EVERY } else { LINE_EVERY };
        if self.shown_at.elapsed() < pause {
            return;
        }
        self.shown_at = Instant::now();
        if !self.is_terminal {
            return say(&mut std::io::stderr(), &format!("{line}\n"));
        }
        let (rows, columns) = terminal_size();
        let lines = std::iter::once(line).chain(below.iter().map(String::as_str));
        let lines = lines.take(rows.saturating_sub(1).clamp(1, 1 + LINES_BELOW_MAX));
        // A line that is broken in two could not be replaced.
        let cut = |line: &str| line.chars().take(columns.saturating_sub(1)).collect::<String>();
        let lines: Vec<_> = lines.map(cut).collect();
        say(&mut std::io::stderr(), &format!("{}{}", self.back(), lines.join("\n")));
        self.lines_shown = lines.len();
    }

    /// Leaves the place to what follows.
    pub(super) fn finish(self) {
        say(&mut std::io::stderr(), &self.back());
    }

    /// The characters that take the lines away that are shown.
    fn back(&self) -> String {
        match self.lines_shown {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
        }
    }
}

/// The rows and columns of the terminal. One that does not say is as small as the smallest.
fn terminal_size() -> (usize, usize) {
    match tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => (24, 80),
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

/// Lines below the first: a server fetches fewer layers at once.
const LINES_BELOW_MAX: usize = 8;

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
