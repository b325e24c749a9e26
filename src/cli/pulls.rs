//! `larder pulls`: the pulls in the log, by image, user and time.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::json;
use super::table::TableWriter;
use crate::amounts::ago;
use crate::clock::{SystemClock, WallClock as _};
use crate::control::{ControlFailure, ControlRequest};
use crate::inventory::{ImagePattern, PullRecord, list_pulls};

#[derive(Args, Debug)]
pub(super) struct PullArguments {
    /// A part of the name of images, or a pattern such as `ghcr.io/**` or `alpine:3.*`
    pattern: Option<String>,
    /// Only pulls of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only pulls of so long ago at most, such as `7d`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Print one JSON object on each line
    #[arg(long)]
    json: bool,
}

/// Prints the pulls, the latest first.
pub(super) fn run(
    cache: &CommandCache,
    wanted: &PullArguments,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let text = wanted.pattern.clone().unwrap_or_default();
    let pattern: ImagePattern =
        text.parse().map_err(|_| CommandError::Misused(ControlFailure::bad_pattern(&text)))?;
    let now = SystemClock.now();
    let mut pulls: Vec<PullRecord> = Vec::new();
    let mut keep = |pull: PullRecord| {
        let is_wanted = wanted.user.as_ref().is_none_or(|user| pull.user.as_ref() == Some(user))
            && wanted.since.is_none_or(|since| pull.at.age(now) <= since)
            && pattern.matches_image(&pull.name);
        pulls.extend(is_wanted.then_some(pull));
        true
    };
    cache.each(&ControlRequest::Pulls, &mut keep, |view, show| {
        let _all: bool = list_pulls(view)?.into_iter().all(show);
        Ok(())
    })?;
    pulls.reverse();
    if wanted.json {
        // A reader that has gone away is no failure.
        let _all = pulls.iter().all(|pull| out.write_all(json(pull).as_bytes()).is_ok());
        out.flush().unwrap_or_default();
        return Ok(());
    }
    let mut table = TableWriter::new(out, ["PULLED", "IMAGE", "USER", "ADDRESS", "ANSWER"]);
    for pull in pulls {
        let dash = || "-".to_owned();
        let (user, answer) = (pull.user.unwrap_or_else(dash), pull.decision.unwrap_or_else(dash));
        if !table.row([ago(pull.at.age(now)), pull.name, user, pull.address, answer]) {
            break;
        }
    }
    table.finish();
    Ok(())
}
