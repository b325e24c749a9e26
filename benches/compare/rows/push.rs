//! What does a gigabyte cost that is pushed? A registry that takes 100 MB/s, one as fast as
//! loopback, and distribution.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use super::{Row, Running, take_turns};
use crate::client::{Buffer, download, head_end};
use crate::lab::Lab;
use crate::peers::{Peer, registry_for_pushes};
use crate::sink::Sink;
use crate::stats::GIB;
use crate::table::{Bound, Figure, Table};

pub(super) const ROW: Row = Row {
    name: "push-100",
    question: "A blob of 1 GiB is pushed in one PATCH, the upstream taking 100 MB/s, each time \
        through a new server. Larder hashes and keeps it; nginx passes it on.",
    measure: |lab| measure(lab, Some(100_000_000)),
};

pub(super) const FAST_ROW: Row = Row {
    name: "push-fast",
    question: "The same, the upstream taking what comes and keeping nothing.",
    measure: |lab| measure(lab, None),
};

pub(super) const REGISTRY_ROW: Row = Row {
    name: "push-registry",
    question: "The same, the upstream being distribution (`registry-push.yml`), which hashes and \
        keeps it, too.",
    measure: measure_registry,
};

const WALL: Figure = Figure("wall s");
const CPU: Figure = Figure("CPU s");
const RESIDENT: Figure = Figure("MiB at most");

/// Whether the next pull is a hit: 1 or 0. A copy that cannot keep up is given up.
const KEPT: Figure = Figure("copy kept");

const PEERS: [Peer; 3] = [Peer::LarderPush, Peer::NginxPush, Peer::DirectPush];

fn measure(lab: &Lab, bytes_per_s: Option<u64>) -> Result<Table> {
    let sink = Sink::start(bytes_per_s)?;
    let path = lab.blob(GIB, 0)?;
    let mut table = Table::default();
    let turn = |peer: &Peer, table: &mut Table| {
        let running = turn(lab, *peer, &path, sink.port, table)?;
        if let Some(running) = running.filter(|_| *peer == Peer::LarderPush) {
            // The upstream has nothing to answer with.
            let digest = path.rsplit('/').next().unwrap_or_default();
            let is_kept = download(running.server.port, &format!("{PUSHED}/{digest}")).is_ok();
            table.add(*peer, KEPT, f64::from(u8::from(is_kept)));
        }
        Ok(())
    };
    take_turns(lab, &mut table, &PEERS, |peer| *peer, turn);
    if bytes_per_s.is_some() {
        table.ratio(WALL, Peer::DirectPush, Bound::AtMost(1.05), None);
    }
    Ok(table)
}

fn measure_registry(lab: &Lab) -> Result<Table> {
    let path = lab.blob(GIB, 0)?;
    let mut table = Table::default();
    take_turns(
        lab,
        &mut table,
        &PEERS,
        |peer| *peer,
        |peer, table| {
            // A new one each time: it keeps what it is sent.
            let state = lab.state()?;
            let registry = registry_for_pushes(state.path())?;
            turn(lab, *peer, &path, registry.port, table).map(drop)
        },
    );
    Ok(table)
}

/// The server that was measured, if there is one.
fn turn(
    lab: &Lab,
    peer: Peer,
    path: &str,
    upstream: u16,
    table: &mut Table,
) -> Result<Option<Running>> {
    if peer == Peer::DirectPush {
        table.add(peer, WALL, push(lab, upstream, path)?.as_secs_f64());
        return Ok(None);
    }
    let running = Running::start(lab, peer, upstream)?;
    let before = running.server.cpu_settled()?;
    let took = push(lab, running.server.port, path)?;
    let cpu = running.server.cpu_settled()? - before;
    table.add(peer, WALL, took.as_secs_f64());
    table.add(peer, CPU, cpu);
    table.add(peer, RESIDENT, running.server.resident_at_most()?);
    Ok(Some(running))
}

/// POST, PATCH, PUT, as most clients do it; how long that took.
fn push(lab: &Lab, port: u16, path: &str) -> Result<Duration> {
    let digest = path.rsplit('/').next().context("a path of a blob ends with its digest")?;
    let mut file = File::open(lab.root().join(path.trim_start_matches('/')))?;
    let since = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let at = ask(&mut stream, ("POST", &format!("{PUSHED}/uploads/")), 0, 202)?;

    send_head(&mut stream, ("PATCH", &at), GIB)?;
    let mut buffer = Buffer::new();
    let mut sent = 0;
    while sent < GIB {
        let len = file.read(buffer.room())?;
        ensure!(len > 0, "the blob is shorter than it was");
        stream.write_all(&buffer.room()[..len])?;
        sent += len as u64;
    }
    let at = answer(&mut stream, 202)?;

    let and = if at.contains('?') { '&' } else { '?' };
    ask(&mut stream, ("PUT", &format!("{at}{and}digest={digest}")), 0, 201)?;
    Ok(since.elapsed())
}

fn ask(stream: &mut TcpStream, request: (&str, &str), length: u64, status: u16) -> Result<String> {
    send_head(stream, request, length)?;
    answer(stream, status)
}

fn send_head(stream: &mut TcpStream, (method, path): (&str, &str), length: u64) -> Result<()> {
    let port = stream.peer_addr()?.port();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    Ok(stream.write_all(head.as_bytes())?)
}

/// The path of its `Location`.
fn answer(stream: &mut TcpStream, status: u16) -> Result<String> {
    let mut head = Vec::new();
    while head_end(&head).is_none() {
        let mut byte = [0];
        ensure!(stream.read(&mut byte)? == 1, "the connection was closed before a response");
        head.push(byte[0]);
    }
    let head = std::str::from_utf8(&head)?;
    let first = head.lines().next().unwrap_or_default();
    ensure!(first.starts_with(&format!("HTTP/1.1 {status}")), "the answer was {first:?}");
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = fields.filter(|(name, _)| name.eq_ignore_ascii_case("location"));
    let (_, location) = values.next().context("the answer has no Location")?;
    // distribution's is absolute.
    let path = location
        .split_once("://")
        .map_or(location, |(_, rest)| rest.find('/').map_or(rest, |at| &rest[at..]));
    Ok(path.to_owned())
}

const PUSHED: &str = "/v2/bench/pushed/blobs";
