//! How much memory do clients hold that do not read?

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Row, Running, take_turns};
use crate::client::{Client, download, request};
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::MIB;
use crate::table::{Against, Bar, Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "stalled",
    question: "1,000 clients of one cached blob of 256 MiB that stop reading: at once, or after \
        8 MiB as fast as they came. Resident memory of all processes.",
    measure,
};

const READERS: usize = 1000;
const BLOB_BYTES: u64 = 256 * MIB;

const IDLE: Figure = Figure("MiB without clients");
const SLOW: Figure = Figure("MiB, slow from the start");
const STOPPED: Figure = Figure("MiB, fast and then stopped");

/// Until the servers have filled what they fill.
const PAUSE: Duration = Duration::from_secs(2);

fn measure(lab: &Lab) -> Result<Table> {
    let path = lab.blob(BLOB_BYTES, 0)?;
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::NginxStatic];
    take_turns(lab, &mut table, &peers, |peer| *peer, |peer, table| turn(lab, *peer, &path, table));
    for figure in [SLOW, STOPPED] {
        let (reach, goal) = (Bound::AtMost(100.0), Some(Bound::AtMost(64.0)));
        table.bar(Bar { figure, against: Against::Value, reach, goal });
    }
    Ok(table)
}

fn turn(lab: &Lab, peer: Peer, path: &str, table: &mut Table) -> Result<()> {
    for (figure, fast_bytes) in [(SLOW, 0), (STOPPED, 8 * MIB)] {
        let running = Running::start(lab, peer, lab.upstream.port)?;
        download(running.server.port, path)?;
        running.server.cpu_settled()?;
        table.add(peer, IDLE, running.server.resident()?);
        let readers = readers(running.server.port, path, fast_bytes)?;
        thread::sleep(PAUSE);
        table.add(peer, figure, running.server.resident()?);
        drop(readers);
    }
    Ok(())
}

/// Clients that have read about that much and read no more.
fn readers(port: u16, path: &str, fast_bytes: u64) -> Result<Vec<std::net::TcpStream>> {
    let reader = |_| {
        let client = Client::connect(port)?;
        client.stop_after(&request(path), fast_bytes)
    };
    (0..READERS).map(reader).collect()
}
