//! A push or a delete overtakes what is being asked: over the cache itself, as pushes use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use larder::access::{AccessRequest, Action, Grant, ListenerAccess, LoginCache, Principal};
use larder::cache::{BlobNeed, Cache, CacheError, Decision, ListKind};
use larder::http::{EgressRoute, InstanceId, Via};
use larder::oci::{AcceptSet, Digest, Reference, Resource};
use larder::registry::RegistrySet;
use larder::store::{BootClock, Store, VerifiedContent};
use larder::upstream;
use tokio::task::JoinHandle;

use crate::support::clock::TestClock;
use crate::support::proxy::files_under;
use crate::support::{Blob, Fault, Gate, Image, Manifest, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "owner/app";

/// A cache, the right to pull from one repository, and the registry behind it.
struct Case {
    cache: Cache,
    grant: Grant,
    hub: ScriptedRegistry,
    setup: Setup,
    clock: Arc<TestClock>,
}

async fn case() -> Case {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("registry.test", &hub);
    let clock = Arc::new(TestClock::new());
    let (cache, grant) = open(&setup, &clock).await;
    Case { cache, grant, hub, setup, clock }
}

async fn open(setup: &Setup, clock: &Arc<TestClock>) -> (Cache, Grant) {
    let egress = EgressRoute::direct(Arc::new(setup.network.clone()), InstanceId::random());
    let table = RegistrySet::build(&setup.settings.registries, &egress, None).unwrap();
    let machine = BootClock { clock: clock.clone(), ..BootClock::default() };
    let store = Arc::new(Store::open(setup.settings.store.clone(), machine).unwrap());
    let cache = Cache::new(store, clock.clone(), setup.settings.cache);
    let (registry, repository) =
        (table.default_registry().unwrap().clone(), REPOSITORY.parse().unwrap());
    let access = ListenerAccess::new(setup.access.clone(), Arc::new(LoginCache::new().unwrap()));
    let nobody = Principal::anonymous(Via::default());
    let (action, resource, address) = (Action::Pull, &Resource::Tags, [127, 0, 0, 1].into());
    let wish = AccessRequest {
        registry,
        repository,
        action,
        resource,
        address,
        may_ask: true,
        lengths: &cache,
    };
    let granted = access.grant(&nobody, wish);
    let grant = granted.await.unwrap();
    (cache, grant)
}

impl Case {
    /// The digest of the tag now, and the decision that gave it.
    async fn tag(&self) -> Result<(Digest, Decision), CacheError> {
        tag(self.cache.clone(), self.grant.clone(), "").await
    }

    fn tag_from_another_client(&self) -> JoinHandle<Result<(Digest, Decision), CacheError>> {
        tokio::spawn(tag(self.cache.clone(), self.grant.clone(), ""))
    }

    async fn tags(&self) -> Result<String, CacheError> {
        tags(self.cache.clone(), self.grant.clone(), "").await
    }

    /// As the upstream took it, by tag.
    async fn push(&self, manifest: &Manifest) {
        self.hub.put_tagged(REPOSITORY, "v1", manifest);
        let verified =
            VerifiedContent::check(manifest.digest(), manifest.blob.bytes.clone()).unwrap();
        let media_type = Some(manifest.media_type.parse().unwrap());
        let tags = ["v1".parse().unwrap()];
        let since = self.cache.changes().epoch();
        self.cache
            .changes()
            .manifest_pushed(&self.grant, media_type, verified, &tags, since)
            .await
            .unwrap();
    }

    /// Holds the next answer about this, and says when it was asked for.
    fn holds(&self, needle: &str) -> Gate {
        let gate = Gate::new();
        self.hub.breaks(When::asked(needle).nth(1), Fault::HoldHeaders(gate.clone()));
        gate
    }
}

async fn tag(cache: Cache, grant: Grant, accept: &str) -> Result<(Digest, Decision), CacheError> {
    let reference: Reference = "v1".parse().unwrap();
    let pulled = cache.manifest(&grant, &reference, &AcceptSet::parse([accept])).await?;
    Ok((Digest::of(larder::oci::Algorithm::Sha256, pulled.what.body()), pulled.decision))
}

async fn tags(cache: Cache, grant: Grant, query: &str) -> Result<String, CacheError> {
    let page = ListKind::Tags.page(query).unwrap();
    let pulled = cache.list(&grant, &ListKind::Tags, &page).await?;
    Ok(String::from_utf8(pulled.what.body.to_vec()).unwrap())
}

fn images() -> (Image, Image) {
    (Image::random(1, &[10]), Image::random(2, &[10]))
}

/// The one who pushed must not be told of the image before, nor anybody else from then on.
#[tokio::test(start_paused = true)]
async fn a_revalidation_from_before_a_push_is_not_cached() {
    let case = case().await;
    let (old, new) = images();
    case.hub.put_tagged(REPOSITORY, "v1", &old.manifest);
    assert_eq!(case.tag().await.unwrap().0, *old.manifest.digest());
    tokio::time::advance(TAG_TTL * 2).await;
    case.hub.forget();
    // It has answered for the old one when the push comes; the answer has only not arrived yet.
    let gate = Gate::new();
    let digest = vec![("Docker-Content-Digest", old.manifest.digest().to_string())];
    case.hub.breaks(When::asked("/manifests/v1").nth(1), Fault::Status(200, digest, ""));
    case.hub.breaks(When::asked("/manifests/v1").nth(1), Fault::HoldHeaders(gate.clone()));
    let overtaken = case.tag_from_another_client();
    gate.reached().await;

    case.push(&new.manifest).await;
    let pusher = case.tag().await.unwrap();
    gate.open();
    drop(overtaken.await.unwrap());
    let later = case.tag().await.unwrap();

    assert_eq!(pusher, (new.manifest.digest().clone(), Decision::Hit));
    assert_eq!(later, (new.manifest.digest().clone(), Decision::Hit));
    assert_eq!(case.hub.asked().len(), 1, "what was pushed is read from the cache");
    // On disk, too.
    let Case { cache, setup, clock, .. } = case;
    drop(cache);
    let (cache, grant) = open(&setup, &clock).await;
    assert_eq!(tag(cache, grant, "").await.unwrap().0, *new.manifest.digest());
}

/// After a delete, a question from before may still say that it is there.
#[tokio::test(start_paused = true)]
async fn no_client_joins_a_revalidation_that_began_before_a_delete() {
    let case = case().await;
    let (old, _) = images();
    case.hub.put_tagged(REPOSITORY, "v1", &old.manifest);
    let gate = case.holds("/manifests/v1");
    let before = case.tag_from_another_client();
    gate.reached().await;

    case.hub.delete(REPOSITORY);
    case.cache.changes().tags_changed(&case.grant, &["v1".parse().unwrap()]).await;
    let after = case.tag().await;

    assert!(after.as_ref().is_err_and(is_gone), "{after:?}");
    assert!(!before.is_finished(), "who asked before still waits");
    gate.open();
    drop(before.await.unwrap());
    let later = case.tag().await;
    assert!(matches!(later, Err(CacheError::Absent { .. })), "{later:?}");
}

/// The fill goes on for its own readers.
#[tokio::test(start_paused = true)]
async fn no_client_joins_a_fill_that_began_before_a_delete() {
    let case = case().await;
    let blob = Blob::random(1, 1000);
    case.hub.put_blob(REPOSITORY, &blob);
    let gate = Gate::new();
    case.hub.breaks(When::asked("/blobs/").nth(1), Fault::HoldAt(100, gate.clone()));
    let pull = || case.cache.blob(&case.grant, &blob.digest, BlobNeed::Bytes);
    let before = pull().await.unwrap();
    gate.reached().await;
    assert!(pull().await.is_ok(), "joined");

    case.hub.collect_garbage(REPOSITORY, &blob.digest);
    case.cache.changes().blob_deleted(&case.grant, &blob.digest).await;
    let after = pull().await.map(|pulled| pulled.decision);
    let head = case.cache.blob_head(&case.grant, &blob.digest).await;

    assert!(after.as_ref().is_err_and(is_gone), "{after:?}");
    assert!(head.as_ref().is_err_and(is_gone), "{head:?}");
    gate.open();
    let body = before.what.whole().collect().await.unwrap();
    assert_eq!(body.to_bytes(), blob.bytes);
}

fn is_gone(error: &CacheError) -> bool {
    matches!(error, CacheError::Upstream(upstream::UpstreamError::NotFound { .. }))
}

/// A 404 is believed for a minute; but not when the thing was pushed in that minute.
#[tokio::test(start_paused = true)]
async fn a_push_ends_a_cached_404() {
    let case = case().await;
    let (_, new) = images();
    assert!(case.tag().await.is_err());
    assert!(case.tag().await.is_err());
    let page = || tags(case.cache.clone(), case.grant.clone(), "n=5");
    assert!(case.tags().await.is_err());
    assert!(page().await.is_err());

    case.push(&new.manifest).await;
    case.hub
        .breaks(When::asked("/tags/list"), Fault::Status(200, Vec::new(), r#"{"tags":["v1"]}"#));

    assert_eq!(case.tag().await.unwrap().0, *new.manifest.digest());
    assert_eq!(case.tags().await.unwrap(), r#"{"tags":["v1"]}"#);
    assert_eq!(page().await.unwrap(), r#"{"tags":["v1"]}"#);
}

/// A list that lacks what was just pushed fails the job behind the push.
#[tokio::test(start_paused = true)]
async fn a_list_from_before_a_push_is_not_served() {
    let case = case().await;
    let (_, new) = images();
    let answer = |tags: &'static str| Fault::Status(200, Vec::new(), tags);
    case.hub.breaks(When::asked("/tags/list").nth(1), answer(r#"{"tags":["v0"]}"#));
    case.hub.breaks(When::asked("/tags/list").nth(2), answer(r#"{"tags":["slow"]}"#));
    case.hub.breaks(When::asked("/tags/list").nth(3), answer(r#"{"tags":["v0","v1"]}"#));
    assert_eq!(case.tags().await.unwrap(), r#"{"tags":["v0"]}"#);
    tokio::time::advance(TAG_TTL * 2).await;
    let gate = Gate::new();
    case.hub.breaks(When::asked("/tags/list").nth(1), Fault::HoldHeaders(gate.clone()));
    let overtaken = tokio::spawn(tags(case.cache.clone(), case.grant.clone(), ""));
    gate.reached().await;

    case.push(&new.manifest).await;
    let pusher = case.tags().await.unwrap();
    gate.open();
    drop(overtaken.await.unwrap());

    assert_eq!(pusher, r#"{"tags":["v0","v1"]}"#);
    assert_eq!(case.tags().await.unwrap(), r#"{"tags":["v0","v1"]}"#);
}

/// A client that takes other types has a record of its own, which a push makes old as well.
#[tokio::test(start_paused = true)]
async fn a_push_invalidates_the_tag_under_every_accept() {
    let case = case().await;
    let image = Image::random(1, &[10]);
    let index = Manifest::index(&[&image.manifest]);
    let other = Image::random(2, &[10]);
    let other_index = Manifest::index(&[&other.manifest]);
    let narrow = image.manifest.media_type.clone();
    let narrowly = || tag(case.cache.clone(), case.grant.clone(), &narrow);
    case.hub.put_manifest(REPOSITORY, &image.manifest);
    case.hub.put_manifest(REPOSITORY, &index);
    case.hub.tag(REPOSITORY, "v1", &[&index, &image.manifest]);
    assert_eq!(narrowly().await.unwrap().0, *image.manifest.digest());
    let dir = case.setup.settings.store.dir.join("registries/registry.test").join(REPOSITORY);
    let is_view = |path: &PathBuf| path.to_string_lossy().contains("/_tags-");
    let views = || files_under(&dir).into_iter().filter(is_view).count();
    assert_eq!(views(), 1);

    case.push(&other_index).await;
    assert_eq!(views(), 0, "nor must a later process find it");
    case.hub.put_manifest(REPOSITORY, &other.manifest);
    case.hub.tag(REPOSITORY, "v1", &[&other_index, &other.manifest]);

    assert_eq!(narrowly().await.unwrap().0, *other.manifest.digest());
    assert_eq!(views(), 1);
}

/// One tag's push is no other tag's business.
#[tokio::test(start_paused = true)]
async fn a_push_leaves_other_tags_cached() {
    let case = case().await;
    let (old, new) = images();
    case.hub.put_tagged(REPOSITORY, "v1", &old.manifest);
    case.tag().await.unwrap();
    case.hub.forget();

    let verified =
        VerifiedContent::check(new.manifest.digest(), new.manifest.blob.bytes.clone()).unwrap();
    let tags = ["v2".parse().unwrap()];
    let since = case.cache.changes().epoch();
    case.cache.changes().manifest_pushed(&case.grant, None, verified, &tags, since).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;

    assert_eq!(case.tag().await.unwrap(), (old.manifest.digest().clone(), Decision::Hit));
    case.hub.assert_not_asked();
}

/// hyper moves the future of each request. What only a miss or the disk needs is boxed, or hits pay
/// for it.
#[tokio::test]
async fn the_futures_of_pulls_are_small() {
    let case = case().await;
    let Case { cache, grant, .. } = &case;
    let (tag, digest) = ("v1".parse().unwrap(), Digest::of(larder::oci::Algorithm::Sha256, b""));
    let (by_digest, accept) = (Reference::Digest(digest.clone()), AcceptSet::parse([""]));
    let by_tag = Reference::Tag(tag);

    for (name, size, max) in [
        ("manifest by tag", size_of_val(&cache.manifest(grant, &by_tag, &accept)), 3000),
        ("manifest by digest", size_of_val(&cache.manifest(grant, &by_digest, &accept)), 3000),
        ("blob", size_of_val(&cache.blob(grant, &digest, BlobNeed::Bytes)), 1600),
        ("head of a blob", size_of_val(&cache.blob_head(grant, &digest)), 1000),
    ] {
        assert!(size <= max, "{name}: {size} bytes");
    }
}
