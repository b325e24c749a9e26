//! What does a server cost? Starts one, reads what it used, and stops it.
//!
//! All of its processes count: nginx has a master and workers. They are found through
//! `/proc/<pid>/task/<tid>/children`, and stopped by their ids.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;
use tokio::time::Instant;

use crate::stats::float;

/// The core of measured servers, and the one of clients and upstream, when pinned.
const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// The port of Larder's metrics.
    pub(crate) admin: u16,
    /// When its program began.
    pub(crate) began: Instant,
}

/// How to start one.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) command: Command,
    pub(crate) port: u16,
    pub(crate) admin: u16,
    /// Gets what it says.
    pub(crate) log: &'a Path,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) fn start(launch: Launch<'_>) -> Result<Self> {
        let Launch { mut command, port, admin, log } = launch;
        let program = command.get_program().display().to_string();
        let said = File::create(log)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let mut this = Self { child, port, admin, began };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = || fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = this.child.try_wait()? {
                bail!("{program} ended with {status}: {}", said().trim());
            }
            if began.elapsed() > START_MAX {
                bail!("{program} does not listen: {}", said().trim());
            }
            sleep(LISTEN_POLL);
        }
        Ok(this)
    }

    /// Ends it with nothing said and nothing tidied.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Seconds of user and system time so far, of all its processes.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.tree().iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// As [`Self::cpu`], once it has stopped working: what it does after the last byte counts.
    pub(crate) fn cpu_settled(&self) -> Result<f64> {
        let since = Instant::now();
        let mut before = self.cpu()?;
        loop {
            sleep(SETTLED);
            let now = self.cpu()?;
            // A tick may fall to a timer.
            if now - before < 0.015 || since.elapsed() > SETTLE_MAX {
                return Ok(now);
            }
            before = now;
        }
    }

    /// Resident memory in MiB, of all its processes. Pages that they share count for each.
    pub(crate) fn resident(&self) -> Result<f64> {
        self.tree().iter().map(|pid| memory_of(*pid, "VmRSS:")).sum()
    }

    /// The most of it so far, by process.
    pub(crate) fn resident_at_most(&self) -> Result<f64> {
        self.tree().iter().map(|pid| memory_of(*pid, "VmHWM:")).sum()
    }

    fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = tree.get(next) {
            tree.extend(children(pid));
            next += 1;
        }
        tree
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its id may be another's by now.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let tree = self.tree();
        signal(self.child.id(), Signal::TERM);
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < STOP_MAX {
            sleep(POLL);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in tree {
                signal(pid, Signal::KILL);
            }
            drop(self.child.wait());
        }
    }
}

/// A command that starts `program` as a measured server: on its core, if pinned.
pub(crate) fn measured(program: &Path, is_pinned: bool) -> Command {
    if !is_pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &SERVER_CORE.to_string()]).arg(program);
    command
}

/// Keeps this thread, and what it starts from now on, on one core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).context("cannot pin to a core")
}

/// As many open files as the system allows, for the servers too.
pub(crate) fn raise_file_limit() -> Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")
}

/// How many files may be open.
pub(crate) fn file_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        rustix::process::kill_process(pid, signal).unwrap_or_default();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<_>>())
        .flatten()
        .collect()
}

/// Fields 14 to 17 of `/proc/<pid>/stat`: its own user and system time, and that of its children
/// that have ended.
pub(crate) fn cpu_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')').context("an unknown form of /proc/<pid>/stat")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    Ok(float(ticks.iter().sum()) / float(rustix::param::clock_ticks_per_second()))
}

fn memory_of(pid: u32, what: &str) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = fs::read_to_string(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).context("no such line")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(float(kib) / 1024.0)
}

const POLL: Duration = Duration::from_millis(10);
/// Short beside what a start takes.
const LISTEN_POLL: Duration = Duration::from_millis(1);
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(10);
/// Work that pauses longer than this is not the request's.
const SETTLED: Duration = Duration::from_millis(300);
const SETTLE_MAX: Duration = Duration::from_secs(20);
