//! The figures of the page for operators on a terminal: `larder stats --watch`.
//!
//! The figures are read as the JSON of `/stats.json`, so that a server of another version is shown
//! as far as it is understood.

use std::fmt;

use serde_json::Value;

use super::output::labelled;
use crate::amounts::bytes;

/// The figures of a server, for a terminal.
pub(super) struct WatchScreen<'f>(pub(super) &'f Value);

impl fmt::Display for WatchScreen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        f.write_str(&labelled("server", &format!("larder {}", text(&figures["version"]))))?;
        f.write_str(&labelled("state", &state(&figures["health"])))?;
        for (name, traffic) in [("24 hours", "last_day"), ("since start", "since_start")] {
            f.write_str(&labelled(name, &saved(&figures[traffic])))?;
        }
        f.write_str(&labelled("pulls left", &pulls_left(&figures["pulls_left"])))?;
        f.write_str(&labelled("disk", &disk(&figures["disk"])))?;
        let rows = |name: &str| figures[name].as_array().into_iter().flatten();
        section(f, "being fetched", &rows("fills").collect::<Vec<_>>(), fill)?;
        section(f, "upstreams", &rows("upstreams").collect::<Vec<_>>(), upstream)?;
        // The layers of a pull would push all others off the screen.
        let is_layer = |it: &Value| it["kind"] == "blob" && number(&it["status"]) < 400;
        let recent: Vec<_> = rows("recent").filter(|it| !is_layer(it)).collect();
        section(f, "recent requests", &recent, request)
    }
}

/// A heading with the first rows of a list; nothing without any.
fn section(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: &[&Value],
    row: fn(&Value) -> String,
) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    rows.iter().take(ROWS_SHOWN_MAX).try_for_each(|it| {
        // A row that is broken moves all of those below.
        let line: String = row(it).chars().take(LINE_CHARS_MAX).collect();
        writeln!(f, "  {}", line.replace(char::is_control, " "))
    })?;
    match rows.len().saturating_sub(ROWS_SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

fn state(health: &Value) -> String {
    let reasons = health["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().map(|it| text(&it["detail"])).collect();
    let gap = if reasons.is_empty() { "" } else { ": " };
    format!("{}{gap}{}", text(&health["status"]), reasons.join("; "))
}

/// The four numbers of the page.
fn saved(traffic: &Value) -> String {
    let percent = |ratio: &Value| match ratio.as_f64() {
        Some(ratio) => format!("{:.1} %", 100.0 * ratio),
        None => "–".to_owned(),
    };
    format!(
        "{} saved; hits {} of {} requests, {} of bytes; {} while an upstream was down",
        amount(&traffic["hit_bytes"]),
        percent(&traffic["hit_ratio"]),
        number(&traffic["requests"]),
        percent(&traffic["byte_hit_ratio"]),
        number(&traffic["stale"]),
    )
}

fn pulls_left(left: &Value) -> String {
    if left.is_null() {
        return "no registry says".to_owned();
    }
    let limit = left["limit"].as_u64().map(|limit| format!(" of {limit}")).unwrap_or_default();
    format!("{}{limit} at {}", number(&left["remaining"]), text(&left["registry"]))
}

fn disk(disk: &Value) -> String {
    let max = disk["max_size"].as_u64().map(|max| format!(" of {}", bytes(max)));
    let free = disk["free"].as_u64().map(|free| format!("; {} free", bytes(free)));
    format!(
        "{}{} used{}; {} blobs evicted",
        amount(&disk["used"]),
        max.unwrap_or_default(),
        free.unwrap_or_default(),
        number(&disk["evicted"]),
    )
}

fn fill(fill: &Value) -> String {
    let name = match (fill["repository"].as_str(), fill["digest"].as_str()) {
        (Some(repository), Some(digest)) => {
            format!(
                "{}/{repository} {}",
                text(&fill["registry"]),
                digest.get(..19).unwrap_or(digest)
            )
        }
        _ => format!("{} a blob", text(&fill["registry"])),
    };
    let total = fill["total"].as_u64().map(|total| format!(" of {}", bytes(total)));
    let rate = fill["rate"].as_u64().map(|rate| format!(", {}/s", bytes(rate)));
    format!(
        "{name} from {}: {}{}{}, {} readers",
        text(&fill["host"]),
        amount(&fill["received"]),
        total.unwrap_or_default(),
        rate.unwrap_or_default(),
        number(&fill["readers"]),
    )
}

fn upstream(upstream: &Value) -> String {
    let (registry, state) = (text(&upstream["registry"]), text(&upstream["state"]));
    format!("{registry}: {state}, {} received", amount(&upstream["received"]))
}

fn request(request: &Value) -> String {
    format!(
        "{} {} {} {} {}: {}",
        text(&request["at"]),
        text(&request["client"]),
        number(&request["status"]),
        text(&request["method"]),
        request["name"].as_str().or(request["registry"].as_str()).unwrap_or_default(),
        text(&request["reason"]),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("–")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn amount(value: &Value) -> String {
    bytes(number(value))
}

/// Rows of a list: a screen has some forty lines.
const ROWS_SHOWN_MAX: usize = 8;

/// A line of a wide terminal.
const LINE_CHARS_MAX: usize = 160;
