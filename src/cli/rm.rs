//! `larder rm`: removes an image or a content from the cache.

use std::io::Write;

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, say};
use crate::amounts::bytes;
use crate::control::{ControlFailure, ControlRequest};
use crate::inventory::{RemovalPlan, RemovalReport, RemovalTarget};

#[derive(Args, Debug)]
pub(super) struct RemovalArguments {
    /// The image, as clients name it, or the digest of any content
    #[arg(value_name = "IMAGE|DIGEST")]
    target: String,
    /// Show what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Removes it, and prints what went.
pub(super) fn run(
    cache: &CommandCache,
    removal: &RemovalArguments,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let report = removal.perform(cache)?;
    say(out, &if removal.json { json(&report) } else { text(&report) });
    Ok(())
}

impl RemovalArguments {
    fn perform(&self, cache: &CommandCache) -> Result<RemovalReport, CommandError> {
        let target = match self.target.parse() {
            Ok(digest) => RemovalTarget::Content(digest),
            // Also the tag of a repository `sha256`, which is hardly meant.
            Err(_) if self.target.starts_with("sha256:") || self.target.starts_with("sha512:") => {
                return Err(CommandError::Misused(ControlFailure::bad_name(&self.target)));
            }
            Err(_) => RemovalTarget::Image(cache.image_name(&self.target)?),
        };
        let (name, is_dry_run) = (target.to_string(), self.dry_run);
        cache.change(&ControlRequest::Removal { name, is_dry_run }, |view| {
            let plan = RemovalPlan::of(view, &target)?;
            let plan = plan.ok_or_else(|| ControlFailure::not_cached(&target))?;
            if self.dry_run {
                return Ok(plan.report);
            }
            cache.with_store(async |store| plan.carry_out(store).await)
        })
    }
}

fn text(report: &RemovalReport) -> String {
    let done = if report.is_dry_run { "would remove" } else { "removed" };
    let mut lines = Vec::new();
    lines.extend(report.tags.iter().map(|tag| format!("{done} the tag {tag}")));
    lines.extend(report.manifests.iter().map(|name| format!("{done} the manifest {name}")));
    let contents = report.removed.iter();
    lines.extend(contents.map(|it| format!("{done} {}, {}", it.digest, bytes(it.size))));
    lines.extend(report.kept.iter().map(|it| format!("kept {}: other images have it", it.digest)));
    lines.extend(report.broken.iter().map(|name| format!("incomplete from then on: {name}")));
    let (count, size) = (report.removed.len(), bytes(report.removed_bytes));
    lines.push(format!("{done} in all: {size} in {count} files\n"));
    lines.join("\n")
}
