//! Certificates are read again when their files change, whoever renews them.
//!
//! Files are looked at, not watched: that works on every file system, and through the symbolic
//! links that Kubernetes and certbot swap. A pair that cannot be used is reported once and leaves
//! the one in service.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ports::Tls;

/// How a certificate's files looked when they were last read.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Vec<(Arc<Option<Tls>>, Stamps)>,
}

impl Watch {
    /// Reads those that have changed since the last time, and those that are new here: they may
    /// have changed since the configuration was read. Blocks.
    pub(super) fn look(&mut self, ports: Vec<Arc<Option<Tls>>>) {
        let mut before = std::mem::take(&mut self.seen);
        for port in ports {
            let Some(tls) = port.as_ref() else { continue };
            let now = Stamps::of(tls);
            let known = before.iter().position(|(other, _)| Arc::ptr_eq(other, &port));
            let known = known.map(|at| before.swap_remove(at).1);
            if known != Some(now) {
                renew(tls);
            }
            self.seen.push((port, now));
        }
    }
}

fn renew(tls: &Tls) {
    let cert = tls.options.cert.display();
    match tls.options.read_again() {
        Ok(identity) => {
            if tls.server.replace(identity) {
                tracing::info!(%cert, "another certificate is in service");
            }
        }
        Err(problem) => {
            let file = &problem.place;
            tracing::error!(
                %file,
                problem = problem.what,
                "a changed certificate cannot be used, the old one stays in service"
            );
        }
    }
}

/// How often files are looked at. Who renews in time does so days before.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How both files look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamps {
    cert: Option<Stamp>,
    key: Option<Stamp>,
}

/// What changes when a file is written or another one takes its name.
type Stamp = (u64, u64, u64, i64, i64);

impl Stamps {
    fn of(tls: &Tls) -> Self {
        Self { cert: stamp(&tls.options.cert), key: stamp(&tls.options.key) }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.len());
    Some((device, inode, length, metadata.mtime(), metadata.mtime_nsec()))
}
