//! `larder pin` and `larder unpin`: keeps an image, whatever else has to go, or lets go of it.

use std::io::Write;
use std::sync::Arc;

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, say};
use crate::amounts::bytes;
use crate::control::{ControlFailure, ControlRequest};
use crate::inventory::{PinError, PinReport};

#[derive(Args, Debug)]
pub(super) struct PinArguments {
    /// The image, as clients name it: `alpine`, `ghcr.io/owner/app:v1`, `alpine@sha256:…`
    image: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Pins the image or lets go of it, and prints what holds then.
pub(super) fn run(
    cache: &CommandCache,
    pin: &PinArguments,
    is_wanted: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let name = cache.image_name(&pin.image)?;
    let request = ControlRequest::Pin { name: name.to_string(), is_wanted };
    let report: PinReport = cache.change(&request, |view| {
        let book = cache.pin_book(view)?;
        let changed = cache.with_store(async |store| {
            store.set_pins(Arc::clone(&book) as _);
            Ok(book.change(store, &name, is_wanted))
        })?;
        changed.map_err(|error| match error {
            PinError::Files(error) => CommandError::Files(error),
            error @ PinError::TooMuch { .. } => ControlFailure::not_pinned(&error).into(),
        })
    })?;
    say(out, &if pin.json { json(&report) } else { text(&report) });
    Ok(())
}

fn text(report: &PinReport) -> String {
    let PinReport { name, is_pinned, by_pattern, is_cached, .. } = report;
    let state = match (is_pinned, by_pattern, is_cached) {
        (true, true, _) => "is pinned by a pattern of the configuration",
        (true, false, true) => "is pinned",
        (true, false, false) => "is pinned, and kept from its first pull on",
        (false, _, _) => "is not pinned",
    };
    let pinned = bytes(report.pinned_bytes);
    let max = bytes(report.max_bytes);
    format!("{name} {state}\nall pinned images: {pinned} of {max}\n")
}
