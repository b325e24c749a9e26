//! System calls that fail as a broken disk would have them fail.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::Instant;

/// How long strace may take to attach.
const PATIENCE: Duration = Duration::from_secs(30);

/// Faults of a process's system calls, for as long as this lives.
pub struct Strace {
    child: Child,
    said: NamedTempFile,
}

impl Strace {
    /// Has the calls of a running process fail: `inject` is as in `strace -e inject=…`, and only
    /// calls that name or have open one of `paths` are meant, if there are any. `None`, with a
    /// word on why, where strace is not allowed.
    pub async fn attach(pid: u32, inject: &[&str], paths: &[&Path]) -> Option<Self> {
        let said = NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string()]);
        for inject in inject {
            command.args(["-e", &format!("inject={inject}")]);
        }
        for path in paths {
            command.arg("-P").arg(path);
        }
        let (null, log) = (Stdio::null(), said.reopen().unwrap());
        let spawned = command.stdin(null).stdout(Stdio::null()).stderr(log).spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                eprintln!("skipped: strace cannot be started: {error}");
                return None;
            }
        };
        let mut this = Self { child, said };
        let attached = tokio::time::timeout(PATIENCE, this.until_attached()).await;
        if attached.expect("strace attaches or says why not") {
            return Some(this);
        }
        eprintln!("skipped: strace cannot attach: {}", this.said());
        None
    }

    /// The words before those of a program that has its calls fail from its start, as in
    /// [`Strace::attach`]; what strace sees of `traced` calls goes to a file.
    pub fn launch<'p>(
        trace: &Path,
        traced: &str,
        inject: Option<&str>,
        paths: impl IntoIterator<Item = &'p Path>,
    ) -> Vec<String> {
        let strace = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-o"];
        let mut words: Vec<_> = strace.map(str::to_owned).into();
        words.extend([trace.display().to_string(), "-e".to_owned(), format!("trace={traced}")]);
        words.extend(inject.into_iter().flat_map(|it| ["-e".to_owned(), format!("inject={it}")]));
        let paths = paths.into_iter().map(|path| path.display().to_string());
        words.extend(paths.flat_map(|path| ["-P".to_owned(), path]));
        words
    }

    /// Whether it can be started, with a word on why where it cannot.
    pub fn is_installed() -> bool {
        let started = Command::new("strace").arg("-V").output();
        if let Err(error) = &started {
            eprintln!("skipped: strace cannot be started: {error}");
        }
        started.is_ok()
    }

    /// All that it saw and said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.said.path()).unwrap()
    }

    /// How many calls failed by it.
    pub fn injected(&self) -> usize {
        self.said().matches("(INJECTED)").count()
    }

    async fn until_attached(&mut self) -> bool {
        loop {
            if self.said().contains(" attached") {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM has it detach; killed, it would leave the process stopped.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        let until = Instant::now() + PATIENCE / 10;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may wait for ever for a process that was killed under it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
