//! How many manifests per second are served, and per second of CPU?

use anyhow::{Result, ensure};

use super::{Row, Running, start_all, take_turns};
use crate::client::Client;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::process::Server;
use crate::requests;
use crate::table::{Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "manifest-hit",
    question: "A cached manifest of six layers, by digest and by tag within its TTL, 32 keep-alive \
        connections; nginx sends the same bytes as a file.",
    measure,
};

const DIGEST_RATE: Figure = Figure("by digest: requests/s");
const DIGEST_CPU: Figure = Figure("by digest: requests/CPU s");
const TAG_RATE: Figure = Figure("by tag: requests/s");
const TAG_CPU: Figure = Figure("by tag: requests/CPU s");

#[allow(clippy::unnecessary_wraps, reason = "other rows can fail")]
fn measure(lab: &Lab) -> Result<Table> {
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::NginxStatic, Peer::NginxOpenFiles, Peer::Registry];
    let all = start_all(lab, &mut table, &peers, |server| check(server, lab));
    let turn = |running: &Running, table: &mut Table| turn(running, lab, table);
    take_turns(lab, &mut table, &all, |running| running.peer, turn);
    let (reach, goal) = (Bound::AtLeast(0.9), Some(Bound::AtLeast(1.2)));
    for figure in [DIGEST_RATE, DIGEST_CPU, TAG_RATE, TAG_CPU] {
        table.ratio(figure, Peer::NginxStatic, reach, goal);
    }
    for (figure, factor) in [(DIGEST_RATE, 20.0), (TAG_RATE, 100.0)] {
        table.ratio(figure, Peer::Registry, Bound::AtLeast(factor), None);
    }
    Ok(table)
}

/// Fetches it, so that it is cached, and sees that the bytes are the right ones.
fn check(server: &Server, lab: &Lab) -> Result<()> {
    let mut client = Client::connect(server.port)?;
    // The tag first, as clients do.
    for path in [&lab.manifest.by_tag, &lab.manifest.by_digest] {
        ensure!(client.bytes(path)? == lab.manifest.bytes, "{path} was answered with other bytes");
    }
    Ok(())
}

fn turn(running: &Running, lab: &Lab, table: &mut Table) -> Result<()> {
    let by_digest = requests::measure(&running.server, &lab.manifest.by_digest)?;
    let by_tag = requests::measure(&running.server, &lab.manifest.by_tag)?;
    table.add(running.peer, DIGEST_RATE, by_digest.per_second);
    table.add(running.peer, DIGEST_CPU, by_digest.per_cpu_second);
    table.add(running.peer, TAG_RATE, by_tag.per_second);
    table.add(running.peer, TAG_CPU, by_tag.per_cpu_second);
    Ok(())
}
