//! `larder check --online`: whether each upstream answers, and what it says to Larder's credential.
//!
//! Asked is `/v2/`, and of Docker Hub how many pulls are left, which costs none. Nothing is stored.
//! No secret is shown.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;

use super::exit::ExitStatus;
use super::output::say;
use crate::clock::{SystemClock, WallClock as _};
use crate::config::Settings;
use crate::http::{EgressRoute, InstanceId, ProxyTable, SystemNetwork};
use crate::registry::{Registry, RegistrySet};
use crate::upstream::{LoginOutcome, RateAllowance, UpstreamExamination};

/// How long one upstream may take: as long as for a client's request.
const EXAMINATION_WAIT: Duration = Duration::from_secs(25);

/// Asks every upstream, all at once, and reports in the order of the configuration. Fails if any
/// does not answer or does not take the credential.
pub(super) fn run(settings: &Settings, out: &mut dyn Write, err: &mut dyn Write) -> ExitStatus {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(err, &format!("cannot ask upstreams: {error}\n"));
            return ExitStatus::Failed;
        }
    };
    let lines = match runtime.block_on(examine_all(settings)) {
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

async fn examine_all(settings: &Settings) -> Result<Vec<ReportLine>, String> {
    let egress = EgressRoute {
        network: Arc::new(SystemNetwork),
        instance: InstanceId::random(),
        proxies: ProxyTable::new(&settings.proxies),
        clock: Arc::new(SystemClock),
    };
    let built = RegistrySet::build(&settings.registries, &egress, None);
    let registries = built.map_err(|error| error.to_string())?;
    let asked: Vec<_> = registries
        .configured()
        .map(|registry| (Arc::clone(registry), tokio::spawn(examine(Arc::clone(registry)))))
        .collect();
    let mut lines = Vec::new();
    for (registry, examined) in asked {
        let lost = |_| vec![bad(format!("{}: the task was lost", registry.name()))];
        lines.extend(examined.await.unwrap_or_else(lost));
    }
    for pattern in registries.patterns() {
        let text = format!("{}: not asked, since it names no host", pattern.key());
        lines.push(ReportLine { text, is_good: true });
    }
    Ok(lines)
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
    if let Some(ends) = ends {
        let left = ends.duration_since(SystemClock.now()).unwrap_or_default();
        let left = Duration::from_secs(left.as_secs() / 60 * 60);
        let at = humantime::format_rfc3339_seconds(*ends);
        write!(text, ", until {at} (for {})", humantime::format_duration(left)).ok();
    }
    ReportLine { text, is_good: true }
}

fn pulls(allowance: RateAllowance) -> String {
    let number = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let window = allowance.window.map(humantime::format_duration);
    let window = window.map_or(String::new(), |window| format!(" in {window}"));
    format!("{} of {} pulls{window} are left", number(allowance.remaining), number(allowance.limit))
}
