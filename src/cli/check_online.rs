//! `larder check --online`: whether each upstream answers, and what it says to Larder's credential.
//!
//! Asked is `/v2/`, and of Docker Hub how many pulls are left, which costs none. A pattern has no
//! host of its own: the registries are asked that it matches and that `[[warm]]` or the operator
//! names. In a repository that the operator names, a manifest is asked for, and, where the registry
//! takes pushes, an upload is begun and cancelled. Nothing is stored. No secret is shown.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::exit::ExitStatus;
use super::output::say;
use crate::clock::{SystemClock, WallClock as _};
use crate::config::Settings;
use crate::http::{EgressRoute, InstanceId, ProxyTable, SystemNetwork};
use crate::inventory::ImageName;
use crate::oci::RegistryName;
use crate::registry::{Registry, RegistrySet};
use crate::upstream::{
    LoginOutcome, PullRight, RateAllowance, RightsExamination, UpstreamError, UpstreamExamination,
};

/// How long one upstream may take: as long as for a client's request.
const EXAMINATION_WAIT: Duration = Duration::from_secs(25);

/// The registries and repositories that the operator names, as they are written.
#[derive(Debug)]
pub(super) struct OnlineSubjects {
    pub(super) hosts: Vec<String>,
    pub(super) repositories: Vec<String>,
}

/// The same, read.
struct AskedNames {
    registries: Vec<RegistryName>,
    images: Vec<ImageName>,
}

impl AskedNames {
    fn read(subjects: &OnlineSubjects, settings: &Settings) -> Result<Self, String> {
        let images = subjects.repositories.iter().map(|text| {
            ImageName::resolve(text, &settings.registries)
                .map_err(|_| format!("`{text}` is not a repository: registry/repository[:tag]"))
        });
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let hosts = subjects.hosts.iter().map(|text| {
            text.parse::<RegistryName>().map_err(|_| format!("`{text}` is not a host"))
        });
        let mut registries = hosts.collect::<Result<Vec<_>, _>>()?;
        registries.extend(images.iter().map(|image| image.registry.clone()));
        let warmed = settings.warm.iter().flat_map(|warm| &warm.images);
        registries.extend(warmed.map(|selected| selected.name.registry.clone()));
        Ok(Self { registries, images })
    }
}

/// Asks every upstream, all at once, and reports in the order of the configuration. Fails if any
/// does not answer or does not take the credential, or if a right is missing in a repository.
pub(super) fn run(
    settings: &Settings,
    subjects: &OnlineSubjects,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    let names = match AskedNames::read(subjects, settings) {
        Ok(names) => names,
        Err(reason) => {
            say(err, &format!("{reason}\n"));
            return ExitStatus::Misused;
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(err, &format!("cannot ask upstreams: {error}\n"));
            return ExitStatus::Failed;
        }
    };
    let lines = match runtime.block_on(examine_all(settings, &names)) {
        Ok(lines) => lines,
        Err(reason) => {
            say(err, &format!("cannot ask upstreams: {reason}\n"));
            return ExitStatus::Failed;
        }
    };
    say(out, "\n[online]\n");
    let mut exit = ExitStatus::Done;
    for ReportLine { text, is_good } in lines {
        say(out, &format!("{text}\n"));
        if !is_good {
            exit = ExitStatus::Failed;
        }
    }
    exit
}

struct ReportLine {
    text: String,
    is_good: bool,
}

async fn examine_all(settings: &Settings, names: &AskedNames) -> Result<Vec<ReportLine>, String> {
    let egress = EgressRoute {
        network: Arc::new(SystemNetwork),
        instance: InstanceId::random(),
        proxies: ProxyTable::new(&settings.proxies),
        clock: Arc::new(SystemClock),
    };
    let built = RegistrySet::build(&settings.registries, &egress, None);
    let registries = built.map_err(|error| error.to_string())?;
    // The registries of patterns are known from now on.
    let unknown = |name: &&RegistryName| registries.by_name(name).is_none();
    let unknown: Vec<_> = names.registries.iter().filter(unknown).collect();
    let known = registries.registries();
    let asked = known.iter().map(|it| (it.name().to_string(), tokio::spawn(examine(it.clone()))));
    let rights = names.images.iter().filter_map(|image| {
        let registry = registries.by_name(&image.registry)?;
        Some((image.to_string(), tokio::spawn(rights(registry, image.clone()))))
    });
    let (asked, rights): (Vec<_>, Vec<_>) = (asked.collect(), rights.collect());
    let mut lines = collected(asked).await;
    for pattern in registries.patterns() {
        let matched = |it: &Arc<Registry>| {
            pattern.pattern.as_ref().is_some_and(|pattern| pattern.matches(it.name()))
        };
        let text = match known.iter().filter(|it| matched(it)).count() {
            0 => "not asked, since it names no host: give one by `--host`".to_owned(),
            count => format!("names no host; {count} that it matches: see above"),
        };
        lines.push(ReportLine { text: format!("{}: {text}", pattern.key()), is_good: true });
    }
    lines.extend(unknown.iter().map(|name| bad(format!("{name}: the configuration has no entry"))));
    lines.extend(collected(rights).await);
    Ok(lines)
}

/// The lines of tasks, in their order.
async fn collected(tasks: Vec<(String, JoinHandle<Vec<ReportLine>>)>) -> Vec<ReportLine> {
    let mut lines = Vec::new();
    for (name, task) in tasks {
        let lost = |_| vec![bad(format!("{name}: the task was lost"))];
        lines.extend(task.await.unwrap_or_else(lost));
    }
    lines
}

fn bad(text: String) -> ReportLine {
    ReportLine { text, is_good: false }
}

async fn examine(registry: Arc<Registry>) -> Vec<ReportLine> {
    let name = registry.name();
    if registry.is_offline() {
        let text = format!("{name}: not asked, since it is offline");
        return vec![ReportLine { text, is_good: true }];
    }
    let until = Instant::now() + EXAMINATION_WAIT;
    let examined = registry.upstream().examine(until).await;
    let mut lines: Vec<_> =
        examined.into_iter().map(|upstream| line(name.as_str(), &upstream)).collect();
    if name.as_str() == "docker.io" {
        let allowances = registry.upstream().hub_allowances(until).await;
        let is_one = allowances.len() == 1;
        for (number, allowance) in allowances.into_iter().enumerate() {
            let Some(allowance) = allowance else { continue };
            let login = if is_one { String::new() } else { format!("login {}: ", number + 1) };
            let text = format!("{name}: {login}{}", pulls(allowance));
            lines.push(ReportLine { text, is_good: true });
        }
    }
    lines
}

async fn rights(registry: Arc<Registry>, image: ImageName) -> Vec<ReportLine> {
    if registry.is_offline() {
        return Vec::new();
    }
    let asked = RightsExamination {
        upstream: registry.upstream().authoritative(),
        repository: &image.repository,
        deadline: Instant::now() + EXAMINATION_WAIT,
    };
    let mut push = if registry.takes_pushes() { Some(asked.push().await) } else { None };
    let pulls = asked.pull(&image.reference).await;
    // Pushes use the first login alone.
    pulls.iter().map(|pull| rights_line(&image, pull, push.take())).collect()
}

fn rights_line(
    image: &ImageName,
    pull: &PullRight,
    push: Option<Result<(), UpstreamError>>,
) -> ReportLine {
    let who = pull.user.as_ref().map(|user| format!("`{}`", user.escape_debug()));
    let mut text = format!("{image}: {}", who.unwrap_or_else(|| "an anonymous client".to_owned()));
    match &pull.outcome {
        Ok(()) => text.push_str(" may pull"),
        Err(error) => write!(text, " may NOT pull: {error}").unwrap_or_default(),
    }
    match &push {
        None => {}
        Some(Ok(())) => text.push_str(", may push"),
        Some(Err(error)) => write!(text, ", may NOT push: {error}").unwrap_or_default(),
    }
    text.push_str(&until(pull.ends));
    ReportLine { text, is_good: pull.outcome.is_ok() && push.is_none_or(|push| push.is_ok()) }
}

fn line(name: &str, upstream: &UpstreamExamination) -> ReportLine {
    let UpstreamExamination { host, outcome, owner, ends } = upstream;
    let mut text = format!("{name}: {host} ");
    match outcome {
        Err(error) => return bad(format!("{text}FAILED: {error}")),
        Ok(LoginOutcome::Anonymous) => text.push_str("answers, anonymously"),
        Ok(LoginOutcome::NotWanted) => text.push_str("answers without a login"),
        Ok(LoginOutcome::Taken(user)) => {
            write!(text, "takes the login of `{}`", user.escape_debug()).ok();
        }
    }
    if let Some(owner) = owner {
        write!(text, ", which is {}", owner.escape_debug()).ok();
    }
    text.push_str(&until(*ends));
    ReportLine { text, is_good: true }
}

/// When a credential ends, as far as it does.
fn until(ends: Option<SystemTime>) -> String {
    let Some(ends) = ends else { return String::new() };
    let left = ends.duration_since(SystemClock.now()).unwrap_or_default();
    let left = Duration::from_secs(left.as_secs() / 60 * 60);
    let at = humantime::format_rfc3339_seconds(ends);
    format!(", until {at} (for {})", humantime::format_duration(left))
}

fn pulls(allowance: RateAllowance) -> String {
    let number = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let window = allowance.window.map(humantime::format_duration);
    let window = window.map_or(String::new(), |window| format!(" in {window}"));
    format!("{} of {} pulls{window} are left", number(allowance.remaining), number(allowance.limit))
}
