//! Is Larder as fast as it has to be? The question of the whole: `cargo bench --bench compare`.
//!
//! Larder and its peers run side by side before one upstream, on this machine, taking turns so that
//! drift meets all of them; what counts is the ratio of their medians. Every row is a file in
//! `rows/`, every peer's configuration one in `peers/`. Nothing here fails the command: a figure
//! beyond its bar says MISS, a peer that is not installed says why it was not measured.
//!
//! CPU time is user plus system of all of a server's processes, from `/proc`. On a machine that
//! does other things too it is steadier than wall time. Run it alone, more than once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints its answer")]

mod client;
mod lab;
mod peers;
mod process;
mod requests;
mod rows;
mod sink;
mod stats;
mod store;
mod table;
mod tls;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::time::Instant;

use lab::Lab;
use peers::Peer;
use table::Table;

/// Compares Larder with nginx and distribution, and prints ratios
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Arguments {
    /// Rows whose name contains one of these; all without any
    filters: Vec<String>,
    /// How often each figure is taken
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Keep the measured servers on core 0, clients and upstream on core 1
    #[arg(long)]
    pin: bool,
    /// The Larder to measure instead of the one that was built with this
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_larder"))]
    larder: PathBuf,
    /// Directory of blobs and caches for the time of the run; needs 5 GiB
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Directory for the store of a million blobs instead: 1.3 million files, mostly empty
    #[arg(long, value_name = "DIR")]
    large_dir: Option<PathBuf>,
    /// Write all of it to this file: the machine, what is reached, the tables, the configurations
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// List the rows
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let chosen = |name: &str| {
        let filters = &arguments.filters;
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter))
    };
    if arguments.list {
        for row in rows::ALL {
            println!("{}", row.name);
        }
        return Ok(());
    }
    process::raise_file_limit()?;
    if arguments.pin {
        process::pin_to(process::CLIENT_CORE)?;
    }
    let runs = arguments.runs.max(1);
    let mut lab = Lab::new(&arguments.dir, arguments.larder, runs, arguments.pin)?;
    lab.large_dir = arguments.large_dir;
    print!("{}", lab.describe());
    let (mut sections, mut summary) = (String::new(), table::summary_head());
    for row in rows::ALL.iter().filter(|row| chosen(row.name)) {
        eprintln!("measuring {} …", row.name);
        let since = Instant::now();
        let table = match (row.measure)(&lab) {
            Ok(table) => {
                summary += &table.summary(row.name);
                format!("{table}\n{}", configurations(&table))
            }
            Err(error) => format!("not measured: {error:#}\n"),
        };
        eprintln!("… took {} s", since.elapsed().as_secs());
        let mut section = String::new();
        writeln!(section, "\n## {}\n\n{}\n\n{table}", row.name, row.question)?;
        print!("{section}");
        sections += &section;
    }
    if let Some(file) = arguments.markdown {
        let text = [&lab.describe(), "\n", &summary, &sections, &peers::appendix()].concat();
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Which files say how those in a table were set up.
fn configurations(table: &Table) -> String {
    let by = |peer: Peer| Some(format!("{} `{}`", peer.name(), peer.configured_by()?));
    let peers: BTreeSet<Peer> = table.peers().collect();
    format!("Set up by: {}.\n", peers.into_iter().filter_map(by).collect::<Vec<_>>().join(", "))
}
