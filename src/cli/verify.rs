//! `larder verify`: reads stored contents from the disk and verifies them.
//!
//! The report goes to stdout, the progress to stderr: one line that changes on a terminal, a line
//! now and then elsewhere.

use std::io::Write;

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, say};
use super::progress::{ProgressLine, bar};
use crate::amounts::bytes;
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
            progress.show(&progress_of(report));
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

fn progress_of(report: &VerificationReport) -> String {
    let wrong = match report.wrong.len() {
        0 => String::new(),
        count => format!(", {count} wrong"),
    };
    format!("{}{wrong}", bar(report.verified_bytes, report.of_bytes))
}
