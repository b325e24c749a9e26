//! Does Larder stay right while everything around it fails? The one command for that question:
//! `cargo test --test reliability`, or with `-- --long` as much as fits an hour.
//!
//! Every part injects faults and checks the same promises: no reader gets wrong bytes as a whole,
//! what is asked is answered, the next start is well, nothing leaks. At the end comes a table of
//! how often each thing was done, and every defect with what is needed to have it again. The exit
//! code is 1 if there are any. `docs/reliability.md` explains the parts.

#![allow(unreachable_pub, reason = "a test binary exports nothing, and `pub` reads better")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command prints its answer")]
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failing test")]

#[allow(unused_imports, reason = "the vocabulary is that of the integration tests")]
#[path = "../it/support/mod.rs"]
mod support;

mod cargo_tests;
mod disks;
mod growth;
mod h2spec;
mod hostile;
mod mutations;
mod nth;
mod power;
mod soak;
mod table;
mod volume;

use std::process::ExitCode;

use clap::Parser;
use tokio::time::Instant;

use table::Row;

/// Injects faults into Larder and checks what it promises
#[derive(Clone, Debug, Parser)]
#[command(name = "reliability")]
pub struct Arguments {
    /// Parts to run; all without any
    parts: Vec<String>,
    /// As much as fits an hour, instead of a sample for each change
    #[arg(long)]
    long: bool,
    /// Seconds of the long soak
    #[arg(long, default_value_t = 600)]
    soak: u64,
    /// Minutes after which the failures of system calls end, done or not
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Made-up requests of each kind; 100,000 in the long form
    #[arg(long)]
    requests: Option<u64>,
    /// Chooses the samples
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// List the parts
    #[arg(long)]
    list: bool,
}

/// A part's name, and what it does.
const PARTS: &[(&str, &str)] = &[
    ("nth", "the n-th system call of each kind fails, or kills the program"),
    ("kill", "kill -9 again and again, with everything going on"),
    ("power", "power cuts on ext4 and XFS, with another boot after each"),
    ("disk", "full, failing, hung and rotten disks"),
    ("http", "hostile clients and upstreams"),
    ("growth", "requests that anonymous clients make up, and what grows by them"),
    ("fuzz", "what strangers write, at random"),
    ("soak", "many clients, a registry that fails, a reload every second"),
    ("mutations", "a check is removed, and its tests fail"),
];

async fn run(part: &str, arguments: &Arguments) -> Vec<Row> {
    match part {
        "nth" => nth::run(arguments).await,
        "power" => power::run(arguments).await,
        "growth" => growth::run(arguments).await,
        "soak" => soak::run(arguments).await,
        "mutations" => mutations::run(arguments),
        part => {
            let tests = cargo_tests::ALL.iter().filter(|tests| tests.part == part);
            let mut rows: Vec<_> = tests.map(|tests| tests.run(arguments)).collect();
            match part {
                "disk" => rows.extend(disks::run().await),
                "http" => {
                    if arguments.long {
                        rows.extend(hostile::run());
                    }
                    rows.extend(h2spec::run().await);
                }
                _ => {}
            }
            rows
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown = arguments.parts.iter().find(|it| !PARTS.iter().any(|(name, _)| name == it));
    if arguments.list || unknown.is_some() {
        for (name, what) in PARTS {
            println!("{name:<10} {what}");
        }
        return ExitCode::from(u8::from(unknown.is_some()));
    }
    let mut rows = Vec::new();
    for (part, what) in PARTS {
        if !arguments.parts.is_empty() && !arguments.parts.iter().any(|it| it == part) {
            continue;
        }
        eprintln!("==> {part}: {what}");
        let since = Instant::now();
        let done = run(part, &arguments).await;
        eprintln!("… took {} s", since.elapsed().as_secs());
        rows.extend(done);
    }
    print!("{}", table::show(&rows));
    ExitCode::from(u8::from(rows.iter().any(Row::has_defects)))
}
