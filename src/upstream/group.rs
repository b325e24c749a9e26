//! The upstreams of one registry, in the order of the configuration.
//!
//! The last is authoritative: only its answer is the registry's. The ones before it are mirrors.
//! Content with a digest is asked of them in order, and any fault of one (it does not have it, it
//! wants a login, it is down) leads to the next. Tags and lists, which may change, are asked of the
//! authoritative one, and of the mirrors only when that is down.
//!
//! Each has its own login, limits and connections: nothing of one is ever shown to another.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use super::ask::Upstream;
use super::error::{SetupError, UpstreamError};
use super::examination::{UpstreamExamination, hub_question};
use super::identity::ClientCredential;
use super::lateness::RecentLateness;
use super::limit::RateAllowance;
use super::meter::UpstreamMeter;
use super::options::UpstreamOptions;
use super::question::{Answer, Question, UpstreamIndex};
use super::scope::TokenScope;
use super::trouble::UpstreamTrouble;
use crate::http::EgressRoute;
use crate::oci::Resource;

/// All upstreams of a registry.
pub struct UpstreamGroup {
    mirrors: Vec<Upstream>,
    authoritative: Upstream,
    meter: Arc<UpstreamMeter>,
    lateness: RecentLateness,
}

impl UpstreamGroup {
    /// The upstreams that these options describe. Nothing is sent yet; what will be is counted in
    /// `meter`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when one of them cannot be reached with its options.
    pub fn new(
        mirrors: &[UpstreamOptions],
        authoritative: &UpstreamOptions,
        egress: &EgressRoute,
        meter: Arc<UpstreamMeter>,
    ) -> Result<Self, SetupError> {
        let mirrors = mirrors.iter().map(|options| Upstream::new(options, egress, &meter));
        let mirrors = mirrors.collect::<Result<_, _>>()?;
        let authoritative = Upstream::new(authoritative, egress, &meter)?;
        Ok(Self { mirrors, authoritative, meter, lateness: RecentLateness::default() })
    }

    /// The counts of requests to them.
    pub fn meter(&self) -> &Arc<UpstreamMeter> {
        &self.meter
    }

    /// The troubles of all of them.
    pub fn troubles(&self) -> Vec<UpstreamTrouble> {
        self.all().flat_map(Upstream::troubles).collect()
    }

    /// How many of their limits are respected now.
    pub fn limits_held(&self) -> usize {
        self.all().map(Upstream::limits_held).sum()
    }

    /// Whether each of them is down or limits us.
    pub fn gives_nothing(&self) -> bool {
        self.all().all(|upstream| {
            let is_cut = |trouble: &UpstreamTrouble| trouble.kind.ends_fetches();
            upstream.is_limited() || upstream.troubles().iter().any(is_cut)
        })
    }

    /// When the first of the credentials ends that sources have issued for them.
    pub fn credential_end(&self) -> Option<SystemTime> {
        self.all().filter_map(Upstream::credential_end).min()
    }

    fn all(&self) -> impl Iterator<Item = &Upstream> {
        self.mirrors.iter().chain([&self.authoritative])
    }

    /// The registry's name in messages: the authoritative upstream's host.
    pub fn host(&self) -> &str {
        self.authoritative.host()
    }

    /// The name of one of them in messages.
    pub fn host_of(&self, place: UpstreamIndex) -> &str {
        self.at(place).host()
    }

    /// Whether none of them is asked for a while, because none answered.
    pub fn is_open(&self) -> bool {
        self.authoritative.is_open() && self.mirrors.iter().all(Upstream::is_open)
    }

    /// Whether the registry answers at all before `deadline`: to a question that is no client's.
    pub async fn answers(&self, deadline: Instant) -> bool {
        self.authoritative.answers(deadline).await
    }

    /// All but the authoritative one.
    pub fn mirrors(&self) -> Vec<UpstreamIndex> {
        (0..self.mirrors.len()).map(UpstreamIndex::Mirror).collect()
    }

    /// The one whose answers are the registry's, and the only one that is ever changed.
    pub fn authoritative(&self) -> &Upstream {
        &self.authoritative
    }

    /// How much of `wait` a client with something stale at hand should wait for an answer: nothing
    /// while no upstream is called, and after the registry was too late, until it answers again.
    pub fn worth_waiting(&self, wait: Duration) -> Duration {
        let is_in_vain = self.is_open() || self.lateness.exceeds(wait);
        if is_in_vain { Duration::ZERO } else { wait }
    }

    /// The age up to which the cached record of a tag is not checked, so that what is left of a
    /// rate limit is left to misses.
    pub fn check_after(&self) -> Duration {
        self.authoritative.check_after()
    }

    /// A client gave up its wait for an answer after so long.
    pub fn note_too_late(&self, waited: Duration) {
        if !waited.is_zero() {
            self.lateness.failed_after(waited);
        }
    }

    /// Asks one after the other. All before the head of the final answer ends by `deadline`.
    ///
    /// # Errors
    ///
    /// The authoritative upstream's.
    pub async fn ask(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let began = Instant::now();
        let answer = self.ask_in_order(question, deadline).await;
        // Content by digest is what storage and mirrors give; no client waits for it with another
        // at hand.
        if question.is_mutable() {
            match &answer {
                Err(error) if !error.is_an_answer() => self.lateness.failed_after(began.elapsed()),
                _ => self.lateness.answered(),
            }
        }
        answer
    }

    async fn ask_in_order(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let order = self.order(question);
        let mut verdict = None;
        for (position, place) in order.iter().enumerate() {
            let until = share(deadline, order.len() - position);
            let asked = match place {
                UpstreamIndex::Authoritative => self.authoritative.ask(question, until).await,
                // The next upstream is better than a retry.
                UpstreamIndex::Mirror(_) => self.at(*place).ask_once(question, until).await,
            };
            match asked {
                Ok(answer) => return Ok(Answer { place: *place, ..answer }),
                Err(error) if *place == UpstreamIndex::Authoritative => {
                    if !error.is_an_outage() {
                        return Err(error);
                    }
                    verdict = Some(error);
                }
                Err(error) => tracing::debug!(%error, "a mirror failed; asking the next upstream"),
            }
        }
        let host = self.host().to_owned();
        Err(verdict
            .unwrap_or(UpstreamError::Unreachable { host, reason: "it was not asked".to_owned() }))
    }

    /// Whether the credential of the client at `asker` is one that the registry knows. It is no
    /// right to anything.
    pub async fn check(
        &self,
        client: &ClientCredential,
        asker: IpAddr,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let scope = TokenScope::entry().of(Some(client.clone())).asked_by(Some(asker));
        self.authoritative.check(&self.authoritative.login, scope, deadline).await
    }

    /// Whether each of them answers and takes Larder's credential, one after the other.
    pub async fn examine(&self, deadline: Instant) -> Vec<UpstreamExamination> {
        let mut examined = Vec::new();
        for upstream in self.all() {
            examined.extend(Box::pin(upstream.examine(deadline)).await);
        }
        examined
    }

    /// The allowances that were stated last, each with the number of its login: those of the
    /// registry itself from 1 on, as they are configured, then those of its mirrors.
    pub fn allowances(&self) -> impl Iterator<Item = (usize, RateAllowance)> {
        let upstreams = std::iter::once(&self.authoritative).chain(&self.mirrors);
        let logins = (1..).zip(upstreams.flat_map(Upstream::logins));
        logins.filter_map(|(number, login)| Some((number, login.transport.allowance()?)))
    }

    /// The allowances of all logins together.
    pub fn allowance(&self) -> Option<RateAllowance> {
        self.allowances().map(|(_, allowance)| allowance).reduce(RateAllowance::and)
    }

    /// The pulls that Docker Hub says are left to each login, which costs none to ask.
    pub async fn hub_allowances(&self, deadline: Instant) -> Vec<Option<RateAllowance>> {
        let Some(question) = hub_question() else { return Vec::new() };
        let mut stated = Vec::new();
        for login in self.authoritative.logins() {
            // Refusals state the limits, too.
            let attempt = Box::pin(self.authoritative.attempt_by(login, &question));
            timeout_at(deadline, attempt).await.ok();
            stated.push(login.transport.allowance());
        }
        stated
    }

    fn at(&self, place: UpstreamIndex) -> &Upstream {
        match place {
            UpstreamIndex::Authoritative => &self.authoritative,
            UpstreamIndex::Mirror(number) => {
                self.mirrors.get(number).unwrap_or(&self.authoritative)
            }
        }
    }

    /// In which order to ask: what has failed before comes last.
    fn order(&self, question: &Question) -> Vec<UpstreamIndex> {
        let mut order = self.mirrors();
        match &question.resource {
            Resource::Upload(_) => order = vec![UpstreamIndex::Authoritative],
            _ if question.is_mutable() => order.insert(0, UpstreamIndex::Authoritative),
            _ => order.push(UpstreamIndex::Authoritative),
        }
        order.sort_by_key(|place| question.failed.contains(place));
        order
    }
}

/// The deadline of one of `count` that are still to be asked, so that a silent one leaves time for
/// those behind it.
fn share(deadline: Instant, count: usize) -> Instant {
    let now = Instant::now();
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    now + deadline.saturating_duration_since(now) / count
}

impl fmt::Debug for UpstreamGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().map(Upstream::host)).finish()
    }
}
