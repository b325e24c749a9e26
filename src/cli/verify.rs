//! `larder verify`: reads stored contents from the disk and verifies them.
//!
//! The report goes to stdout, the progress to stderr: one line that changes on a terminal, a line
//! now and then elsewhere.

use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::command_cache::{CommandCache, CommandError};
use super::output::{bytes, json, say};
use crate::control::{
    ContentShare, ContentVerification, ControlFailure, ControlRequest, VerificationReport,
};

#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// A share of all contents, chosen at random each time, such as `5%`
    #[arg(long, value_name = "SHARE", default_value = "100%")]
    subset: ContentShare,
    /// Print one JSON object, and no progress
    #[arg(long)]
    json: bool,
}

/// Verifies, and prints what was found.
pub(super) fn run(
    cache: &CommandCache,
    arguments: &VerifyArguments,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut progress = (!arguments.json).then(ProgressLine::new);
    let report = verify(cache, arguments.subset, &mut |report| {
        if let Some(progress) = &mut progress {
            progress.show(report);
        }
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    say(out, &if arguments.json { json(&report) } else { text(&report) });
    let wrong = report.wrong.len();
    if wrong == 0 {
        return Ok(());
    }
    let error = format!("{wrong} of {} contents are wrong", report.of);
    let hint = Some("check the disk and the memory of this machine".to_owned());
    Err(ControlFailure { error, hint }.into())
}

/// The last report, with all that is wrong.
fn verify(
    cache: &CommandCache,
    share: ContentShare,
    show: &mut dyn FnMut(&VerificationReport),
) -> Result<VerificationReport, CommandError> {
    let mut whole = VerificationReport::default();
    let mut add = |report: VerificationReport| {
        let mut wrong = std::mem::take(&mut whole.wrong);
        wrong.extend_from_slice(&report.wrong);
        whole = VerificationReport { wrong, ..report };
        show(&whole);
        true
    };
    cache.change_each(&ControlRequest::Verification { share }, &mut add, |add| {
        cache.with_store(async |store| {
            let mut verification = ContentVerification::begin(store, share).await?;
            while let Some(report) = verification.next().await? {
                add(report);
            }
            Ok(())
        })
    })?;
    if whole.is_done {
        return Ok(whole);
    }
    let error = "the server stopped before the verification ended".to_owned();
    Err(ControlFailure { error, hint: Some("run it again".to_owned()) }.into())
}

fn text(report: &VerificationReport) -> String {
    let wrong =
        report.wrong.iter().map(|it| format!("wrong, {}: {}\n", it.state.as_str(), it.digest));
    let (count, size) = (report.verified, bytes(report.verified_bytes));
    let right = count.saturating_sub(report.wrong.len() as u64);
    wrong.chain([format!("verified {size} in {count} contents: {right} are right\n")]).collect()
}

/// The progress, for people.
struct ProgressLine {
    is_terminal: bool,
    shown_at: Instant,
    is_shown: bool,
}

impl ProgressLine {
    fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, shown_at: Instant::now(), is_shown: false }
    }

    fn show(&mut self, report: &VerificationReport) {
        let line = progress(report);
        if self.is_terminal {
            say(&mut std::io::stderr(), &format!("\r\x1b[K{line}"));
        } else if self.shown_at.elapsed() >= LINE_EVERY {
            self.shown_at = Instant::now();
            say(&mut std::io::stderr(), &format!("{line}\n"));
        }
        self.is_shown = self.is_terminal;
    }

    /// Leaves the line to what follows.
    fn finish(self) {
        if self.is_shown {
            say(&mut std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn progress(report: &VerificationReport) -> String {
    let share = u128::from(report.verified_bytes) * 100 / u128::from(report.of_bytes.max(1));
    let percent = usize::try_from(share.min(100)).unwrap_or(100);
    let filled = percent * BAR_CELLS / 100;
    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_CELLS - filled));
    let sizes = format!("{} of {}", bytes(report.verified_bytes), bytes(report.of_bytes));
    let wrong = match report.wrong.len() {
        0 => String::new(),
        count => format!(", {count} wrong"),
    };
    format!("[{bar}] {percent:>3} %  {sizes}{wrong}")
}

const BAR_CELLS: usize = 30;

/// The time between two lines of progress in a file.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let of = |verified_bytes, of_bytes| {
            progress(&VerificationReport { verified_bytes, of_bytes, ..Default::default() })
        };
        assert_eq!(of(0, 0), format!("[{}]   0 %  0 B of 0 B", "-".repeat(30)));
        let half = format!("[{}{}]  50 %  1.0 KiB of 2.0 KiB", "#".repeat(15), "-".repeat(15));
        assert_eq!(of(1024, 2048), half);
        assert!(of(4096, 2048).contains(&format!("[{}] 100 %", "#".repeat(30))));
    }
}
