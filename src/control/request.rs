//! The requests: how each is written as a method and a target, and read again.

use std::borrow::Cow;
use std::collections::HashMap;

use http::Method;

use super::verification::ContentShare;
use super::warm::WarmWishes;

/// A request of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// An image with all that it lists: [`ImageDetail`](crate::inventory::ImageDetail).
    Image {
        /// Its full name, as a list has it.
        name: String,
    },
    /// The images that a pattern matches: an [`ImageRow`](crate::inventory::ImageRow) for each
    /// line.
    Images {
        /// The pattern; the empty one matches every image.
        pattern: String,
    },
    /// The import of the archive in the body: an
    /// [`ImportUpdate`](crate::bundle::ImportUpdate) on each line, while it goes on.
    Import {
        /// The name of its image, or of the repository of all of its images.
        name: Option<String>,
        /// The registry of a tree of repositories.
        registry: Option<String>,
    },
    /// The figures of the page for operators, as `/stats.json`.
    Page,
    /// A pin of an image, or its end: [`PinReport`](crate::inventory::PinReport).
    Pin {
        /// The full name of the image.
        name: String,
        /// Whether it is to be pinned.
        is_wanted: bool,
    },
    /// The log of pulls, the oldest first: a [`PullRecord`](crate::inventory::PullRecord) on each
    /// line.
    Pulls,
    /// The removal of an image or a content: [`RemovalReport`](crate::inventory::RemovalReport).
    Removal {
        /// The full name of the image, or the digest.
        name: String,
        /// Whether nothing is to be removed.
        is_dry_run: bool,
    },
    /// The figures of the cache and its server: [`CacheStats`](super::CacheStats).
    Stats,
    /// The verification of contents: a [`VerificationReport`](super::VerificationReport) on each
    /// line, while it goes on.
    Verification {
        /// The share of all contents.
        share: ContentShare,
    },
    /// The fetch of an image: a [`WarmUpdate`](super::WarmUpdate) on each line, while it goes on.
    Warm {
        /// The full name of the image.
        name: String,
        /// The parts of it that are wanted.
        wishes: WarmWishes,
    },
}

impl ControlRequest {
    /// Its method.
    pub fn method(&self) -> Method {
        match self {
            Self::Image { .. } | Self::Images { .. } | Self::Page | Self::Pulls | Self::Stats => {
                Method::GET
            }
            Self::Pin { is_wanted: true, .. } => Method::PUT,
            Self::Pin { is_wanted: false, .. } | Self::Removal { .. } => Method::DELETE,
            Self::Import { .. } | Self::Verification { .. } | Self::Warm { .. } => Method::POST,
        }
    }

    /// Its path and query.
    pub fn target(&self) -> String {
        match self {
            Self::Image { name } => with_query(IMAGE, &[("name", name)]),
            Self::Images { pattern } => with_query(IMAGES, &[("pattern", pattern)]),
            Self::Import { name, registry } => {
                let fields = [("name", name), ("registry", registry)];
                let given = fields.iter().filter_map(|(key, text)| Some((*key, text.as_deref()?)));
                with_query(IMPORT, &given.collect::<Vec<_>>())
            }
            Self::Page => PAGE.to_owned(),
            Self::Pin { name, .. } => with_query(PIN, &[("name", name)]),
            Self::Pulls => PULLS.to_owned(),
            Self::Removal { name, is_dry_run } => {
                let is_dry_run = if *is_dry_run { "true" } else { "false" };
                with_query(IMAGE, &[("name", name), ("dry_run", is_dry_run)])
            }
            Self::Stats => STATS.to_owned(),
            Self::Verification { share } => {
                with_query(VERIFICATION, &[("share", &share.to_string())])
            }
            Self::Warm { name, wishes } => {
                let platforms = wishes.platforms.join(",");
                let referrers = if wishes.with_referrers { "true" } else { "false" };
                let fields =
                    [("name", &**name), ("platforms", &platforms), ("referrers", referrers)];
                with_query(WARM, &fields)
            }
        }
    }

    /// The request of this method, path and query; `None` if there is no such, or it has fields
    /// that are not known.
    pub fn read(method: &Method, target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut query = form_urlencoded::parse(query.as_bytes()).collect();
        let request = Self::of(method, path, &mut query);
        // A newer command may mean less by them than would be done without.
        request.filter(|_| query.is_empty())
    }

    /// The request of this method and path. The fields that it has are taken from the query.
    fn of(method: &Method, path: &str, query: &mut TargetQuery<'_>) -> Option<Self> {
        let mut text = |name: &str| query.remove(name).map(Cow::into_owned);
        match (method, path) {
            (&Method::GET, IMAGE) => Some(Self::Image { name: text("name")? }),
            (&Method::GET, IMAGES) => {
                Some(Self::Images { pattern: text("pattern").unwrap_or_default() })
            }
            (&Method::POST, IMPORT) => {
                Some(Self::Import { name: text("name"), registry: text("registry") })
            }
            (&Method::PUT | &Method::DELETE, PIN) => {
                Some(Self::Pin { name: text("name")?, is_wanted: method == Method::PUT })
            }
            (&Method::DELETE, IMAGE) => {
                // A word that is not known must not remove anything.
                let is_dry_run = text("dry_run").is_some_and(|text| text != "false");
                Some(Self::Removal { name: text("name")?, is_dry_run })
            }
            (&Method::GET, PAGE) => Some(Self::Page),
            (&Method::GET, PULLS) => Some(Self::Pulls),
            (&Method::GET, STATS) => Some(Self::Stats),
            (&Method::POST, VERIFICATION) => {
                let share = text("share").map_or(Ok(ContentShare::ALL), |text| text.parse());
                Some(Self::Verification { share: share.ok()? })
            }
            (&Method::POST, WARM) => {
                let platforms = text("platforms").unwrap_or_default();
                let platforms = platforms.split(',').filter(|platform| !platform.is_empty());
                let platforms = platforms.map(str::to_owned).collect();
                let with_referrers = text("referrers").is_some_and(|text| text == "true");
                let wishes = WarmWishes { platforms, with_referrers };
                Some(Self::Warm { name: text("name")?, wishes })
            }
            _ => None,
        }
    }
}

/// The fields of a query.
type TargetQuery<'q> = HashMap<Cow<'q, str>, Cow<'q, str>>;

fn with_query(path: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    format!("{path}?{}", query.finish())
}

const IMAGE: &str = "/v1/image";
const IMAGES: &str = "/v1/images";
const IMPORT: &str = "/v1/import";
const PAGE: &str = "/v1/page";
const PIN: &str = "/v1/pin";
const PULLS: &str = "/v1/pulls";
const STATS: &str = "/v1/stats";
const WARM: &str = "/v1/warm";
const VERIFICATION: &str = "/v1/verification";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let pattern = "docker.io/**/a&b=c d:{1,2}*?%ä".to_owned();
        for request in [
            ControlRequest::Stats,
            ControlRequest::Page,
            ControlRequest::Pulls,
            ControlRequest::Image { name: pattern.clone() },
            ControlRequest::Import { name: Some(pattern.clone()), registry: None },
            ControlRequest::Import { name: None, registry: Some("a.test".to_owned()) },
            ControlRequest::Import { name: None, registry: None },
            ControlRequest::Pin { name: pattern.clone(), is_wanted: true },
            ControlRequest::Pin { name: pattern.clone(), is_wanted: false },
            ControlRequest::Removal { name: pattern.clone(), is_dry_run: true },
            ControlRequest::Removal { name: "a.test/b:c".to_owned(), is_dry_run: false },
            ControlRequest::Verification { share: "2.5%".parse().unwrap() },
            ControlRequest::Warm {
                name: "a.test/b:c".to_owned(),
                wishes: WarmWishes {
                    platforms: vec!["linux/arm64/v8".to_owned(), "linux/amd64".to_owned()],
                    with_referrers: true,
                },
            },
            ControlRequest::Warm {
                name: "a.test/b:c".to_owned(),
                wishes: WarmWishes { platforms: Vec::new(), with_referrers: false },
            },
            ControlRequest::Images { pattern },
            ControlRequest::Images { pattern: String::new() },
        ] {
            let target = request.target();
            assert!(target.parse::<http::Uri>().is_ok(), "{target}");
            let read = ControlRequest::read(&request.method(), &target);
            assert_eq!(read, Some(request));
        }
        assert_eq!(ControlRequest::read(&Method::POST, "/v1/stats"), None);
        assert_eq!(ControlRequest::read(&Method::GET, "/v2/"), None);
    }
}
