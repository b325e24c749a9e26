//! Which questions are answered, and in which order?

mod blob_hit;
mod carry;
mod cold_blob;
mod cold_limited;
mod first_byte;
mod herd;
mod manifest_hit;
mod push;
mod scale;
mod stalled;

use anyhow::Result;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::peers::Peer;
use crate::process::Server;
use crate::table::Table;

/// One question.
pub(crate) struct Row {
    /// The name that filters match.
    pub(crate) name: &'static str,
    pub(crate) question: &'static str,
    pub(crate) measure: fn(&Lab) -> Result<Table>,
}

pub(crate) const ALL: &[Row] = &[
    blob_hit::ROW,
    blob_hit::TLS_ROW,
    manifest_hit::ROW,
    cold_blob::ROW,
    cold_limited::ROW,
    first_byte::ROW,
    herd::ROW,
    push::ROW,
    push::FAST_ROW,
    push::REGISTRY_ROW,
    stalled::ROW,
    stalled::TLS_ROW,
    carry::EXPORT_ROW,
    carry::IMPORT_ROW,
    scale::ROW,
];

/// A server that is measured several times, with the directory of its state.
struct Running {
    peer: Peer,
    // Before the directory, so that it has stopped when that goes.
    server: Server,
    _state: TempDir,
}

impl Running {
    /// Starts a server with an empty cache.
    fn start(lab: &Lab, peer: Peer, upstream: u16) -> Result<Self> {
        let state = lab.state()?;
        let server = peer.start(lab, state.path(), upstream)?;
        Ok(Self { peer, server, _state: state })
    }
}

/// Starts all of them and lets each get ready. A server that cannot is noted as not measured.
fn start_all(
    lab: &Lab,
    table: &mut Table,
    peers: &[Peer],
    ready: impl Fn(&Server) -> Result<()>,
) -> Vec<Running> {
    let start = |peer: &Peer| {
        let running = Running::start(lab, *peer, lab.upstream.port)?;
        ready(&running.server).map(|()| running)
    };
    let keep = |peer: &Peer| start(peer).inspect_err(|error| table.miss(*peer, error)).ok();
    peers.iter().filter_map(keep).collect()
}

/// Lets them take turns, and notes who fails.
fn take_turns<T>(
    lab: &Lab,
    table: &mut Table,
    all: &[T],
    peer: impl Fn(&T) -> Peer,
    measure: impl Fn(&T, &mut Table) -> Result<()>,
) {
    for _ in 0..lab.runs {
        for one in all {
            let peer = peer(one);
            if table.has_missed(peer) {
                continue;
            }
            if let Err(error) = measure(one, table) {
                table.miss(peer, &error);
            }
        }
    }
}
