//! What does serving a cached gigabyte cost, and how long does it take? Plain, and over TLS.

use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::{Row, Running, start_all, take_turns};
use crate::client::Client;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::{GIB, float};
use crate::table::{Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "blob-hit",
    question: "A cached blob of 1 GiB over plain HTTP/1.1, one client, three times on one \
        connection; nginx sends the same file with `sendfile`.",
    measure,
};

const CPU: Figure = Figure("CPU s/GiB");
const WALL: Figure = Figure("wall s/GiB");

/// A tick of CPU time is 10 ms: several transfers make it a small part of what is measured.
const TRANSFERS: u32 = 3;

pub(super) const TLS_ROW: Row = Row {
    name: "blob-hit-tls",
    question: "The same over TLS 1.3 with AES-128-GCM, which is all that the client offers.",
    measure: measure_tls,
};

fn measure(lab: &Lab) -> Result<Table> {
    let mut table = compare(lab, [Peer::Larder, Peer::NginxStatic], None)?;
    let (reach, goal) = (Bound::AtMost(0.85), Bound::AtMost(0.65));
    table.ratio(CPU, Peer::NginxStatic, reach, Some(goal));
    table.ratio(WALL, Peer::NginxStatic, Bound::AtMost(1.0), None);
    Ok(table)
}

fn measure_tls(lab: &Lab) -> Result<Table> {
    let mut table = compare(lab, [Peer::LarderTls, Peer::NginxTls], Some(&lab.tls.client))?;
    let (reach, goal) = (Bound::AtMost(1.1), Bound::AtMost(0.9));
    table.ratio(CPU, Peer::NginxTls, reach, Some(goal));
    Ok(table)
}

fn compare(lab: &Lab, peers: [Peer; 2], tls: Option<&Arc<ClientConfig>>) -> Result<Table> {
    let path = lab.blob(GIB, 0)?;
    let mut table = Table::default();
    let all = start_all(lab, &mut table, &peers, |server| {
        let mut client = Client::connect_by(server.port, tls)?;
        let mut body = client.get(&path)?;
        client.discard(&mut body, 0)?;
        server.cpu_settled().map(drop)
    });
    let turn = |running: &Running, table: &mut Table| turn(running, &path, tls, table);
    take_turns(lab, &mut table, &all, |running| running.peer, turn);
    Ok(table)
}

fn turn(
    running: &Running,
    path: &str,
    tls: Option<&Arc<ClientConfig>>,
    table: &mut Table,
) -> Result<()> {
    let server = &running.server;
    let mut client = Client::connect_by(server.port, tls)?;
    let (cpu, since) = (server.cpu()?, Instant::now());
    let mut bytes = 0;
    for _ in 0..TRANSFERS {
        let mut body = client.get(path)?;
        bytes += body.length;
        client.discard(&mut body, 0)?;
    }
    let gib = float(bytes) / float(GIB);
    table.add(running.peer, WALL, since.elapsed().as_secs_f64() / gib);
    table.add(running.peer, CPU, (server.cpu_settled()? - cpu) / gib);
    Ok(())
}
