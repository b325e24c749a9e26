//! One case: a run with faults on a copy of a warm cache, and a run without after it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::calls::{Calls, Fault};
use super::checks::at_rest;
use super::drive::{Complaints, Wanted, drive, pull_all};
use crate::support::strace::Strace;
use crate::support::{Process, ScriptedRegistry, Version};

/// Content is verified anew in every case, since the template is older.
const CACHE_KEYS: &str = "min_free = '0B'\nverify_every = '1s'";

const KEYS: &str = "push = true\ntag_ttl = '0s'\n[access]\nanonymous = 'push'";

pub struct Case {
    pub call: String,
    pub fault: Fault,
    pub n: u32,
    /// The only file that counts; all files of the cache without one.
    pub path: Option<PathBuf>,
}

impl Case {
    /// As strace's `inject` has it.
    fn inject(&self) -> String {
        format!("{}:{}:when={}", self.call, self.fault.action(), self.n)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
        write!(f, "{} {}", self.inject(), name.display())
    }
}

/// The last word of a program that does not start.
const REFUSED: &str = "error: cannot use the cache directory";

/// With how many faults there were.
pub enum Outcome {
    Unreached,
    Right(u64),
    /// It did not start, without harm.
    Refused(u64),
    Wrong(u64, String),
}

impl Outcome {
    pub fn injected(&self) -> u64 {
        match self {
            Self::Unreached => 0,
            Self::Right(injected) | Self::Refused(injected) | Self::Wrong(injected, _) => *injected,
        }
    }
}

/// A registry, the program before it, and a warm cache to begin each case with.
pub struct Stage {
    hub: ScriptedRegistry,
    wanted: Wanted,
    larder: Process,
    /// Whether the last case has killed it.
    was_killed: bool,
    template: TempDir,
}

impl Stage {
    pub async fn new(is_user: bool) -> Self {
        let hub = ScriptedRegistry::new();
        let wanted = Wanted::new(&hub);
        let upstream = hub.listen().await;
        let mut larder = if is_user {
            Process::as_user_with_keys(upstream, [CACHE_KEYS, KEYS]).await
        } else {
            Process::with_keys(upstream, CACHE_KEYS, KEYS).await
        };
        let client = larder.client();
        let path = format!("/v2/{}/manifests/warm", super::drive::REPOSITORY);
        client.get(&path).await.assert_is(&wanted.warm.manifest.blob);
        for blob in wanted.warm.blobs() {
            client.get(&blob.path(super::drive::REPOSITORY)).await.assert_is(blob);
        }
        larder.until(|it| it.files("blobs").len() >= 3, "the image is stored").await;
        larder.terminate().await;
        let template = tempfile::tempdir().unwrap();
        copy(larder.cache_dir(), &template.path().join("cache"));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Self { hub, wanted, larder, was_killed: false, template }
    }

    /// A run without faults, and what it called.
    pub async fn baseline(&mut self) -> Result<Calls, String> {
        self.reset();
        let trace = self.under(&Calls::traced(), None, &Calls::default());
        self.larder.try_start_again().await?;
        let complaints = drive(&self.larder.client(), &self.wanted).await;
        self.larder.terminate().await;
        verdict(complaints)?;
        let trace = fs::read_to_string(trace).map_err(|error| error.to_string())?;
        Ok(Calls::read(&trace, self.larder.cache_dir()))
    }

    pub async fn run(&mut self, case: &Case, calls: &Calls) -> Outcome {
        self.reset();
        let trace = self.under(&case.call, Some(case), calls);
        let ran = self.with_faults(case).await;
        let injected = match case.fault {
            Fault::Kill => u64::from(self.was_killed),
            Fault::Error(_) => injected(&trace),
        };
        if injected == 0 {
            return match ran {
                Ok(_) => Outcome::Unreached,
                Err(why) => Outcome::Wrong(0, why),
            };
        }
        let ran = match ran {
            Ok(has_started) => self.without_faults().await.map(|()| has_started),
            wrong => wrong,
        };
        match ran {
            Ok(true) => Outcome::Right(injected),
            Ok(false) => Outcome::Refused(injected),
            Err(why) => Outcome::Wrong(injected, why),
        }
    }

    /// Whether it started at all.
    async fn with_faults(&mut self, case: &Case) -> Result<bool, String> {
        let before = self.larder.log().len();
        let started = self.larder.try_start_again().await;
        let mut complaints = Complaints::default();
        let mut health = Err("not asked".to_owned());
        if started.is_ok() {
            complaints = drive(&self.larder.client(), &self.wanted).await;
            health = self.larder.admin().try_get(Version::Http11, "/healthz").await;
        }
        let Case { call, fault, .. } = case;
        if !fault.is_natural(call) || *fault == Fault::Kill {
            complaints.failed.clear();
        }
        if *fault == Fault::Kill {
            self.was_killed = self.larder.has_ended();
            self.larder.kill();
            return verdict(complaints).map(|()| true);
        }
        let status = if self.larder.has_ended() {
            self.larder.end().await
        } else {
            self.larder.terminate().await
        };
        let said = self.larder.log().split_off(before);
        let said_last = || format!("{status}; {}", last_lines(&said));
        if fault.may_refuse(call) && status.code() == Some(1) && said.contains(REFUSED) {
            return Ok(false);
        }
        verdict(complaints).map_err(|why| format!("{why}; {}", said_last()))?;
        match health {
            Ok(reply) if reply.status == 200 => {}
            health => return Err(format!("/healthz: {health:?}; {}", said_last())),
        }
        // The index is another's code that panics on errors, which its thread outlives.
        let panics = said.matches("panicked at").count() - said.matches("'index'").count();
        if panics > 0 || status.code() != Some(0) {
            return Err(said_last());
        }
        Ok(true)
    }

    /// The disk works again: what it is asked it has, and nothing of the faults is left.
    async fn without_faults(&mut self) -> Result<(), String> {
        self.larder.run_under(Vec::new());
        self.larder.try_start_again().await?;
        let complaints = pull_all(&self.larder.client(), &self.wanted).await;
        let rest = at_rest(&self.larder).await;
        let status = self.larder.terminate().await;
        verdict(complaints)?;
        rest?;
        if status.code() == Some(0) { Ok(()) } else { Err(format!("then: {status}")) }
    }

    /// The cache as it was at first. Nothing is kept of the cases before: the registry holds the
    /// bodies of all that it was asked, a MiB for each push.
    fn reset(&self) {
        self.hub.forget();
        fs::write(self.larder.cache_dir().with_file_name("log"), "").unwrap();
        let cache = self.larder.cache_dir();
        fs::remove_dir_all(cache).unwrap();
        copy(&self.template.path().join("cache"), cache);
    }

    /// Starts under strace from now on; gives the file of what it sees.
    fn under(&mut self, traced: &str, case: Option<&Case>, calls: &Calls) -> PathBuf {
        let trace = self.larder.cache_dir().with_file_name("trace");
        drop(fs::remove_file(&trace));
        let inject = case.map(Case::inject);
        let paths = match case.and_then(|case| case.path.as_deref()) {
            Some(path) => [path].into(),
            None => calls.paths(),
        };
        self.larder.run_under(Strace::launch(&trace, traced, inject.as_deref(), paths));
        trace
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n    ")
}

fn verdict(complaints: Complaints) -> Result<(), String> {
    let Complaints { wrong, mut failed } = complaints;
    failed.truncate(2);
    match (wrong.is_empty(), failed.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("failed: {failed:?}")),
        (false, _) => Err(format!("WRONG BYTES: {wrong:?}")),
    }
}

fn injected(trace: &Path) -> u64 {
    let trace = fs::read_to_string(trace).unwrap_or_default();
    trace.matches("(INJECTED)").count() as u64
}

/// With owners and times.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success(), "{} is copied", from.display());
}
