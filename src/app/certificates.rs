//! Certificates are read again when their files change, by whatever means.
//!
//! Files are looked at, not watched: that works on every file system, and through the symbolic
//! links that Kubernetes and certbot swap. A pair that cannot be used is reported once and leaves
//! the one in service.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ports::PortTls;

/// How a certificate's files looked when they were last read.
#[derive(Debug, Default)]
pub(super) struct CertificateWatch {
    seen: Vec<(Arc<Option<PortTls>>, FileStamps)>,
}

impl CertificateWatch {
    /// Reads those that have changed since the last time, and those that are new here: they may
    /// have changed since the configuration was read. Blocks.
    pub(super) fn look(&mut self, ports: impl IntoIterator<Item = Arc<Option<PortTls>>>) {
        let mut before = std::mem::take(&mut self.seen);
        for port in ports {
            let Some(tls) = port.as_ref() else { continue };
            let now = FileStamps::of(tls);
            let known = before.iter().position(|(other, _)| Arc::ptr_eq(other, &port));
            let known = known.map(|at| before.swap_remove(at).1);
            if known != Some(now) {
                renew(tls);
            }
            self.seen.push((port, now));
        }
    }
}

fn renew(tls: &PortTls) {
    let cert = tls.options.cert.display();
    match tls.options.read_again() {
        Ok(identity) => {
            if tls.server.replace(identity) {
                tracing::info!(%cert, "certificate reloaded");
            }
        }
        Err(problem) => {
            let file = &problem.place;
            tracing::error!(
                %file,
                error = problem.what,
                "certificate not reloaded; the old one stays in service"
            );
        }
    }
}

/// How often files are looked at. Certificates are renewed days before they expire, so this is soon
/// enough.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How both files look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamps {
    cert: Option<FileStamp>,
    key: Option<FileStamp>,
}

/// Values that change when a file is written or another one takes its name.
pub(super) type FileStamp = (u64, u64, u64, i64, i64);

impl FileStamps {
    fn of(tls: &PortTls) -> Self {
        Self { cert: stamp(&tls.options.cert), key: stamp(&tls.options.key) }
    }
}

pub(super) fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(path).ok()?;
    let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.len());
    Some((device, inode, length, metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::http::{ServerCertificate, ServerTls};

    fn pair() -> (String, String) {
        let issued = rcgen::generate_simple_self_signed(["larder.test".to_owned()]).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    fn identity((cert, key): &(String, String)) -> ServerCertificate {
        ServerCertificate::from_pem(cert.as_bytes(), key.as_bytes()).unwrap()
    }

    /// Programs that renew certificates do not know how to tell Larder.
    #[test]
    fn a_renewed_pair_is_taken_up_when_it_is_whole_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let put = |name: &str, content: &str| {
            fs::write(path("new"), content).unwrap();
            fs::rename(path("new"), path(name)).unwrap();
        };
        let (old, new, third) = (pair(), pair(), pair());
        put("crt", &old.0);
        put("key", &old.1);
        let (cert, key) = (path("crt"), path("key"));
        let options = config::TlsSettings { cert, key, identity: identity(&old), clients: None };
        let server = ServerTls::new(identity(&old), None, &[]).unwrap();
        let port = Arc::new(Some(PortTls { options, server: server.clone() }));
        let mut watch = CertificateWatch::default();
        let mut look = || watch.look(vec![Arc::clone(&port)]);

        look();
        assert!(server.shows(&identity(&old)));

        put("crt", &new.0);
        look();
        assert!(server.shows(&identity(&old)), "half of a pair is none");

        put("key", &new.1);
        look();
        assert!(server.shows(&identity(&new)));

        fs::remove_file(path("crt")).unwrap();
        look();
        assert!(server.shows(&identity(&new)), "a file that is gone changes nothing");

        put("crt", &third.0);
        put("key", &third.1);
        look();
        assert!(server.shows(&identity(&third)));
    }

    /// The configuration was read some time before the files are looked at for the first time.
    #[test]
    fn what_changed_before_the_first_look_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (pair(), pair());
        let (cert, key) = (dir.path().join("crt"), dir.path().join("key"));
        fs::write(&cert, &new.0).unwrap();
        fs::write(&key, &new.1).unwrap();
        let options = config::TlsSettings { cert, key, identity: identity(&old), clients: None };
        let server = ServerTls::new(identity(&old), None, &[]).unwrap();

        CertificateWatch::default()
            .look(vec![Arc::new(Some(PortTls { options, server: server.clone() }))]);

        assert!(server.shows(&identity(&new)));
    }
}
