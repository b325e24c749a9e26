//! Do many clients of one missing blob cost the upstream, or one another, anything?

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Row, Running, take_turns};
use crate::client::{Transfer, download};
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::{MIB, float};
use crate::table::{Against, Bar, Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "herd",
    question: "64 clients at once ask for one blob of 64 MiB that is not cached, the upstream at \
        10 MB/s; direct is one client that asks the upstream.",
    measure,
};

const BYTES: u64 = 64 * MIB;
const CLIENTS: usize = 64;

const LAST: Figure = Figure("last client s");
const UPSTREAM: Figure = Figure("bytes from the upstream ÷ the blob's");

fn measure(lab: &Lab) -> Result<Table> {
    let path = lab.blob(BYTES, 0)?;
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::Direct];
    take_turns(lab, &mut table, &peers, |peer| *peer, |peer, table| turn(lab, *peer, &path, table));
    table.ratio(LAST, Peer::Direct, Bound::AtMost(1.05), None);
    let reach = Bound::AtMost(1.0);
    table.bar(Bar { figure: UPSTREAM, against: Against::Value, reach, goal: None });
    Ok(table)
}

fn turn(lab: &Lab, peer: Peer, path: &str, table: &mut Table) -> Result<()> {
    let slow = lab.upstream.slow_port;
    if peer == Peer::Direct {
        table.add(peer, LAST, download(slow, path)?.last_byte.as_secs_f64());
        return Ok(());
    }
    let running = Running::start(lab, peer, slow)?;
    let sent = sent(lab, path)?;
    let last = all_at_once(running.server.port, path)?;
    // The upstream writes its log when it has done with a request.
    thread::sleep(Duration::from_millis(500));
    let sent = float(self::sent(lab, path)? - sent);
    table.add(peer, LAST, last.as_secs_f64());
    table.add(peer, UPSTREAM, sent / float(BYTES));
    Ok(())
}

/// When the last client had its last byte.
fn all_at_once(port: u16, path: &str) -> Result<Duration> {
    let transfers: Result<Vec<Transfer>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| download(port, path))).collect();
        let join = |client: thread::ScopedJoinHandle<'_, Result<Transfer>>| {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        };
        clients.into_iter().map(join).collect()
    });
    transfers?.iter().map(|transfer| transfer.last_byte).max().context("there were no clients")
}

/// Body bytes of this path that the slow upstream has sent so far.
fn sent(lab: &Lab, path: &str) -> Result<u64> {
    let log = fs::read_to_string(&lab.upstream.slow_log)?;
    let bytes_of = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let bytes = fields.next()?.parse::<u64>().ok()?;
        (fields.next()? == path).then_some(bytes)
    };
    Ok(log.lines().filter_map(bytes_of).sum())
}
