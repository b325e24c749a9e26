//! How much memory do clients hold that do not read? Plain, and over TLS.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustls::ClientConfig;

use super::{Row, Running, take_turns};
use crate::client::{Client, Stream, request};
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

pub(super) const TLS_ROW: Row =
    Row { name: "stalled-tls", question: "The same over TLS 1.3.", measure: measure_tls };

fn measure(lab: &Lab) -> Result<Table> {
    let mut table = compare(lab, [Peer::Larder, Peer::NginxStatic], None)?;
    for figure in [SLOW, STOPPED] {
        let (reach, goal) = (Bound::AtMost(100.0), Some(Bound::AtMost(64.0)));
        table.bar(Bar { figure, against: Against::Value, reach, goal });
    }
    Ok(table)
}

fn measure_tls(lab: &Lab) -> Result<Table> {
    let mut table = compare(lab, [Peer::LarderTls, Peer::NginxTls], Some(&lab.tls.client))?;
    for figure in [SLOW, STOPPED] {
        let reach = Bound::AtMost(200.0);
        table.bar(Bar { figure, against: Against::Value, reach, goal: None });
    }
    Ok(table)
}

fn compare(lab: &Lab, peers: [Peer; 2], tls: Option<&Arc<ClientConfig>>) -> Result<Table> {
    let path = lab.blob(BLOB_BYTES, 0)?;
    let mut table = Table::default();
    let turn = |peer: &Peer, table: &mut Table| turn(lab, *peer, &path, tls, table);
    take_turns(lab, &mut table, &peers, |peer| *peer, turn);
    Ok(table)
}

fn turn(
    lab: &Lab,
    peer: Peer,
    path: &str,
    tls: Option<&Arc<ClientConfig>>,
    table: &mut Table,
) -> Result<()> {
    for (figure, fast_bytes) in [(SLOW, 0), (STOPPED, 8 * MIB)] {
        let running = Running::start(lab, peer, lab.upstream.port)?;
        let mut client = Client::connect_by(running.server.port, tls)?;
        let mut body = client.get(path)?;
        client.discard(&mut body, 0)?;
        drop(client);
        running.server.cpu_settled()?;
        table.add(peer, IDLE, running.server.resident()?);
        let readers = readers(running.server.port, path, fast_bytes, tls)?;
        thread::sleep(PAUSE);
        table.add(peer, figure, running.server.resident()?);
        drop(readers);
    }
    Ok(())
}

/// Clients that have read about that much and read no more.
fn readers(
    port: u16,
    path: &str,
    fast_bytes: u64,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Vec<Stream>> {
    let reader = |_| {
        let client = Client::connect_by(port, tls)?;
        client.stop_after(&request(path), fast_bytes)
    };
    (0..READERS).map(reader).collect()
}
