//! Does a large store make Larder slow to start, slow to look things up, or large itself? And what
//! if its index is lost or damaged?

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::time::Instant;

use super::Row;
use crate::client::Client;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::process::Server;
use crate::stats::{MIB, Samples, float};
use crate::store::{Paths, Size, TAGS, lay_out};
use crate::table::{Against, Bar, Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "scale",
    question: "A store of 1,000,000 blobs and 100,000 tags, and one of 1,000 tags and their blobs. \
        From the start of the program until it has served a manifest by tag and said that it has \
        its layer, with the index as it was closed, as a kill left it, removed, cut in half, with \
        noise in its middle, and so that its check hangs. 1,000 manifests by tag and 1,000 layers \
        asked for with HEAD, each once. Resident memory.",
    measure,
};

const LARGE: Size = Size { repositories: 1000, blobs: 800_000 };
const SMALL: Size = Size { repositories: 10, blobs: 0 };

/// How many repositories are asked for, each with all of its tags.
const ASKED: u64 = 10;

/// Damage that can have happened to an index.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Closed in order.
    None,
    Killed,
    Removed,
    /// The data file has lost its second half.
    Truncated,
    /// The middle of the data file is noise.
    Garbled,
    /// A file of the database is a pipe without a writer: a process that opens it waits for ever.
    Hanging,
}

const DAMAGES: [(Damage, Figure); 6] = [
    (Damage::None, Figure("ms to the first pull, index closed")),
    (Damage::Killed, Figure("ms to the first pull, after a kill")),
    (Damage::Removed, Figure("ms to the first pull, index removed")),
    (Damage::Truncated, Figure("ms to the first pull, index truncated")),
    (Damage::Garbled, Figure("ms to the first pull, index garbled")),
    (Damage::Hanging, Figure("ms to the first pull, index hanging")),
];

const MANIFEST: Figure = Figure("p99 ms, manifest by tag");
const LAYER: Figure = Figure("p99 ms, layer");
const MANIFEST_BUSY: Figure = Figure("p99 ms, manifest by tag, index being made");
const LAYER_BUSY: Figure = Figure("p99 ms, layer, index being made");
const MEMORY: Figure = Figure("MiB, after these look-ups");
const MADE: Figure = Figure("s until the index is made");
const MEMORY_MADE: Figure = Figure("MiB, index just made");
const INDEX: Figure = Figure("MiB of index on disk");

/// A store, and its index as it was closed.
struct Laid {
    peer: Peer,
    size: Size,
    state: TempDir,
}

impl Laid {
    fn index(&self) -> PathBuf {
        self.state.path().join("larder/index")
    }

    fn kept(&self) -> PathBuf {
        self.state.path().join("kept")
    }

    fn start(&self, lab: &Lab) -> Result<Server> {
        self.peer.start(lab, self.state.path(), lab.upstream.port)
    }
}

fn measure(lab: &Lab) -> Result<Table> {
    let mut table = Table::default();
    let stores = [
        lay(lab, Peer::LarderEmpty, SMALL, &mut table)?,
        lay(lab, Peer::Larder, LARGE, &mut table)?,
    ];
    for run in 0..lab.runs.min(RUNS_MAX) {
        for (damage, figure) in DAMAGES {
            for store in &stores {
                turn(lab, store, run, (damage, figure), &mut table)?;
            }
        }
    }
    for (_, figure) in DAMAGES {
        let reach = Bound::AtMost(1000.0);
        table.bar(Bar { figure, against: Against::Value, reach, goal: None });
    }
    for figure in [MANIFEST, LAYER] {
        table.ratio(figure, Peer::LarderEmpty, Bound::AtMost(2.0), None);
    }
    Ok(table)
}

/// Lays a store out, and has its index made.
fn lay(lab: &Lab, peer: Peer, size: Size, table: &mut Table) -> Result<Laid> {
    let store = Laid { peer, size, state: lab.large_state()? };
    lay_out(&store.state.path().join("larder"), size).context("cannot lay out a store")?;
    let server = store.start(lab)?;
    look_up(&server, &store, 0, [MANIFEST_BUSY, LAYER_BUSY], table)?;
    until_ready(&server)?;
    table.add(peer, MADE, server.began.elapsed().as_secs_f64());
    table.add(peer, MEMORY_MADE, server.resident()?);
    // Closed in order.
    drop(server);
    table.add(peer, INDEX, mib_under(&store.index())?);
    copy(&store.index(), &store.kept())?;
    Ok(store)
}

fn turn(
    lab: &Lab,
    store: &Laid,
    run: usize,
    (damage, figure): (Damage, Figure),
    table: &mut Table,
) -> Result<()> {
    fs::remove_dir_all(store.index())?;
    copy(&store.kept(), &store.index())?;
    spoil(&store.index(), damage)?;
    let server = store.start(lab)?;
    first_pull(&server)?;
    table.add(store.peer, figure, millis(server.began.elapsed()));
    if matches!(damage, Damage::None) {
        until_ready(&server)?;
        look_up(&server, store, run, [MANIFEST, LAYER], table)?;
        table.add(store.peer, MEMORY, server.resident()?);
    }
    server.kill()
}

fn spoil(index: &Path, damage: Damage) -> Result<()> {
    if matches!(damage, Damage::None) {
        return Ok(());
    }
    // With it, what has changed would not even be looked at.
    fs::remove_file(index.join("clean"))?;
    let data = index.join("db/db");
    let (file, len) = (OpenOptions::new().write(true).open(&data)?, fs::metadata(&data)?.len());
    match damage {
        Damage::None | Damage::Killed => {}
        Damage::Removed => fs::remove_dir_all(index)?,
        Damage::Truncated => file.set_len(len / 2)?,
        Damage::Garbled => {
            let mut noise = vec![0; usize::try_from(MIB)?];
            fastrand::Rng::with_seed(len).fill(&mut noise);
            file.write_all_at(&noise, len / 2)?;
        }
        Damage::Hanging => {
            let conf = index.join("db/conf");
            fs::remove_file(&conf)?;
            mknodat(CWD, &conf, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        }
    }
    Ok(())
}

fn first_pull(server: &Server) -> Result<()> {
    let paths = Paths::of(0, 0);
    let mut client = Client::connect(server.port)?;
    client.bytes(&paths.manifest)?;
    client.head(&paths.layer)
}

/// Asks for each of some repositories' tags once, and for its layer. Other ones in each run.
fn look_up(
    server: &Server,
    store: &Laid,
    run: usize,
    [manifest, layer]: [Figure; 2],
    table: &mut Table,
) -> Result<()> {
    let mut client = Client::connect(server.port)?;
    let (mut manifests, mut layers) = (Samples::default(), Samples::default());
    let spread = store.size.repositories / ASKED;
    for asked in 0..ASKED * TAGS {
        // In turn, so that no repository's records are asked for in a row.
        let (repository, tag) = (asked % ASKED * spread + run as u64 % spread, asked / ASKED);
        let paths = Paths::of(repository, tag);
        for (path, times) in [(&paths.manifest, &mut manifests), (&paths.layer, &mut layers)] {
            let since = Instant::now();
            client.head(path)?;
            times.push(millis(since.elapsed()));
        }
    }
    for (figure, times) in [(manifest, manifests), (layer, layers)] {
        let p99 = times.at(times.len() * 99 / 100);
        table.add(store.peer, figure, p99.context("nothing was asked for")?);
    }
    Ok(())
}

/// Until the index is what the files are.
fn until_ready(server: &Server) -> Result<()> {
    let since = Instant::now();
    loop {
        let metrics = Client::connect(server.admin)?.bytes("/metrics")?;
        if String::from_utf8_lossy(&metrics).contains("larder_index_state{state=\"ready\"} 1") {
            return Ok(());
        }
        ensure!(since.elapsed() < READY_MAX, "the index is not made");
        thread::sleep(READY_POLL);
    }
}

/// A database has files and one level of directories at most.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn mib_under(dir: &Path) -> Result<f64> {
    let mut mib = 0.0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        mib += match entry.metadata()? {
            metadata if metadata.is_dir() => mib_under(&entry.path())?,
            metadata => float(metadata.len()) / float(MIB),
        };
    }
    Ok(mib)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Each takes six starts.
const RUNS_MAX: usize = 3;

const READY_POLL: Duration = Duration::from_millis(100);
const READY_MAX: Duration = Duration::from_secs(600);
