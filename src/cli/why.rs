//! `larder why`: what would happen to a pull now.

use std::io::{self, Write};

use super::command_cache::{CommandCache, CommandError};
use super::exit::ExitStatus;
use super::output::{json, say};
use crate::clock::{SystemClock, WallClock as _};
use crate::config::{ConfigArgs, Environment};
use crate::inventory::PullForecast;

/// Prints the forecast.
pub(super) fn run(
    arguments: &ConfigArgs,
    image: &str,
    is_json: bool,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    let cache = match CommandCache::open(arguments, environment, err) {
        Ok(cache) => cache,
        Err(status) => return status,
    };
    match forecast(&cache, image) {
        Ok(forecast) if is_json => say(out, &json(&forecast)),
        Ok(forecast) => say(out, &text(&forecast)),
        Err(error) => return error.tell(err),
    }
    ExitStatus::Done
}

fn forecast(cache: &CommandCache, image: &str) -> Result<PullForecast, CommandError> {
    let name = cache.image_name(image)?;
    // Before the first pull there is no cache.
    let view = match cache.view() {
        Err(CommandError::NoCache(_)) => None,
        view => Some(view?),
    };
    let registries = &cache.settings.registries;
    let forecast: io::Result<_> =
        PullForecast::of(&name, registries, view.as_ref(), SystemClock.now());
    Ok(forecast?)
}

fn text(forecast: &PullForecast) -> String {
    let mut lines =
        vec![("image", forecast.name.clone()), ("outcome", forecast.outcome.as_str().to_owned())];
    lines.extend(forecast.reasons.iter().map(|reason| ("because", reason.clone())));
    lines.extend(forecast.digest.iter().map(|digest| ("digest", digest.clone())));
    let times = [
        ("tag checked", forecast.checked_at),
        ("fresh until", forecast.fresh_until),
        ("stale until", forecast.stale_until),
    ];
    lines.extend(times.into_iter().filter_map(|(name, at)| Some((name, at?.to_string()))));
    lines.extend(forecast.upstreams.iter().map(|url| ("upstream", url.clone())));
    lines.extend(forecast.missing.iter().map(|content| ("fetched", content.digest.clone())));
    let lines = lines.iter().map(|(name, value)| format!("{name:<16} {value}"));
    format!("{}\n", lines.collect::<Vec<_>>().join("\n"))
}
