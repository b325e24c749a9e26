//! The checks once a disk works again and nothing is asked any more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::oci::{Algorithm, Digest};
use tokio::time::Instant;

use crate::support::Process;
use crate::support::metrics::Metrics;
use crate::support::proxy::files_under;
use crate::support::usage::du;

/// Leftovers are removed at once, and the counters follow each second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing is left of what was not completed, every blob is what its name says, the counters are
/// `du`'s, and no file that is gone is held open.
pub async fn at_rest(larder: &Process) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let looked = look(larder).await;
        if looked.is_ok() || Instant::now() > until {
            return looked;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn look(larder: &Process) -> Result<(), String> {
    for part in ["fills", "uploads"] {
        let left = larder.files(part);
        if !left.is_empty() {
            return Err(format!("left in {part}: {left:?}"));
        }
    }
    for (path, _) in larder.files("blobs") {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        if path.file_name().and_then(|name| name.to_str()) != Some(digest.hex()) {
            return Err(format!("{} is stored with other bytes", path.display()));
        }
    }
    let links = larder.descriptors().into_iter().filter_map(|fd| fs::read_link(fd).ok());
    let gone = |link: &Path| {
        link.starts_with(larder.cache_dir()) && link.to_string_lossy().ends_with(" (deleted)")
    };
    if let Some(link) = links.into_iter().find(|link| gone(link)) {
        return Err(format!("held open: {}", link.display()));
    }
    counters_agree(larder).await
}

async fn counters_agree(larder: &Process) -> Result<(), String> {
    let metrics = larder.admin().get("/metrics").await;
    if metrics.status != 200 {
        return Err(format!("/metrics: {}", metrics.status));
    }
    let used = Metrics::read(&metrics_text(&metrics.body)).sum("larder_store_used_bytes", &[]);
    let taken = du(larder.cache_dir());
    if used.abs_diff(taken) * 100 > taken {
        return Err(format!("{used} bytes counted, {taken} taken"));
    }
    let sums = larder.cache_dir().join("sums");
    let without = files_under(&sums).into_iter().find(|path| {
        !larder.cache_dir().join("blobs").join(path.strip_prefix(&sums).unwrap()).exists()
    });
    without.map_or(Ok(()), |path| Err(format!("{} is without its blob", path.display())))
}

fn metrics_text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
