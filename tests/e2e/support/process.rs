//! A daemon that ends with its guard: asked first, then killed with its whole process group.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::Instant;

use super::wait;

/// A running daemon.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in a process group of its own, with stderr appended to `log` and stdout to
    /// `log` + `.out`.
    ///
    /// It is told to end too if the test program dies without its guards (`setpriv`).
    pub(crate) fn spawn(name: &str, command: &Command, log: &Path) -> Self {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program());
        guarded.args(command.get_args()).process_group(0);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(key, value),
                None => guarded.env_remove(key),
            };
        }
        guarded.stdin(std::process::Stdio::null());
        guarded.stdout(append(&log.with_extension("out"))).stderr(append(log));

        let child = guarded.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Waits until `ready` says so; panics if the daemon ends instead.
    pub(crate) fn wait_until_ready(&mut self, ready: impl Fn() -> bool) {
        let what = format!("{} is ready", self.name);
        wait::until(&what, wait::DAEMON, || {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("{} ended with {status}:\n{}", self.name, self.tail());
            }
            ready().then_some(())
        });
    }

    /// SIGTERM, and SIGKILL for the group when that is not heard.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_WAIT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{} did not end within {STOP_WAIT:?} of SIGTERM", self.name);
        self.kill()
    }

    /// SIGKILL for the whole group.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        kill_process_group(self.pid(), Signal::KILL).ok();
        self.child.wait().expect("a child can be waited for")
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).ok();
    }

    fn pid(&self) -> Pid {
        let raw = i32::try_from(self.child.id()).expect("a process id fits its type");
        Pid::from_raw(raw).expect("a child's id is not zero")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.stop();
        }
        if std::thread::panicking() {
            println!("--- {}, last lines of {}\n{}", self.name, self.log.display(), self.tail());
        }
    }
}

fn append(file: &Path) -> File {
    let opened = File::options().create(true).append(true).open(file);
    opened.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// dockerd gives its containers ten seconds.
const STOP_WAIT: Duration = Duration::from_secs(20);

const TAIL_LINES: usize = 40;
