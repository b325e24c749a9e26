//! The forecast of a pull, as `larder why --json` prints it.
//!
//! It is read from the configuration and the files, and asks no upstream. Rights of clients are
//! not looked at.

use std::io;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::detail::{ContentDetail, ImageDetail, show_image};
use super::name::ImageName;
use super::timestamp::Timestamp;
use crate::clock::unix_seconds;
use crate::registry::RegistryOptions;
use crate::store::StoreView;

/// The forecast of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullForecast {
    /// The image.
    pub name: String,
    /// The way in which its manifest would be come by.
    pub outcome: ForecastOutcome,
    /// Why, and what follows, for people.
    pub reasons: Vec<String>,
    /// The URLs that would be asked for contents, in this order.
    pub upstreams: Vec<String>,
    /// The digest that the name has in the cache.
    pub digest: Option<String>,
    /// When the upstream last said that the tag has it.
    pub checked_at: Option<Timestamp>,
    /// When the tag ceases to be fresh.
    pub fresh_until: Option<Timestamp>,
    /// Until when it is served if the upstream does not answer; `null` without an end.
    pub stale_until: Option<Timestamp>,
    /// Known contents of the image, of platforms that were pulled, that would have to be fetched.
    pub missing: Vec<ContentDetail>,
}

/// The way in which a manifest is come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForecastOutcome {
    /// From the cache, without a question.
    Hit,
    /// From the upstream.
    Miss,
    /// Not at all.
    Refused,
    /// From the cache, once the upstream has confirmed the tag, or does not answer.
    Revalidate,
    /// From the cache, although the tag has expired.
    Stale,
}

impl ForecastOutcome {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Refused => "refused",
            Self::Revalidate => "revalidate",
            Self::Stale => "stale",
        }
    }
}

impl PullForecast {
    /// The forecast for an image of these registries; without a cache, nothing is held. Blocks.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn of(
        name: &ImageName,
        registries: &[RegistryOptions],
        view: Option<&StoreView>,
        now: SystemTime,
    ) -> io::Result<Self> {
        let mut forecast = Self::refused(name);
        let Some(registry) = registries.iter().find(|it| it.name == name.registry) else {
            let reason = format!("the registry {} is not configured: 404", name.registry);
            forecast.reasons.push(reason);
            return Ok(forecast);
        };
        if !registry.serves(&name.repository) {
            let reason = "`allow` and `deny` of the registry leave the repository out";
            forecast.reasons.push(reason.to_owned());
            return Ok(forecast);
        }
        let upstreams = registry.mirrors.iter().chain([&registry.upstream]);
        let upstreams = upstreams.map(|it| it.url.as_str().trim_end_matches('/').to_owned());
        forecast.upstreams = upstreams.filter(|_| !registry.rules.offline).collect();
        let detail = view.map(|view| show_image(view, name)).transpose()?.flatten();
        match detail {
            None => forecast.expect_nothing_held(registry),
            Some(detail) => forecast.expect_held(name, registry, &detail, now),
        }
        Ok(forecast)
    }

    fn refused(name: &ImageName) -> Self {
        Self {
            name: name.to_string(),
            outcome: ForecastOutcome::Refused,
            reasons: Vec::new(),
            upstreams: Vec::new(),
            digest: None,
            checked_at: None,
            fresh_until: None,
            stale_until: None,
            missing: Vec::new(),
        }
    }

    fn expect_nothing_held(&mut self, registry: &RegistryOptions) {
        let reason = if registry.rules.offline {
            "the image is not in the cache, and the registry is `offline`"
        } else {
            self.outcome = ForecastOutcome::Miss;
            "the image is not in the cache: manifests and layers are fetched"
        };
        self.reasons.push(reason.to_owned());
    }

    fn expect_held(
        &mut self,
        name: &ImageName,
        registry: &RegistryOptions,
        detail: &ImageDetail,
        now: SystemTime,
    ) {
        self.digest = Some(detail.row.digest.clone());
        self.checked_at = detail.row.checked_at;
        self.outcome = match (name.tag(), detail.row.checked_at) {
            (Some(tag), Some(checked_at)) => {
                let policy = registry.tag_policy(tag);
                let age = checked_at.age(now);
                self.fresh_until = Some(after(now, age, policy.ttl));
                let stale_for = policy.ttl.saturating_add(policy.max_stale);
                self.stale_until = (!registry.rules.offline).then(|| after(now, age, stale_for));
                self.reasons.push(format!("the tag is fresh for {} s", policy.ttl.as_secs()));
                outcome_of_tag(age < policy.ttl, age < stale_for, registry.rules.offline)
            }
            _ => ForecastOutcome::Hit,
        };
        if self.outcome == ForecastOutcome::Revalidate {
            self.reasons.push("it has expired: the upstream is asked whether it moved".to_owned());
        }
        let pulled = detail.manifests.iter().filter(|manifest| manifest.is_pulled);
        let contents =
            pulled.flat_map(|manifest| [&manifest.content].into_iter().chain(&manifest.parts));
        let missing = contents.filter(|content| !content.is_stored && content.kind != "foreign");
        self.missing = missing.cloned().collect();
        if let Some(first) = self.missing.first() {
            let count = self.missing.len();
            let first = &first.digest;
            self.reasons.push(format!("missing contents are fetched: {count}, the first {first}"));
        }
    }
}

fn outcome_of_tag(is_fresh: bool, is_stale_served: bool, is_offline: bool) -> ForecastOutcome {
    match (is_fresh, is_offline, is_stale_served) {
        (true, ..) => ForecastOutcome::Hit,
        (false, true, _) => ForecastOutcome::Stale,
        (false, false, true) => ForecastOutcome::Revalidate,
        (false, false, false) => ForecastOutcome::Miss,
    }
}

/// The moment that lies `span` after one that was `age` ago.
fn after(now: SystemTime, age: Duration, span: Duration) -> Timestamp {
    let seconds = unix_seconds(now).saturating_sub(age.as_secs()).saturating_add(span.as_secs());
    Timestamp::of_seconds(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_served_as_the_cache_serves_it() {
        for (is_fresh, is_stale_served, is_offline, want) in [
            (true, true, false, ForecastOutcome::Hit),
            (true, true, true, ForecastOutcome::Hit),
            (false, true, false, ForecastOutcome::Revalidate),
            (false, true, true, ForecastOutcome::Stale),
            (false, false, true, ForecastOutcome::Stale),
            (false, false, false, ForecastOutcome::Miss),
        ] {
            assert_eq!(outcome_of_tag(is_fresh, is_stale_served, is_offline), want);
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = after(now, Duration::from_secs(40), Duration::from_secs(60));
        assert_eq!(at.to_string(), "1970-01-01T00:02:00Z");
        assert!(after(now, Duration::ZERO, Duration::MAX) > at);
    }
}
