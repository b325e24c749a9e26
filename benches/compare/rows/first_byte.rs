//! How much later does the first byte of a missing blob come than without a cache?

use anyhow::Result;

use super::{Row, start_all};
use crate::client::download;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::stats::MIB;
use crate::table::{Against, Bar, Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "first-byte",
    question: "The first byte of a blob of 4 MiB that is not cached, ten blobs in each run, over a \
        new connection; the server has fetched another blob before.",
    measure,
};

const BLOB_BYTES: u64 = 4 * MIB;
const BLOBS: u64 = 10;

const FIRST: Figure = Figure("first byte ms");
const LAST: Figure = Figure("last byte ms");

fn measure(lab: &Lab) -> Result<Table> {
    let mut table = Table::default();
    let other = lab.blob(BLOB_BYTES, 0)?;
    let peers = [Peer::Larder, Peer::NginxProxy, Peer::Registry];
    let all = start_all(lab, &mut table, &peers, |server| download(server.port, &other).map(drop));
    let direct = (Peer::Direct, lab.upstream.port);
    let servers: Vec<_> =
        all.iter().map(|running| (running.peer, running.server.port)).chain([direct]).collect();
    for seed in 1..=lab.runs as u64 * BLOBS {
        let path = lab.blob(BLOB_BYTES, seed)?;
        for &(peer, port) in &servers {
            let transfer = download(port, &path)?;
            table.add(peer, FIRST, transfer.first_byte.as_secs_f64() * 1e3);
            table.add(peer, LAST, transfer.last_byte.as_secs_f64() * 1e3);
        }
    }
    let (against, reach) = (Against::Difference(Peer::Direct), Bound::AtMost(2.0));
    table.bar(Bar { figure: FIRST, against, reach, goal: None });
    Ok(table)
}
