//! The server's end of the socket.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use serde_json::Value;

use super::answer::{ControlFailure, json};
use super::lines::{LineSender, json_lines, open_lines};
use super::received::received_archive;
use super::request::ControlRequest;
use super::stats::CacheStats;
use super::verification::{ContentShare, ContentVerification, RestoreContent};
use super::warm::{WarmJob, WarmWishes, grant_to_warm};
use super::warm_schedule::WarmSchedule;
use crate::bundle::{BundleKey, ImportJob, ImportUpdate, ImportWishes};
use crate::cache::{Cache, KnownRegistries};
use crate::http::{Incoming, ReplyBody, receive_local};
use crate::inventory::{
    ImageName, ImagePattern, PinBook, PinError, RemovalPlan, RemovalTarget, list_images,
    list_pulls, show_image,
};
use crate::registry::RegistryOptions;
use crate::routes::TrafficCounters;
use crate::store::{StoreView, blocking};

/// The settings of the registries, as they are at each call.
pub type RegistrySettings = Arc<dyn Fn() -> Vec<RegistryOptions> + Send + Sync>;

/// The keys for signatures of archives, as they are at each call.
pub type ImportKeys = Arc<dyn Fn() -> Vec<BundleKey> + Send + Sync>;

/// The figures of the page for operators, as they are at each call.
pub type PageFigures = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// The parts of a running Larder that commands read and change.
pub struct ControlSources {
    /// The cache directory.
    pub dir: PathBuf,
    /// The rules for what is kept.
    pub pins: Arc<PinBook>,
    /// The cache.
    pub cache: Cache,
    /// The registries of the configuration.
    pub known: KnownRegistries,
    /// The settings of all of them.
    pub registries: RegistrySettings,
    /// The keys of which one has to have signed an archive, as they are at each call.
    pub import_keys: ImportKeys,
    /// Gives the figures of the page for operators.
    pub page: PageFigures,
    /// Counters of past requests.
    pub traffic: Arc<TrafficCounters>,
    /// The images that are fetched on a schedule.
    pub warming: Arc<WarmSchedule>,
}

impl fmt::Debug for ControlSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlSources").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Answers commands.
#[derive(Debug)]
pub struct ControlService {
    sources: ControlSources,
}

impl ControlService {
    /// Answers from these parts.
    pub fn new(sources: ControlSources) -> Self {
        Self { sources }
    }

    /// Answers a request. The body of an import alone is read.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        let (request, body) = request.into_parts();
        let target = request.uri.path_and_query().map_or("", |target| target.as_str());
        match ControlRequest::read(&request.method, target) {
            Some(ControlRequest::Image { name }) => self.image(&name).await,
            Some(ControlRequest::Images { pattern }) => self.images(&pattern),
            Some(ControlRequest::Import { name, registry }) => self.import(name, registry, body),
            Some(ControlRequest::Page) => json(StatusCode::OK, &(self.sources.page)().await),
            Some(ControlRequest::Pin { name, is_wanted }) => self.pin(&name, is_wanted).await,
            Some(ControlRequest::Pulls) => self.pulls(),
            Some(ControlRequest::Removal { name, is_dry_run }) => {
                self.remove(&name, is_dry_run).await
            }
            Some(ControlRequest::Verification { share }) => self.verify(share),
            Some(ControlRequest::Warm { name, wishes }) => self.warm(&name, wishes),
            Some(ControlRequest::Stats) => json(StatusCode::OK, &self.stats()),
            None => json(StatusCode::NOT_FOUND, &unknown()),
        }
    }

    async fn image(&self, name: &str) -> Response<ReplyBody> {
        let Ok(name) = name.parse::<ImageName>() else {
            return json(StatusCode::BAD_REQUEST, &ControlFailure::bad_name(name));
        };
        let (store, wanted) = (Arc::clone(self.sources.cache.store()), name.clone());
        let show = move || show_image(&store.view()?, &wanted);
        match blocking(show).await {
            Ok(Some(detail)) => json(StatusCode::OK, &detail),
            Ok(None) => json(StatusCode::NOT_FOUND, &ControlFailure::not_cached(&name)),
            Err(error) => failed(&error),
        }
    }

    async fn remove(&self, name: &str, is_dry_run: bool) -> Response<ReplyBody> {
        let Ok(target) = RemovalTarget::read(name) else {
            return json(StatusCode::BAD_REQUEST, &ControlFailure::bad_name(name));
        };
        let (dir, wanted) = (self.sources.dir.clone(), target.clone());
        let plan = move || RemovalPlan::of(&StoreView::open(dir)?, &wanted);
        let plan = match blocking(plan).await {
            Ok(Some(plan)) => plan,
            Ok(None) => return json(StatusCode::NOT_FOUND, &ControlFailure::not_cached(&target)),
            Err(error) => return failed(&error),
        };
        if is_dry_run {
            return json(StatusCode::OK, &plan.report);
        }
        let cache = self.sources.cache.clone();
        // Detached, so that a command that is interrupted leaves nothing half done.
        let removed = tokio::spawn(async move {
            let removed = plan.carry_out(cache.store()).await;
            cache.forget_records();
            removed
        });
        match removed.await.unwrap_or_else(|lost| Err(io::Error::other(lost))) {
            Ok(report) => {
                let bytes = report.removed_bytes;
                tracing::info!(name = %target, bytes, "removed from the cache by an operator");
                json(StatusCode::OK, &report)
            }
            Err(error) => failed(&error),
        }
    }

    async fn pin(&self, name: &str, is_wanted: bool) -> Response<ReplyBody> {
        let Ok(name) = name.parse::<ImageName>() else {
            return json(StatusCode::BAD_REQUEST, &ControlFailure::bad_name(name));
        };
        let (store, pins) =
            (Arc::clone(self.sources.cache.store()), Arc::clone(&self.sources.pins));
        match blocking(move || Ok(pins.change(&store, &name, is_wanted)))
            .await
            .map_err(PinError::from)
            .flatten()
        {
            Ok(report) => {
                tracing::info!(
                    name = report.name,
                    is_pinned = report.is_pinned,
                    "pins changed by an operator"
                );
                json(StatusCode::OK, &report)
            }
            Err(PinError::Files(error)) => failed(&error),
            Err(error @ PinError::TooMuch { .. }) => {
                json(StatusCode::CONFLICT, &ControlFailure::not_pinned(&error))
            }
        }
    }

    fn images(&self, pattern: &str) -> Response<ReplyBody> {
        let Ok(pattern) = pattern.parse::<ImagePattern>() else {
            return json(StatusCode::BAD_REQUEST, &ControlFailure::bad_pattern(pattern));
        };
        let store = Arc::clone(self.sources.cache.store());
        json_lines(move |show| list_images(&store.view()?, &pattern, show))
    }

    /// A client that goes away breaks the body off, and with it the import.
    fn import(
        &self,
        name: Option<String>,
        registry: Option<String>,
        body: Incoming,
    ) -> Response<ReplyBody> {
        let cache = self.sources.cache.clone();
        let ControlSources { registries, import_keys, .. } = &self.sources;
        let wishes = ImportWishes { registries: registries(), name, registry, keys: import_keys() };
        let (pieces, archive) = received_archive();
        drop(tokio::spawn(receive_local(body, pieces)));
        let mut job = ImportJob::start(cache.store(), archive, wishes, cache.now());
        let (lines, response) = open_lines();
        drop(tokio::spawn(async move {
            while let Some(update) = job.next().await {
                if update.is_done {
                    cache.forget_records();
                    log_import(&update);
                }
                // The archive is taken, even if the client reads no updates.
                lines.send(&update).await;
            }
        }));
        response
    }

    /// A fetch that has begun ends by itself, if the client goes away.
    fn warm(&self, name: &str, wishes: WarmWishes) -> Response<ReplyBody> {
        let Ok(name) = name.parse::<ImageName>() else {
            return json(StatusCode::BAD_REQUEST, &ControlFailure::bad_name(name));
        };
        let Some(grant) = grant_to_warm(&self.sources.known, &name) else {
            return json(StatusCode::CONFLICT, &ControlFailure::not_warmed(&name));
        };
        let (lines, response) = open_lines();
        let job = WarmJob::new(self.sources.cache.clone(), grant, wishes, Some(lines));
        drop(tokio::spawn(job.run(name.reference)));
        response
    }

    fn pulls(&self) -> Response<ReplyBody> {
        let store = Arc::clone(self.sources.cache.store());
        json_lines(move |show| {
            // A client that has gone needs no more.
            let _all: bool = list_pulls(&store.view()?)?.into_iter().all(show);
            Ok(())
        })
    }

    /// Goes on as long as the client reads.
    fn verify(&self, share: ContentShare) -> Response<ReplyBody> {
        let (cache, known) = (self.sources.cache.clone(), Arc::clone(&self.sources.known));
        let (lines, response) = open_lines();
        let restored = cache.clone();
        let restore: RestoreContent = Arc::new(move |digest| {
            let (cache, known) = (restored.clone(), Arc::clone(&known));
            Box::pin(async move { cache.restore(&digest, &known).await })
        });
        drop(tokio::spawn(async move {
            if let Err(error) = send_reports(&cache, share, restore, &lines).await {
                lines.fail(error).await;
            }
        }));
        response
    }

    fn stats(&self) -> CacheStats {
        let ControlSources { dir, cache, traffic, warming, .. } = &self.sources;
        CacheStats::of_server(dir, &cache.store_report(), traffic, warming.tables())
    }
}

fn log_import(update: &ImportUpdate) {
    match &update.error {
        None => {
            let (images, bytes) = (update.images.len(), update.new_bytes);
            tracing::info!(images, bytes, "images imported by an operator");
        }
        Some(error) => tracing::warn!(error, "an import was refused"),
    }
}

async fn send_reports(
    cache: &Cache,
    share: ContentShare,
    restore: RestoreContent,
    lines: &LineSender,
) -> io::Result<()> {
    let store = cache.store();
    let mut verification = ContentVerification::beside_clients(store, share, restore).await?;
    while let Some(report) = verification.next().await? {
        if !lines.send(&report).await {
            break;
        }
    }
    Ok(())
}

fn failed(error: &io::Error) -> Response<ReplyBody> {
    json(StatusCode::INTERNAL_SERVER_ERROR, &ControlFailure::of_files(error))
}

fn unknown() -> ControlFailure {
    ControlFailure {
        error: "the server does not know this request".to_owned(),
        hint: Some("the command is of another version of Larder than the server".to_owned()),
    }
}
