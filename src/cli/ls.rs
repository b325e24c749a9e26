//! `larder ls`: the images in the cache.

use std::cmp::Reverse;
use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use super::command_cache::{CommandCache, CommandError};
use super::output::json;
use super::table::TableWriter;
use crate::amounts::{ago, bytes};
use crate::clock::{SystemClock, WallClock as _};
use crate::control::{ControlFailure, ControlRequest};
use crate::inventory::{ImagePattern, ImageRow, list_images};

#[derive(Args, Debug)]
pub(super) struct ListArguments {
    /// A part of the name, or a pattern such as `ghcr.io/**` or `alpine:3.*`
    pattern: Option<String>,
    /// Only images of this registry
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Only images of which something is missing
    #[arg(long)]
    incomplete: bool,
    /// Only images that were not pulled for so long, such as `30d`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    unused: Option<Duration>,
    /// The order of the list
    #[arg(long, value_name = "KEY", value_enum, default_value_t)]
    sort: SortKey,
    /// Turn the order around
    #[arg(long)]
    reverse: bool,
    /// Print one JSON object on each line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SortKey {
    /// By name; rows come while they are found
    #[default]
    Name,
    /// By last pull, the latest first
    Pull,
    /// By number of pulls, the most first
    Pulls,
    /// By size on the disk, the largest first
    Size,
}

/// Prints the list.
pub(super) fn run(
    cache: &CommandCache,
    list: &ListArguments,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    list.print(cache, out)
}

impl ListArguments {
    fn print(&self, cache: &CommandCache, out: &mut dyn Write) -> Result<(), CommandError> {
        let now = SystemClock.now();
        let mut writer = RowWriter::new(self, out, now);
        if self.sort == SortKey::Name && !self.reverse {
            self.each(cache, now, &mut |row| writer.row(&row))?;
        } else {
            let mut rows = Vec::new();
            self.each(cache, now, &mut |row| {
                rows.push(row);
                true
            })?;
            self.sort(&mut rows);
            // Those behind one that cannot be written are not worth trying.
            let _all: bool = rows.iter().all(|row| writer.row(row));
        }
        writer.finish();
        Ok(())
    }

    fn each(
        &self,
        cache: &CommandCache,
        now: SystemTime,
        show: &mut dyn FnMut(ImageRow) -> bool,
    ) -> Result<(), CommandError> {
        let pattern = self.pattern.clone().unwrap_or_default();
        let parsed = pattern.parse::<ImagePattern>();
        let parsed =
            parsed.map_err(|_| CommandError::Misused(ControlFailure::bad_pattern(&pattern)))?;
        let mut show = |row: ImageRow| if self.wants(&row, now) { show(row) } else { true };
        let request = ControlRequest::Images { pattern };
        cache.each(&request, &mut show, |view, show| list_images(view, &parsed, show))
    }

    fn wants(&self, row: &ImageRow, now: SystemTime) -> bool {
        self.registry.as_ref().is_none_or(|registry| row.registry == *registry)
            && !(self.incomplete && row.is_complete)
            && self.unused.is_none_or(|unused| row.last_pull.age(now) >= unused)
    }

    fn sort(&self, rows: &mut [ImageRow]) {
        match self.sort {
            SortKey::Name => {}
            SortKey::Pull => rows.sort_by_key(|row| Reverse(row.last_pull)),
            SortKey::Pulls => rows.sort_by_key(|row| Reverse(row.pulls)),
            SortKey::Size => rows.sort_by_key(|row| Reverse(row.stored)),
        }
        if self.reverse {
            rows.reverse();
        }
    }
}

/// Writes rows for people or for programs.
enum RowWriter<'w> {
    Json { out: &'w mut dyn Write },
    Table { table: TableWriter<'w, 7>, now: SystemTime },
}

impl<'w> RowWriter<'w> {
    fn new(list: &ListArguments, out: &'w mut dyn Write, now: SystemTime) -> Self {
        if list.json {
            return Self::Json { out };
        }
        let names = ["IMAGE", "SIZE", "COMPLETE", "PINNED", "PLATFORMS", "PULLS", "LAST PULL"];
        Self::Table { table: TableWriter::new(out, names), now }
    }

    /// Returns whether the reader is still there.
    fn row(&mut self, row: &ImageRow) -> bool {
        match self {
            Self::Json { out } => out.write_all(json(row).as_bytes()).is_ok(),
            Self::Table { table, now } => {
                let platforms = row.platforms.map_or_else(
                    || "-".to_owned(),
                    |platforms| format!("{} of {}", platforms.pulled, platforms.listed),
                );
                table.row([
                    row.name.clone(),
                    bytes(row.stored),
                    if row.is_complete { "yes" } else { "no" }.to_owned(),
                    if row.is_pinned { "yes" } else { "-" }.to_owned(),
                    platforms,
                    row.pulls.to_string(),
                    ago(row.last_pull.age(*now)),
                ])
            }
        }
    }

    fn finish(self) {
        match self {
            // A reader that has gone away is no failure.
            Self::Json { out } => out.flush().unwrap_or_default(),
            Self::Table { table, .. } => table.finish(),
        }
    }
}
