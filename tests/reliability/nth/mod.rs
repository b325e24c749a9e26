//! The n-th system call of each kind fails with each error, or is the last of the program.
//!
//! strace counts for each thread of the program, so the long form tries each file alone as well. A
//! case is a start on a warm cache, pulls that hit and are verified again, cold pulls, a push, a
//! stop, and then a start without faults.

mod calls;
mod case;
pub mod checks;
mod drive;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::Arguments;
use crate::table::Row;
use calls::{Calls, Fault};
use case::{Case, Outcome, Stage};

const PART: &str = "nth";

/// Each n up to here is tried in the long form, and beyond it every other one or fewer.
const EACH: u32 = 10;

/// Beyond it, files are only looked at one after the other, thousands of times.
const LAST: u32 = 400;

/// The most files of which each is tried alone, in the long form.
const PATHS: usize = 30;

/// A worker as root and one as a user, where this is root; otherwise two of this user.
pub async fn run(arguments: &Arguments) -> Vec<Row> {
    let is_root = rustix::process::geteuid().is_root();
    let workers = [false, true].map(|is_user| tokio::spawn(work(is_user, arguments.clone())));
    let mut rows = Vec::new();
    for (worker, who) in workers.into_iter().zip(["root", "a user"]) {
        let who = if is_root { who } else { "this user" };
        let done = worker.await.unwrap_or_else(|error| {
            let defects = vec![format!("the worker ended early: {error}")];
            vec![Row { defects, ..Row::new(PART, "system calls failed", 0) }]
        });
        let named = |row: Row| Row { what: format!("{}, as {who}", row.what), ..row };
        rows.extend(done.into_iter().map(named));
    }
    rows
}

async fn work(is_user: bool, arguments: Arguments) -> Vec<Row> {
    let Arguments { long: is_long, seed, only, minutes, .. } = arguments;
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut stage = Stage::new(is_user).await;
    let calls = match stage.baseline().await {
        Ok(calls) => Arc::new(calls),
        Err(why) => return vec![Row::skipped(PART, "system calls", why)],
    };
    let mut faults = Row::new(PART, "system calls failed", 0);
    let mut kills = Row::new(PART, "kills at a system call", 0);
    let mut refusals = Row::new(PART, "starts refused with a word on why", 0);
    let mut random = fastrand::Rng::with_seed(seed + u64::from(is_user));
    let mut pairs = pairs(&calls);
    if is_long {
        // A run that has to end early has done some of each.
        random.shuffle(&mut pairs);
    }
    for (number, (call, fault)) in pairs.into_iter().enumerate() {
        if Instant::now() > end {
            faults.skipped.push(format!("stopped after {minutes} minutes, {number} pairs done"));
            break;
        }
        // In the short form the two share the pairs.
        if !is_long && only.is_empty() && (number % 2 == 0) == is_user {
            continue;
        }
        let mut cases = numbers(is_long, &mut random).into_iter();
        let mut paths = calls.paths_of[&call].iter().take(usize::from(is_long) * PATHS);
        loop {
            let next = |n| Case { call: call.clone(), fault, n, path: None };
            let at = |path: &PathBuf| Case { path: Some(path.clone()), ..next(1) };
            let Some(case) = cases.next().map(next).or_else(|| paths.next().map(at)) else { break };
            if !case.to_string().contains(&only) {
                continue;
            }
            let outcome = stage.run(&case, &calls).await;
            let row = if fault == Fault::Kill { &mut kills } else { &mut faults };
            row.count += outcome.injected();
            match outcome {
                Outcome::Unreached => cases = Vec::new().into_iter(),
                Outcome::Right(_) => {}
                Outcome::Refused(_) => refusals.count += 1,
                Outcome::Wrong(_, why) => {
                    eprintln!("{case}: {why}");
                    row.defects.push(format!("{case}: {why}"));
                }
            }
        }
    }
    vec![faults, kills, refusals]
}

fn pairs(calls: &Calls) -> Vec<(String, Fault)> {
    let names = calls.paths_of.keys().cloned();
    names.flat_map(|call| Fault::ALL.map(|fault| (call.clone(), fault))).collect()
}

/// All n until one is not reached, or for each change one of the first.
fn numbers(is_long: bool, random: &mut fastrand::Rng) -> Vec<u32> {
    if !is_long {
        return vec![random.u32(1..4)];
    }
    let further = std::iter::successors(Some(EACH), |n| Some(n + n / 2));
    (1..EACH).chain(further.take_while(|n| *n < LAST)).collect()
}
