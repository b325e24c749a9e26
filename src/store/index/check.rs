//! Checking a database in a process of its own, which may panic, eat memory, or never end.
//!
//! The child is this program with a hidden subcommand. It opens the database and reads every row;
//! it gets little priority, limits of memory and CPU time and a deadline, and dies with its parent.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::db::{IndexDb, IndexTotals};
use super::dir::bytes_under;

/// The subcommand's name.
pub const CHECK_COMMAND: &str = "check-index";

/// Has a child check the database, and gives what is in it, or why it must not be opened. `stop` is
/// asked now and then whether to give up.
pub(super) fn check(
    program: &Path,
    db: &Path,
    stop: impl Fn() -> bool,
) -> Result<IndexTotals, String> {
    let spawned = Command::new(program)
        .arg(CHECK_COMMAND)
        .arg(db)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = spawned.map_err(|error| format!("it cannot be checked: {error}"))?;
    let wait_max = WAIT_MIN + Duration::from_secs(bytes_under(db) / WAIT_BYTES_PER_S);
    let until = Instant::now() + wait_max;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(format!("the check ended with {status}")),
            Ok(None) if stop() => break Err("the check was not waited for".to_owned()),
            Ok(None) if Instant::now() > until => {
                break Err(format!("the check took longer than {wait_max:?}"));
            }
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => break Err(format!("the check is lost: {error}")),
        }
    };
    let said = end(child);
    match ended {
        Ok(()) => said
            .and_then(|said| Ok(serde_json::from_slice(&said)?))
            .map_err(|error| format!("the check said nothing that makes sense: {error}")),
        Err(why) => match said {
            Ok(said) if !said.is_empty() => {
                Err(format!("{why}: {}", String::from_utf8_lossy(&said).trim()))
            }
            _ => Err(why),
        },
    }
}

/// Sees to it that the child has ended; gives what it said.
fn end(mut child: Child) -> io::Result<Vec<u8>> {
    // It fails when the child has ended by itself.
    drop(child.kill());
    child.wait()?;
    let mut said = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(SAID_BYTES_MAX).read_to_end(&mut said)?;
    }
    Ok(said)
}

/// The work of the child process: opens the database and reads every row. Gives the text for its
/// stdout.
///
/// # Errors
///
/// The fault of the database, if it can be named.
pub fn check_index(db: &Path) -> Result<String, String> {
    let is_orphan =
        |error: rustix::io::Errno| format!("this process would outlive its parent: {error}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(is_orphan)?;
    let cpu_seconds = CPU_SECONDS_MIN + bytes_under(db) / CPU_BYTES_PER_S;
    let limits =
        [(Resource::As, ADDRESS_BYTES_MAX), (Resource::Core, 0), (Resource::Cpu, cpu_seconds)];
    for (resource, max) in limits {
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        // A limit that cannot be had is done without: the deadline holds.
        setrlimit(resource, limit).unwrap_or_default();
    }
    rustix::process::nice(NICE).unwrap_or_default();
    let ledger = IndexDb::open(db, IndexTotals::default()).map_err(|error| error.to_string())?;
    let totals = ledger.scan(|_, _| ()).map_err(|error| error.to_string())?;
    ledger.close().map_err(|error| error.to_string())?;
    serde_json::to_string(&totals).map_err(|error| error.to_string())
}

/// The time for the smallest database, on a machine that is busy with other work.
const WAIT_MIN: Duration = Duration::from_secs(20);

/// A disk that is slower is not waited for: building the index anew reads no file.
const WAIT_BYTES_PER_S: u64 = 4 << 20;

/// A scan that never ends takes all the CPU it gets. One that does takes a second for 60 MiB, or
/// several times as long in a build for tests.
const CPU_SECONDS_MIN: u64 = 4;
const CPU_BYTES_PER_S: u64 = 8 << 20;

/// How often the child is looked after: the waiting thread has nothing else to do.
const POLL: Duration = Duration::from_millis(20);

/// A line.
const SAID_BYTES_MAX: u64 = 4096;

/// Address space, of which the threads' stacks and heaps reserve a good part; a database of a
/// million rows needs a quarter of a gigabyte.
const ADDRESS_BYTES_MAX: u64 = 4 << 30;

/// Behind everything that serves.
const NICE: i32 = 10;
