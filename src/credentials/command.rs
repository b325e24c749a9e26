//! A program that gives a credential: started without a shell, given one text, and read for a
//! bounded time and length.
//!
//! Its output is never shown: an operator who wants to see it runs it by hand.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::error::CredentialError;

/// How long a program may take. Those of clouds ask two services, one after the other.
const RUN_WAIT: Duration = Duration::from_secs(15);

/// The most that a program may write, in bytes. A cloud's password has about 3 KiB.
const OUTPUT_LEN_MAX: u64 = 256 * 1024;

/// The output of a program, and whether the program called it a success.
pub(super) struct CommandOutput {
    pub(super) stdout: Vec<u8>,
    pub(super) is_success: bool,
}

/// Runs `program` with `arguments`, writes `input` to it and reads what it writes to its standard
/// output. Its standard error is not read.
///
/// # Errors
///
/// If it cannot be started, does not end in time, or writes too much.
pub(super) async fn run(
    program: &OsStr,
    arguments: &[String],
    input: &[u8],
) -> Result<CommandOutput, CredentialError> {
    let shown = program.to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CredentialError::new(format!("cannot run `{shown}`: {error}")))?;
    let mut group = ProcessGroup::of(&child);
    match timeout(RUN_WAIT, converse(&mut child, input)).await {
        Ok(Ok(output)) if output.stdout.len() as u64 > OUTPUT_LEN_MAX => {
            let limit = OUTPUT_LEN_MAX / 1024;
            Err(CredentialError::new(format!("`{shown}` wrote more than {limit} KiB")))
        }
        Ok(outcome) => {
            group.has_ended();
            outcome.map_err(|error| CredentialError::new(format!("running `{shown}`: {error}")))
        }
        Err(_) => {
            let seconds = RUN_WAIT.as_secs();
            Err(CredentialError::new(format!("`{shown}` did not end within {seconds} s")))
        }
    }
}

/// A program and what it has started, which end with this.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// The program ended by itself: its id may be another's now.
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // One that has ended meanwhile needs no signal.
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

async fn converse(child: &mut Child, input: &[u8]) -> std::io::Result<CommandOutput> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let write = async {
        // One that does not read its input may still answer.
        if let Some(mut stdin) = stdin {
            stdin.write_all(input).await.ok();
        }
    };
    let read = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_LEN_MAX + 1).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let ((), read) = tokio::join!(write, read);
    let stdout = read?;
    if stdout.len() as u64 > OUTPUT_LEN_MAX {
        child.start_kill()?;
    }
    let is_success = child.wait().await?.success();
    Ok(CommandOutput { stdout, is_success })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> Result<(Vec<u8>, bool), String> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let output = run(OsStr::new("/bin/sh"), &arguments, b"question").await;
        output.map(|it| (it.stdout, it.is_success)).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_program_reads_one_text_and_writes_another() {
        assert_eq!(shell("cat").await.unwrap(), (b"question".to_vec(), true));
        assert_eq!(shell("echo no; exit 3").await.unwrap(), (b"no\n".to_vec(), false));
        let flood = shell("yes").await.unwrap_err();
        assert_eq!(flood, "`/bin/sh` wrote more than 256 KiB");
        let absent = run(OsStr::new("/nonexistent"), &[], b"").await.err().unwrap().to_string();
        assert!(absent.starts_with("cannot run `/nonexistent`"), "{absent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_hangs_is_ended_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}.new; mv {0}.new {0}; wait", file.display());
        let hung = tokio::spawn(async move { shell(&script).await });
        let pid = loop {
            if let Ok(text) = tokio::fs::read_to_string(&file).await {
                break text.trim().to_owned();
            }
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5)))
                .await
                .unwrap();
        };
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        assert!(is_there());
        let hung = hung.await.unwrap().unwrap_err();
        assert_eq!(hung, "`/bin/sh` did not end within 15 s");
        for _ in 0..1_000 {
            if !is_there() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the child of the program is still there");
    }
}
