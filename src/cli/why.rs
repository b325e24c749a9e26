//! `larder why`: the forecast of a pull.

use std::io::{self, Write};

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, labelled, say};
use crate::clock::{SystemClock, WallClock as _};
use crate::inventory::PullForecast;

/// Prints the forecast.
pub(super) fn run(
    cache: &CommandCache,
    image: &str,
    is_json: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let forecast = forecast(cache, image)?;
    say(out, &if is_json { json(&forecast) } else { text(&forecast) });
    Ok(())
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
    lines.iter().map(|(name, value)| labelled(name, value)).collect()
}
