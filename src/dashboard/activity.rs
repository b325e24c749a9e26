//! The latest requests, clients, misses, and the traffic of each minute of a day.
//!
//! It is made of events, which may be lost, and of counters, which are not. All of it is bounded,
//! and forgotten when the process ends. Which of it may be shown is decided in `collect.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cache::Decision;
use crate::control::RegistryTraffic;
use crate::routes::{
    EventClass, EventClient, EventRead, RequestEvent, RequestKind, TrafficCounters, each_event,
};

/// The latest requests, clients and misses. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    seen: Arc<Mutex<SeenActivity>>,
}

#[derive(Debug, Default)]
struct SeenActivity {
    recent: VecDeque<(SystemTime, Arc<RequestEvent>)>,
    clients: HashMap<EventClient, SeenClient>,
    missed: HashMap<RepositoryKey, u64>,
    minutes: VecDeque<RegistryTraffic>,
}

/// A registry, and the name of a repository there.
pub(super) type RepositoryKey = (Box<str>, Box<str>);

/// A client that was seen.
#[derive(Clone, Debug)]
pub(super) struct SeenClient {
    pub(super) agent: Option<Box<str>>,
    pub(super) requests: u64,
    pub(super) last: SystemTime,
}

/// Notes what happens until `stop` is cancelled, with the time of day `now`.
pub async fn record_activity(
    activity: Activity,
    traffic: Arc<TrafficCounters>,
    now: impl Fn() -> SystemTime,
    stop: CancellationToken,
) {
    let events = traffic.events().subscribe(EventClass::Notable);
    let noted = activity.clone();
    let take = move |read| {
        if let Some(EventRead::Event(event)) = read {
            noted.seen.lock().note(event, now());
        }
    };
    let reading = each_event(events, PAUSE, stop.clone(), take);
    let counting = stop.run_until_cancelled(async {
        loop {
            activity.count(&traffic);
            tokio::time::sleep(MINUTE).await;
        }
    });
    tokio::join!(reading, counting);
}

impl Activity {
    /// Notes how much traffic there was by now.
    fn count(&self, traffic: &TrafficCounters) {
        let minutes = &mut self.seen.lock().minutes;
        if minutes.len() > MINUTES {
            minutes.pop_front();
        }
        minutes.push_back(RegistryTraffic::of_all(traffic));
    }

    /// The last requests, the latest first.
    pub(super) fn recent(&self) -> Vec<(SystemTime, Arc<RequestEvent>)> {
        self.seen.lock().recent.iter().rev().cloned().collect()
    }

    /// The clients that were seen last, the latest first.
    pub(super) fn clients(&self) -> Vec<(EventClient, SeenClient)> {
        let seen = self.seen.lock();
        let mut clients: Vec<_> =
            seen.clients.iter().map(|(client, seen)| (client.clone(), seen.clone())).collect();
        drop(seen);
        clients.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.last));
        clients
    }

    /// The repositories that were not in the cache, the most often missed first.
    pub(super) fn missed(&self) -> Vec<(RepositoryKey, u64)> {
        let seen = self.seen.lock();
        let mut missed: Vec<_> =
            seen.missed.iter().map(|(name, count)| (name.clone(), *count)).collect();
        drop(seen);
        missed.sort_by(|(name, count), (other, others)| others.cmp(count).then(name.cmp(other)));
        missed
    }

    /// The traffic of the last 24 hours, and of each half hour of them, the oldest first, up to
    /// `now`.
    pub(super) fn day(&self, now: RegistryTraffic) -> (RegistryTraffic, Vec<RegistryTraffic>) {
        let seen = self.seen.lock();
        let minutes: Vec<_> = seen.minutes.iter().copied().chain([now]).collect();
        drop(seen);
        let before = if minutes.len() > MINUTES { minutes[0] } else { RegistryTraffic::default() };
        let mut bars = Vec::with_capacity(MINUTES / BAR_MINUTES);
        let mut end = now;
        for bar in 1..=MINUTES / BAR_MINUTES {
            let begin = minutes.len().checked_sub(1 + bar * BAR_MINUTES);
            let begin = begin.map_or(before, |at| minutes[at]);
            bars.push(end.since(begin));
            end = begin;
        }
        bars.reverse();
        (now.since(before), bars)
    }
}

impl SeenActivity {
    fn note(&mut self, event: Arc<RequestEvent>, now: SystemTime) {
        if event.summary.route == RequestKind::Ping || event.details.registry.is_none() {
            return;
        }
        self.note_client(&event, now);
        self.note_miss(&event);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, event));
    }

    fn note_client(&mut self, event: &RequestEvent, now: SystemTime) {
        let details = &event.details;
        if let Some(seen) = self.clients.get_mut(&details.client) {
            seen.requests += 1;
            seen.last = now;
            return;
        }
        if self.clients.len() >= CLIENTS_MAX {
            let oldest = self.clients.iter().min_by_key(|(_, seen)| seen.last);
            if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
                self.clients.remove(&oldest);
            }
        }
        let seen = SeenClient { agent: details.agent.clone(), requests: 1, last: now };
        self.clients.insert(details.client.clone(), seen);
    }

    fn note_miss(&mut self, event: &RequestEvent) {
        let is_miss = matches!(event.summary.decision, Some(Decision::Miss { .. }));
        let details = &event.details;
        let (Some(registry), Some(repository)) = (&details.registry, &details.repository) else {
            return;
        };
        if !is_miss || !event.summary.status.is_success() {
            return;
        }
        let key = (registry.clone(), repository.as_str().into());
        if !self.missed.contains_key(&key) && self.missed.len() >= MISSED_MAX {
            let least = self.missed.iter().min_by_key(|(_, count)| **count);
            if let Some(least) = least.map(|(key, _)| key.clone()) {
                self.missed.remove(&least);
            }
        }
        *self.missed.entry(key).or_default() += 1;
    }
}

/// Requests that are remembered.
const RECENT_MAX: usize = 100;

/// Clients that are remembered; the one that was seen first of them goes.
const CLIENTS_MAX: usize = 256;

/// Repositories whose misses are counted; the one with the fewest goes.
const MISSED_MAX: usize = 512;

/// Minutes whose traffic is remembered.
const MINUTES: usize = 24 * 60;

/// Minutes of one bar.
const BAR_MINUTES: usize = 30;

const MINUTE: Duration = Duration::from_secs(60);

/// The pause between two looks for events.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::cache::MissReason;
    use crate::routes::{AnswerEnd, RequestDetails, RequestSummary};

    /// A miss of client `number` in a repository of its own.
    fn miss(number: u16) -> Arc<RequestEvent> {
        let [high, low] = number.to_be_bytes();
        let reason = MissReason::Absent;
        let summary = RequestSummary {
            route: RequestKind::Manifest,
            status: StatusCode::OK,
            decision: Some(Decision::Miss { collapsed: false, unverified: false, reason }),
            sent: 0,
            took: Duration::ZERO,
            first_byte: None,
            end: AnswerEnd::Whole,
        };
        let details = RequestDetails {
            method: Method::GET,
            path: "/".into(),
            registry: Some("docker.io".into()),
            repository: Some(format!("team/app{number}").parse().unwrap()),
            manifest: None,
            client: EventClient { address: [10, 0, high, low].into(), user: None },
            agent: None,
            is_pull: true,
            received: None,
            request_id: None,
            fault: None,
        };
        Arc::new(RequestEvent { summary, details })
    }

    /// Clients make up addresses and names as they like.
    #[test]
    fn no_number_of_clients_and_repositories_makes_it_larger() {
        let activity = Activity::default();
        for number in 0..2000 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(number.into());
            activity.seen.lock().note(miss(number), now);
        }
        assert_eq!(activity.recent().len(), RECENT_MAX);
        assert_eq!(activity.missed().len(), MISSED_MAX);
        let clients = activity.clients();
        assert_eq!(clients.len(), CLIENTS_MAX);
        assert_eq!(clients[0].0.address.to_string(), "10.0.7.207", "the latest is kept");
    }

    #[test]
    fn a_day_ends_after_24_hours_and_its_half_hours_are_all_of_it() {
        let at = |minute: usize| RegistryTraffic {
            requests: u64::try_from(minute).unwrap() * 10,
            ..RegistryTraffic::default()
        };
        for (minutes, want) in [(0, 0), (1, 10), (100, 1000), (1440, 14_400), (5000, 14_400)] {
            let activity = Activity::default();
            let first = usize::saturating_sub(minutes, MINUTES);
            activity.seen.lock().minutes = (first..minutes).map(at).collect();
            let (day, half_hours) = activity.day(at(minutes));
            assert_eq!(day.requests, want, "{minutes}");
            assert_eq!(half_hours.len(), 48);
            assert_eq!(half_hours.iter().map(|it| it.requests).sum::<u64>(), want, "{minutes}");
        }
    }
}
