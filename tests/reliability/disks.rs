//! Real file systems that hang, and that are full below: what a client gets, and what is left.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::nth::checks::at_rest;
use crate::support::{Blob, Process, ScriptedRegistry, Version};
use crate::table::Row;
use crate::volume::{Lab, Volume, sh};

const PART: &str = "disk";
const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;

/// Clients give up after 30 s.
const FIRST: Duration = Duration::from_secs(25);

pub async fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in ["ext4", "xfs"] {
        rows.push(row(format!("freezes of {kind}"), frozen(kind).await));
        rows.push(row(format!("{kind} over storage that is full"), thin(kind).await));
    }
    let why = "no device mapper here; strace's EIO in reads and writes stands for it";
    rows.push(Row::skipped(PART, "bad sectors of a device", why));
    rows
}

/// How often it was done, or why it could not be done.
type Done = Result<Result<u64, String>, String>;

fn row(what: String, done: Done) -> Row {
    match done {
        Ok(Ok(times)) => Row::new(PART, what, times),
        Ok(Err(defect)) => Row { defects: vec![defect], ..Row::new(PART, what, 1) },
        Err(why) => Row::skipped(PART, what, why),
    }
}

fn blobs(hub: &ScriptedRegistry, seed: u64, count: u64) -> Vec<Blob> {
    let blobs: Vec<_> = (0..count).map(|number| Blob::large(seed + number, 3 * MIB)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    blobs
}

/// The bytes are right and all there; how long that took.
async fn pull(larder: &Process, blob: &Blob) -> Result<Duration, String> {
    let begun = Instant::now();
    let reply = larder.client().try_get(Version::Http11, &blob.path(REPOSITORY)).await?;
    if reply.is_complete() && reply.status == 200 && reply.body == blob.bytes {
        return Ok(begun.elapsed());
    }
    let kind = if reply.is_complete() && reply.status == 200 { "WRONG BYTES" } else { "failed" };
    Err(format!("{kind}: {} {} bytes {:?}", reply.status, reply.body.len(), reply.broken))
}

/// A file system that takes no change for a while.
async fn frozen(kind: &'static str) -> Done {
    let lab = Lab::new()?;
    let volume = Volume::new(&lab, kind)?;
    let hub = ScriptedRegistry::new();
    let warm = blobs(&hub, 1, 2);
    let cold = blobs(&hub, 100, 6);
    let larder = Process::with_cache_in(&volume.cache(), hub.listen().await).await;
    for blob in &warm {
        if let Err(why) = pull(&larder, blob).await {
            return Ok(Err(why));
        }
    }
    larder.until(|larder| larder.files("blobs").len() == warm.len(), "they are stored").await;
    volume.freeze(true)?;
    let during = async {
        for blob in warm.iter().chain(&cold) {
            let waited = pull(&larder, blob).await?;
            if waited > FIRST {
                return Err(format!("a pull took {waited:?}"));
            }
        }
        Ok(())
    };
    let during = during.await;
    volume.freeze(false)?;
    let all: Vec<_> = warm.into_iter().chain(cold).collect();
    Ok(match during {
        Ok(()) => until_all_are_stored(&larder, &all).await.map(|()| 1),
        Err(why) => Err(why),
    })
}

/// Storage that promises more than it has: writes fail below the file system, and later do not.
async fn thin(kind: &'static str) -> Done {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let storage = dir.path().join("storage");
    std::fs::create_dir(&storage).map_err(|error| error.to_string())?;
    let path = storage.display().to_string();
    // An empty XFS has a log of 64 MiB.
    let size = if kind == "xfs" { "size=105M" } else { "size=40M" };
    sh("mount", &["-t", "tmpfs", "-o", size, "larder-test", &path])?;
    let done = over_thin(kind, &storage, dir.path()).await;
    drop(sh("umount", &["-l", &path]));
    done
}

async fn over_thin(kind: &'static str, storage: &std::path::Path, dir: &std::path::Path) -> Done {
    let volume = Volume::in_file(storage, &dir.join("volume"), kind)?;
    let hub = ScriptedRegistry::new();
    let all = blobs(&hub, 1, 24);
    let larder = Process::with_cache_in(&volume.cache(), hub.listen().await).await;
    for blob in &all {
        if let Err(why) = pull(&larder, blob).await {
            return Ok(Err(format!("while it fills up: {why}")));
        }
    }
    let path = storage.display().to_string();
    sh("mount", &["-o", "remount,size=600M", &path])?;
    forget_pages(&larder);
    for blob in all.iter().chain(&all) {
        if let Err(why) = pull(&larder, blob).await {
            return Ok(Err(format!("with room again: {why}")));
        }
    }
    Ok(Ok(1))
}

/// Reads show from now on what the disk has.
fn forget_pages(larder: &Process) {
    drop(Command::new("sync").arg("-f").arg(larder.cache_dir()).status());
    for (path, _) in larder.files("") {
        if let Ok(file) = std::fs::File::open(path) {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap_or_default();
        }
    }
}

/// The disk is used again as soon as it answers, and nothing is left of the meantime.
async fn until_all_are_stored(larder: &Process, blobs: &[Blob]) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(90);
    while larder.files("blobs").len() < blobs.len() {
        if Instant::now() > until {
            return Err(format!("{} of {}", larder.files("blobs").len(), blobs.len()));
        }
        for blob in blobs {
            pull(larder, blob).await?;
        }
        sleep(Duration::from_millis(200)).await;
    }
    at_rest(larder).await
}
