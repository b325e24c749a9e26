//! `larder show`: one image with its manifests, layers, and what of it is missing.

use std::io::Write;
use std::time::SystemTime;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, labelled, say};
use super::table::TableWriter;
use crate::amounts::{ago, bytes};
use crate::clock::{SystemClock, WallClock as _};
use crate::control::{ControlFailure, ControlRequest};
use crate::inventory::{ContentDetail, ImageDetail, ImageRow, show_image};

/// Prints the image.
pub(super) fn run(
    cache: &CommandCache,
    image: &str,
    is_json: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let detail = detail(cache, image)?;
    if is_json {
        say(out, &json(&detail));
    } else {
        print(&detail, out);
    }
    Ok(())
}

fn detail(cache: &CommandCache, image: &str) -> Result<ImageDetail, CommandError> {
    let name = cache.image_name(image)?;
    cache.read(&ControlRequest::Image { name: name.to_string() }, |view| {
        Ok(show_image(view, &name)?.ok_or_else(|| ControlFailure::not_cached(&name))?)
    })
}

fn print(detail: &ImageDetail, out: &mut dyn Write) {
    let now = SystemClock.now();
    say(out, &summary(&detail.row, now));
    let mut table = TableWriter::new(out, ["KIND", "DIGEST", "SIZE", "STATE", "SHARED"]);
    for manifest in &detail.manifests {
        let kind = manifest.platform.clone().unwrap_or_else(|| manifest.content.kind.clone());
        let is_left_out = !manifest.is_pulled && !manifest.content.is_stored;
        let state = if is_left_out { Some("never pulled") } else { None };
        table.row(cells(&manifest.content, kind, state, now));
        for part in &manifest.parts {
            table.row(cells(part, format!("  {}", part.kind), None, now));
        }
    }
    table.finish();
}

fn summary(row: &ImageRow, now: SystemTime) -> String {
    let offline =
        if row.is_complete { "complete" } else { "incomplete: a pull needs the upstream" };
    let mut lines = vec![
        ("image", row.name.clone()),
        ("digest", row.digest.clone()),
        ("size", format!("{}, of which {} are stored", bytes(row.size), bytes(row.stored))),
        ("offline", offline.to_owned()),
    ];
    if row.is_pinned {
        lines.push(("pinned", "yes: it is kept, whatever else has to go".to_owned()));
    }
    if let Some(platforms) = row.platforms {
        lines.push(("platforms", format!("{} of {} pulled", platforms.pulled, platforms.listed)));
    }
    lines.push(("last pull", ago(row.last_pull.age(now))));
    lines.push(("pulls", format!("{}, as far as the log goes", row.pulls)));
    lines.extend(row.checked_at.map(|at| ("tag checked", ago(at.age(now)))));
    format!("{}\n", lines.iter().map(|(name, value)| labelled(name, value)).collect::<String>())
}

fn cells(
    content: &ContentDetail,
    kind: String,
    state: Option<&str>,
    now: SystemTime,
) -> [String; 5] {
    let verified = content.verified_at.map(|at| format!("verified {}", ago(at.age(now))));
    let state = state.map(str::to_owned).or(verified).unwrap_or_else(|| "missing".to_owned());
    let shared = match (content.shared, content.shared_with.first()) {
        (0, _) | (_, None) => "-".to_owned(),
        (1, Some(user)) => user.clone(),
        (count, Some(user)) => format!("{user} and {} more", count - 1),
    };
    let size = content.size.map_or_else(|| "?".to_owned(), bytes);
    [kind, content.digest.clone(), size, state, shared]
}
