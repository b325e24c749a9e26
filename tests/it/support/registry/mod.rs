//! An upstream registry that does what the test says: honest by default, wrong on demand.
//!
//! It speaks HTTP/1.1 byte by byte, in memory or over TCP, at as many hosts as it is put at: the
//! registry itself (`/v2/…`), a token server (`/token`), and a CDN (`/cdn/…`). Every request is
//! recorded before it is answered.
//!
//! It has no referrers, and tag lists only after [`ScriptedRegistry::knows_lists`].

mod answer;
mod asked;
mod auth;
mod content;
mod fault;
mod gate;
mod pushes;
mod wire;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use larder::http::NetworkConnection;
use larder::oci::Digest;
use tokio::sync::watch;

pub use asked::Asked;
pub use auth::{Auth, User, basic};
pub use fault::{Fault, Place, When};
pub use gate::Gate;

use super::image::{Blob, Image, Manifest};
use super::network::{Server, listen};
use auth::Guard;
use content::{Content, Entity};
use fault::Script;
use pushes::Uploads;

/// A registry. Clones are the same one.
#[derive(Clone, Default)]
pub struct ScriptedRegistry {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    content: Mutex<Content>,
    script: Mutex<Script>,
    guard: Mutex<Guard>,
    uploads: Mutex<Uploads>,
    log: Mutex<Vec<Arc<Asked>>>,
    arrivals: watch::Sender<usize>,
    /// The path below which it is; elsewhere at its hosts there is nothing.
    base: Mutex<String>,
}

impl ScriptedRegistry {
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on a free loopback port until the runtime ends.
    pub async fn listen(&self) -> SocketAddr {
        listen(self.clone()).await
    }
}

/// Its content.
impl ScriptedRegistry {
    /// Holds a blob in a repository.
    pub fn put_blob(&self, repository: &str, blob: &Blob) {
        self.repository(repository, |content| {
            content.blobs.insert(blob.digest.to_string(), blob.bytes.clone());
        });
    }

    /// Holds a manifest in a repository.
    pub fn put_manifest(&self, repository: &str, manifest: &Manifest) {
        let entity = Entity {
            bytes: manifest.blob.bytes.clone(),
            digest: manifest.digest().to_string(),
            media_type: manifest.media_type.clone(),
        };
        self.repository(repository, |content| {
            content.manifests.insert(entity.digest.clone(), entity);
        });
    }

    /// Holds a manifest under a tag.
    pub fn put_tagged(&self, repository: &str, tag: &str, manifest: &Manifest) {
        self.put_manifest(repository, manifest);
        self.tag(repository, tag, &[manifest]);
    }

    /// Holds an image, with all its blobs, under a tag.
    pub fn put_image(&self, repository: &str, tag: &str, image: &Image) {
        self.put_tagged(repository, tag, &image.manifest);
        for blob in image.blobs() {
            self.put_blob(repository, blob);
        }
    }

    /// Lets a tag mean the first of these that the request's `Accept` takes.
    pub fn tag(&self, repository: &str, tag: &str, meanings: &[&Manifest]) {
        let meanings = meanings.iter().map(|manifest| manifest.digest().to_string()).collect();
        self.repository(repository, |content| {
            content.tags.insert(tag.to_owned(), meanings);
        });
    }

    /// Forgets a repository.
    pub fn delete(&self, repository: &str) {
        self.shared.content.lock().unwrap().repositories.remove(repository);
    }

    /// Answers every request in a repository with this status; `None` ends it.
    pub fn refuse(&self, repository: &str, status: Option<u16>) {
        self.repository(repository, |content| content.refuses = status);
    }

    /// Is below this path from now on, its token server and its CDN too. Requests are recorded
    /// without it.
    pub fn is_below(&self, path: &str) {
        path.clone_into(&mut self.shared.base.lock().unwrap());
        self.locate_uploads_at(path);
    }

    /// Redirects blobs to `base`, a URL of a host that this registry is put at too.
    pub fn redirect_blobs_to(&self, base: &str) {
        self.shared.content.lock().unwrap().cdn = Some(base.to_owned());
    }

    /// Answers lists of tags honestly, on one page.
    pub fn knows_lists(&self) {
        self.shared.content.lock().unwrap().knows_lists = true;
    }

    /// Refuses manifests by digest to an `Accept` that does not name their type.
    pub fn be_strict_about_accept(&self) {
        self.shared.content.lock().unwrap().is_strict_about_accept = true;
    }

    /// Lets locations of uploads begin with this, instead of being relative.
    pub fn locate_uploads_at(&self, base: &str) {
        base.clone_into(&mut self.shared.uploads.lock().unwrap().base);
    }

    /// Answers `OCI-Subject` from now on.
    pub fn knows_referrers(&self) {
        self.shared.uploads.lock().unwrap().has_referrers = true;
    }

    /// Mounts a blob from any repository that has it when a client names no source, as the
    /// distribution-spec allows ("Mounting a blob from another repository").
    pub fn mounts_from_anywhere(&self) {
        self.shared.uploads.lock().unwrap().searches = true;
    }

    /// Forgets a blob, as garbage collection does.
    pub fn collect_garbage(&self, repository: &str, digest: &Digest) {
        self.repository(repository, |content| {
            content.blobs.remove(digest.as_str());
        });
    }

    /// How many uploads have neither ended nor been cancelled.
    pub fn uploads(&self) -> usize {
        self.shared.uploads.lock().unwrap().len()
    }

    /// The bytes of a blob in a repository.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        let content = self.shared.content.lock().unwrap();
        content.repositories.get(repository)?.blobs.get(digest.as_str()).cloned()
    }

    /// The digest of a tag.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<String> {
        let content = self.shared.content.lock().unwrap();
        content.repositories.get(repository)?.tags.get(tag)?.first().cloned()
    }

    fn repository(&self, name: &str, change: impl FnOnce(&mut content::Repository)) {
        let mut content = self.shared.content.lock().unwrap();
        change(content.repositories.entry(name.to_owned()).or_default());
    }
}

/// Its behaviour.
impl ScriptedRegistry {
    /// Does something wrong from now on.
    pub fn breaks(&self, when: When, fault: Fault) {
        self.shared.script.lock().unwrap().add(when, fault);
    }

    /// Does nothing wrong any more, and lets go what it held.
    pub fn heal(&self) {
        self.shared.script.lock().unwrap().clear();
    }

    /// Wants this from those who ask, from now on; tokens given out before are void.
    pub fn requires(&self, auth: Auth) {
        let mut guard = self.shared.guard.lock().unwrap();
        guard.auth = auth;
        guard.revoke();
    }

    /// The same for what comes; tokens that were given out are good as long as they live.
    pub fn requires_from_now_on(&self, auth: Auth) {
        self.shared.guard.lock().unwrap().auth = auth;
    }

    /// Answers 404 to those who ask for something in a repository without a credential.
    pub fn hides_what_is_private(&self) {
        self.shared.guard.lock().unwrap().hides = true;
    }

    /// Voids the tokens given out.
    pub fn revoke_tokens(&self) {
        self.shared.guard.lock().unwrap().revoke();
    }
}

/// The requests that it got.
impl ScriptedRegistry {
    /// The credential of a request: a user's name, `nobody` with an anonymous token, and `None`
    /// without a token.
    pub fn asker(&self, asked: &Asked) -> Option<String> {
        self.shared.guard.lock().unwrap().asker(asked)
    }

    /// Everybody with whose credential anything was asked, sorted.
    pub fn askers(&self) -> Vec<String> {
        let asked = self.asked();
        let mut askers: Vec<_> = asked.iter().filter_map(|asked| self.asker(asked)).collect();
        askers.sort();
        askers.dedup();
        askers
    }

    /// Every request since the last [`ScriptedRegistry::forget`], in order.
    pub fn asked(&self) -> Vec<Arc<Asked>> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The requests by `method` whose path and query contain `needle`.
    pub fn changes(&self, method: &str, needle: impl fmt::Display) -> Vec<Arc<Asked>> {
        self.asked_by(method, &needle.to_string())
    }

    /// Bytes of bodies that came with requests.
    pub fn received(&self) -> u64 {
        self.asked().iter().map(|asked| asked.body.len() as u64).sum()
    }

    /// The GETs whose path and query contain `needle`.
    pub fn gets(&self, needle: impl fmt::Display) -> Vec<Arc<Asked>> {
        self.asked_by("GET", &needle.to_string())
    }

    /// The HEADs whose path and query contain `needle`.
    pub fn heads(&self, needle: impl fmt::Display) -> Vec<Arc<Asked>> {
        self.asked_by("HEAD", &needle.to_string())
    }

    /// Bytes of bodies sent in answer to GETs whose path and query contain `needle`.
    pub fn body_bytes(&self, needle: impl fmt::Display) -> u64 {
        self.gets(needle).iter().map(|asked| asked.body_sent()).sum()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        self.shared.log.lock().unwrap().clear();
    }

    /// Fails if anything was asked since the last [`ScriptedRegistry::forget`].
    #[track_caller]
    pub fn assert_not_asked(&self) {
        let asked = self.asked();
        let asked: Vec<_> =
            asked.iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect();
        assert!(asked.is_empty(), "the upstream was asked: {asked:#?}");
    }

    /// Waits for the next request from now on.
    pub async fn next_request(&self) {
        self.shared.arrivals.subscribe().changed().await.unwrap();
    }

    fn asked_by(&self, method: &str, needle: &str) -> Vec<Arc<Asked>> {
        let mut asked = self.asked();
        asked.retain(|asked| asked.method == method && asked.target.contains(needle));
        asked
    }
}

impl Server for ScriptedRegistry {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(wire::serve(&self.shared, io))
    }
}
