//! Does the cache slow a fetch down whose upstream is the slowest part?

use anyhow::{Result, ensure};

use super::{Row, Running, take_turns};
use crate::client::download;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::MIB;
use crate::table::{Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "cold-limited",
    question: "A blob of 512 MiB that is not cached, the upstream at 100 MB/s for each connection, \
        each time a new server with an empty cache.",
    measure,
};

const BYTES: u64 = 512 * MIB;

const CPU: Figure = Figure("CPU s");
const WALL: Figure = Figure("wall s");

fn measure(lab: &Lab) -> Result<Table> {
    let path = lab.blob(BYTES, 0)?;
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::NginxProxy, Peer::Direct];
    // The upstream reads it from memory.
    download(lab.upstream.port, &path)?;
    take_turns(lab, &mut table, &peers, |peer| *peer, |peer, table| turn(lab, *peer, &path, table));
    table.ratio(WALL, Peer::Direct, Bound::AtMost(1.02), None);
    Ok(table)
}

fn turn(lab: &Lab, peer: Peer, path: &str, table: &mut Table) -> Result<()> {
    let upstream = lab.upstream.limited_port;
    if peer == Peer::Direct {
        table.add(peer, WALL, download(upstream, path)?.last_byte.as_secs_f64());
        return Ok(());
    }
    let running = Running::start(lab, peer, upstream)?;
    let before = running.server.cpu_settled()?;
    let transfer = download(running.server.port, path)?;
    ensure!(transfer.bytes == BYTES, "{} bytes came", transfer.bytes);
    table.add(peer, WALL, transfer.last_byte.as_secs_f64());
    table.add(peer, CPU, running.server.cpu_settled()? - before);
    Ok(())
}
