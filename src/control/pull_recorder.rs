//! Writes the log of pulls from the events of requests.
//!
//! Clients ask for several manifests of an image: docker and containerd for its tag by `HEAD`, then
//! for an index and its child by their digests. Requests of one client in one repository within a
//! minute are one pull, unless they name another tag. A tag that is only asked for is none:
//! watchers of tags do that all day.
//!
//! Lines are written behind the answers, some at a time. A pull is lost from the log, and from
//! nothing else, when its event is, or the disk does not take its line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_util::sync::CancellationToken;

use crate::cache::Decision;
use crate::inventory::PullRecord;
use crate::oci::Reference;
use crate::routes::{EventClient, EventRead, EventReader, RequestEvent, each_event};
use crate::store::{Store, blocking};

/// Writes a line for each pull, with the time of day `now`, until the sender of events is gone or
/// `stop` is cancelled; then those that are due already.
pub async fn record_pulls(
    events: EventReader,
    store: Arc<Store>,
    now: impl Fn() -> SystemTime,
    stop: CancellationToken,
) {
    let (sender, lines) = channel(WAITING_MAX);
    let mut recent = RecentPulls::default();
    let take = move |read| {
        let Some(EventRead::Event(event)) = read else { return };
        let line = recent.note(&event, now()).and_then(|pull| line(&pull));
        if line.is_some_and(|line| sender.try_send(line).is_err()) {
            tracing::debug!("a pull is not logged: the disk is too slow");
        }
    };
    let read = each_event(events, PAUSE, stop, take);
    tokio::join!(read, write(lines, &store));
}

async fn write(mut lines: Receiver<String>, store: &Arc<Store>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, WAITING_MAX).await > 0 {
        let (text, store) = (batch.concat(), Arc::clone(store));
        batch.clear();
        if let Err(error) = blocking(move || store.append_pulls(&text)).await {
            tracing::debug!(%error, "cannot write the log of pulls");
        }
    }
}

fn line(pull: &PullRecord) -> Option<String> {
    let json = serde_json::to_string(pull).ok()?;
    (json.len() < LINE_BYTES_MAX).then(|| json + "\n")
}

/// The pulls of the last minute.
#[derive(Debug, Default)]
struct RecentPulls(VecDeque<RecentPull>);

/// A request for a manifest of a repository by a client.
#[derive(Debug)]
struct RecentPull {
    at: SystemTime,
    client: EventClient,
    /// `registry/repository`
    image: String,
    reference: Reference,
    is_logged: bool,
}

impl RecentPull {
    /// Whether a later request can be of the same pull.
    fn has(&self, later: &Self) -> bool {
        self.client == later.client
            && self.image == later.image
            && (matches!(later.reference, Reference::Digest(_))
                || self.reference == later.reference)
    }
}

impl RecentPulls {
    /// The pull that a request begins, if it is one.
    fn note(&mut self, event: &RequestEvent, now: SystemTime) -> Option<PullRecord> {
        let RequestEvent { summary, details } = event;
        let (registry, repository) = (details.registry.as_ref()?, details.repository.as_ref()?);
        let (client, reference) = (&details.client, details.manifest.as_ref()?);
        if !details.is_pull {
            return None;
        }
        let image = format!("{registry}/{repository}");
        let pull = RecentPull {
            at: now,
            client: client.clone(),
            image,
            reference: reference.clone(),
            is_logged: details.method != Method::HEAD,
        };
        let name = match self.begin(pull)? {
            Reference::Tag(tag) => format!("{registry}/{repository}:{tag}"),
            Reference::Digest(digest) => format!("{registry}/{repository}@{digest}"),
        };
        Some(PullRecord {
            at: now.into(),
            name,
            user: client.user.as_deref().map(str::to_owned),
            address: client.address.to_string(),
            decision: summary.decision.map(|it| Decision::names(it).word.to_owned()),
        })
    }

    /// Notes a request. If a pull begins with it, returns the reference of that: its own, or the
    /// one that was asked for before.
    fn begin(&mut self, pull: RecentPull) -> Option<Reference> {
        self.forget(pull.at);
        let Some(known) = self.0.iter_mut().rev().find(|known| known.has(&pull)) else {
            let begun = pull.is_logged.then(|| pull.reference.clone());
            self.0.push_back(pull);
            return begun;
        };
        let is_first = pull.is_logged && !known.is_logged;
        known.is_logged |= pull.is_logged;
        is_first.then(|| known.reference.clone())
    }

    /// Lets go of those that are older than a minute, and of the oldest if there are many.
    fn forget(&mut self, now: SystemTime) {
        let is_old = |it: &RecentPull| now.duration_since(it.at).unwrap_or_default() > ONE_PULL;
        while self.0.len() >= RECENT_MAX || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }
}

/// The time within which requests of a client in a repository are one pull.
const ONE_PULL: Duration = Duration::from_secs(60);

/// Pulls that later requests are compared with.
const RECENT_MAX: usize = 256;

/// Lines that wait for the disk.
const WAITING_MAX: usize = 1024;

/// A name of the longest registry, repository and tag, and a user, escaped.
const LINE_BYTES_MAX: usize = 2048;

/// The pause between two looks for events.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::routes::{AnswerEnd, RequestDetails, RequestKind, RequestSummary};

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    /// `[user@]METHOD repository reference [status]`
    fn event(request: &str) -> RequestEvent {
        let parts: Vec<&str> = request.split(' ').collect();
        let (user, method) = parts[0].split_once('@').unwrap_or(("", parts[0]));
        let client = EventClient {
            address: [127, 0, 0, 1].into(),
            user: Some(user).filter(|user| !user.is_empty()).map(Into::into),
        };
        let status = parts.get(3).map_or(StatusCode::OK, |status| status.parse().unwrap());
        let summary = RequestSummary {
            route: RequestKind::Manifest,
            status,
            decision: Some(Decision::Hit),
            sent: 0,
            took: Duration::ZERO,
            first_byte: None,
            end: AnswerEnd::Whole,
        };
        let reference = parts[2].replace("DIGEST", DIGEST);
        let details = RequestDetails {
            method: method.parse().unwrap(),
            path: "/".into(),
            registry: Some("docker.io".into()),
            repository: Some(parts[1].parse().unwrap()),
            manifest: Some(reference.parse().unwrap()),
            client,
            agent: None,
            is_pull: status.is_success() && user != "private",
            received: None,
            request_id: None,
            fault: None,
        };
        RequestEvent { summary, details }
    }

    fn pulls(requests: &[(u64, &str)]) -> Vec<String> {
        let mut recent = RecentPulls::default();
        let time = |seconds: &u64| SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
        let pulls = requests.iter().filter_map(|(at, it)| recent.note(&event(it), time(at)));
        let text = |pull: PullRecord| {
            let user = pull.user.map(|user| user + "@").unwrap_or_default();
            format!("{user}{}", pull.name.replace(DIGEST, "DIGEST"))
        };
        pulls.map(text).collect()
    }

    /// As docker, containerd, podman, crane and watchers of tags do it.
    #[test]
    fn the_requests_of_one_pull_are_one_line_and_a_look_at_a_tag_is_none() {
        for (requests, want) in [
            (&[(0, "GET a v1")][..], &["docker.io/a:v1"][..]),
            (&[(0, "HEAD a v1"), (1, "HEAD a v1")], &[]),
            (&[(0, "HEAD a v1"), (1, "GET a DIGEST"), (2, "GET a DIGEST")], &["docker.io/a:v1"]),
            (&[(0, "HEAD a v1"), (1, "GET a v1"), (2, "GET a DIGEST")], &["docker.io/a:v1"]),
            (&[(0, "GET a v1"), (1, "GET a v1")], &["docker.io/a:v1"]),
            (&[(0, "GET a v1"), (61, "GET a v1")], &["docker.io/a:v1", "docker.io/a:v1"]),
            (&[(0, "GET a v1"), (1, "GET a v2")], &["docker.io/a:v1", "docker.io/a:v2"]),
            (&[(0, "GET a v1"), (1, "GET b DIGEST")], &["docker.io/a:v1", "docker.io/b@DIGEST"]),
            (&[(0, "HEAD a DIGEST"), (1, "GET a DIGEST")], &["docker.io/a@DIGEST"]),
            (&[(0, "GET a v1"), (1, "ann@GET a v1")], &["docker.io/a:v1", "ann@docker.io/a:v1"]),
            (&[(0, "GET a v1 404"), (1, "GET a v1 401")], &[]),
            (&[(0, "private@GET a v1")], &[]),
        ] {
            assert_eq!(pulls(requests), want, "{requests:?}");
        }
    }

    #[test]
    fn no_number_of_clients_makes_the_recorder_larger() {
        let mut recent = RecentPulls::default();
        for number in 0..3 * RECENT_MAX {
            let request = format!("u{number}@GET a v1");
            assert!(recent.note(&event(&request), SystemTime::UNIX_EPOCH).is_some());
        }
        assert!(recent.0.len() <= RECENT_MAX);
    }
}
