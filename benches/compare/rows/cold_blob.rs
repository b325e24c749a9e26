//! What does a missing gigabyte cost, from a fast upstream into the cache and to the client?

use anyhow::{Result, ensure};

use super::{Row, Running, take_turns};
use crate::client::download;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::GIB;
use crate::table::{Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "cold-blob",
    question: "A blob of 1 GiB that is not cached, the upstream as fast as loopback, each time a \
        new server with an empty cache. nginx checks no digest.",
    measure,
};

const CPU: Figure = Figure("CPU s");
const FIRST: Figure = Figure("first byte ms");
const WALL: Figure = Figure("wall s");

fn measure(lab: &Lab) -> Result<Table> {
    let path = lab.blob(GIB, 0)?;
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::NginxProxy, Peer::Registry, Peer::Direct];
    // The upstream reads it from memory.
    download(lab.upstream.port, &path)?;
    take_turns(lab, &mut table, &peers, |peer| *peer, |peer, table| turn(lab, *peer, &path, table));
    let proxy = Peer::NginxProxy;
    table.ratio(WALL, proxy, Bound::AtMost(1.0), Some(Bound::AtMost(0.8)));
    table.ratio(CPU, proxy, Bound::AtMost(1.25), Some(Bound::AtMost(1.1)));
    Ok(table)
}

fn turn(lab: &Lab, peer: Peer, path: &str, table: &mut Table) -> Result<()> {
    if peer == Peer::Direct {
        let transfer = download(lab.upstream.port, path)?;
        table.add(peer, WALL, transfer.last_byte.as_secs_f64());
        table.add(peer, FIRST, transfer.first_byte.as_secs_f64() * 1e3);
        return Ok(());
    }
    let running = Running::start(lab, peer, lab.upstream.port)?;
    let before = running.server.cpu_settled()?;
    let transfer = download(running.server.port, path)?;
    let cpu = running.server.cpu_settled()? - before;
    ensure!(transfer.bytes == GIB, "{} bytes came", transfer.bytes);
    table.add(peer, WALL, transfer.last_byte.as_secs_f64());
    table.add(peer, FIRST, transfer.first_byte.as_secs_f64() * 1e3);
    table.add(peer, CPU, cpu);
    Ok(())
}
