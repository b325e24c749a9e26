//! Opening the store: take the directory (`locked_dir.rs`), sweep what is left over.
//!
//! Nothing here walks the store: a start looks at `fills/` and `uploads/` and nowhere else. A disk
//! that takes nothing is no reason not to start: what can be read is served.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::append_file::AppendFile;
use super::blob_store::BlobStore;
use super::blocking::blocking;
use super::content::ContentStore;
use super::disk_usage;
use super::eviction::{self, DiskBudget, SpaceReport};
use super::hashed_file::HashedFile;
use super::index::StoreIndex;
use super::layout::StoreLayout;
use super::locked_dir::lock_dir;
use super::partials::remove_partials;
use super::record_files::RecordFiles;
use super::record_store::{
    AppendCondition, PINS_BYTES_MAX, PULLS_BYTES_MAX, PutCondition, RecordName, RecordStore,
    RecordVersion,
};
use super::repository::RepositoryStore;
use super::repository_records::RepositoryRecords;
use super::small_files::DraftDir;
use super::space::{DiskSpace, SpacePart};
use super::space_limits::SpaceLimits;
use super::stamps::VerifiedStamps;
use super::view::StoreView;
use super::{
    BootClock, IndexReport, IndexRow, OpenError, PinRules, RecheckCounts, RetentionLimits,
    StoreOptions, UpstreamStates,
};
use crate::clock::BootId;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName};

/// The figures of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// How much is stored, and whether that can be believed.
    pub index: IndexReport,
    /// The counts of verification at rest.
    pub verification: RecheckCounts,
    /// The space that the store takes, and what was evicted.
    pub space: SpaceReport,
}

/// A cache directory in use by this process.
#[derive(Debug)]
pub struct Store {
    pub(super) layout: StoreLayout,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) drafts: Arc<DraftDir>,
    options: StoreOptions,
    pub(super) boot: BootId,
    is_writable: bool,
    /// Locked as long as the store is open; `None` where nothing can be written and there is none.
    _lock: Option<File>,
}

/// All methods block and belong on the blocking pool.
impl Store {
    /// Opens the directory, making it if need be.
    pub fn open(options: StoreOptions, machine: BootClock) -> Result<Self, OpenError> {
        let layout = StoreLayout::new(options.dir.clone());
        let lock = lock_dir(&layout)?;
        let is_writable = lock.is_writable;
        let boot = machine.boot;
        let clock = Arc::clone(&machine.clock);
        let index = Arc::new(StoreIndex::start(&layout, options.index.clone(), clock));
        let clock = Arc::clone(&machine.clock);
        let StoreOptions { limits, retention, .. } = &options;
        let index_of = Arc::clone(&index);
        let budget = DiskBudget::new(layout.clone(), *limits, retention, index_of, clock);
        let budget = Arc::new(budget);
        let stamps = VerifiedStamps::new(boot, machine.clock, options.verify_every);
        let drafts = Arc::new(DraftDir::new(layout.drafts(), budget.space().clone()));
        drafts.clear();
        Self::clear_uploads(&layout);
        budget.space().set(SpacePart::Partials, disk_usage::bytes_under(&layout.fills()));
        let directories = disk_usage::bytes_of_directories(&layout);
        budget.space().set(SpacePart::Directories, directories);
        budget.space().set(SpacePart::Index, disk_usage::bytes_under(&layout.index()));
        eviction::start(&budget);
        let records = RecordFiles::new(layout.clone(), Arc::clone(&budget), Arc::clone(&drafts));
        let records = Arc::new(records);
        let blobs = BlobStore::new(layout.clone(), stamps, index, budget, Arc::clone(&drafts));
        let blobs = Arc::new(blobs);
        Ok(Self { layout, blobs, records, drafts, options, boot, is_writable, _lock: lock.file })
    }

    /// Whether the disk took anything when the store was opened. Does not block.
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// The records of a repository. Does not block.
    pub fn repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> RepositoryStore {
        RepositoryStore::new(self.records(registry, repository))
    }

    pub(super) fn records(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> RepositoryRecords {
        RepositoryRecords {
            records: Arc::clone(&self.records),
            blobs: Arc::clone(&self.blobs),
            registry: registry.clone(),
            repository: repository.clone(),
            boot: self.boot,
        }
    }

    /// The key that this directory's uploads are sealed with; `fresh` from now on, if there is none
    /// of that length.
    pub fn session_key(&self, fresh: Vec<u8>) -> io::Result<Vec<u8>> {
        let name = RecordName::session_key();
        loop {
            let found = self.records.get(&name, fresh.len() as u64 + 1)?;
            let version = match found {
                Some(found) if found.bytes.len() == fresh.len() => return Ok(found.bytes.into()),
                Some(found) => found.version,
                None => RecordVersion::ABSENT,
            };
            if self.records.put(&name, &fresh, PutCondition::IfVersion(version))? {
                return Ok(fresh);
            }
        }
    }

    /// Whether the disk hangs: some access to it has not ended in time, nor since. Does not block.
    pub fn hangs(&self) -> bool {
        let gates = self.blobs.gates();
        [&gates.reads, &gates.records, &gates.appends].iter().any(|gate| gate.is_stuck())
    }

    /// The space on the store's file system.
    pub async fn disk_space(&self) -> io::Result<DiskSpace> {
        let blobs = Arc::clone(&self.blobs);
        blocking(move || blobs.budget().space().room()).await
    }

    /// Whether a writer of `bytes` would find room now, by evicting if need be.
    pub async fn has_room(&self, bytes: u64) -> io::Result<bool> {
        let blobs = Arc::clone(&self.blobs);
        blocking(move || blobs.budget().has_room(bytes)).await
    }

    /// Whether `bytes` would fit if nothing else were on the file system. Does not block.
    pub fn could_hold(&self, bytes: u64) -> bool {
        self.blobs.budget().space().could_hold(bytes)
    }

    /// The bounds of the store from now on. Does not block.
    pub fn set_limits(&self, limits: SpaceLimits, retention: &RetentionLimits) {
        self.blobs.budget().set_limits(limits, retention);
    }

    /// The rules for content that is kept, from now on. Does not block.
    pub fn set_pins(&self, rules: Arc<dyn PinRules>) {
        self.blobs.budget().catalog().pins().set_rules(rules);
    }

    /// The rules for content that is kept. Does not block.
    pub fn pins(&self) -> Arc<dyn PinRules> {
        self.blobs.budget().catalog().pins().rules()
    }

    /// The one that tells from now on which registries can be asked. Does not block.
    pub fn set_upstream_states(&self, states: UpstreamStates) {
        self.blobs.budget().catalog().set_states(states);
    }

    /// Has the rules for content that is kept be followed anew: they have changed. Does not block.
    pub fn pins_changed(&self) {
        self.blobs.budget().catalog().pins().set_stale();
    }

    /// The files, as a command sees them. Blocks.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn view(&self) -> io::Result<StoreView> {
        Ok(StoreView::open(self.layout.dir().to_owned())?.with_pins(self.pins()))
    }

    /// Bytes that pinned content may take. Blocks for one system call.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn pinned_max(&self) -> io::Result<u64> {
        self.blobs.budget().space().most()
    }

    /// The record of the images that the operator has pinned by command.
    pub fn pin_list(&self) -> io::Result<Vec<u8>> {
        let found = self.records.get(&RecordName::pins(), PINS_BYTES_MAX)?;
        Ok(found.map(|found| found.bytes.into()).unwrap_or_default())
    }

    /// Replaces that record.
    pub fn put_pin_list(&self, bytes: &[u8]) -> io::Result<()> {
        self.records.put(&RecordName::pins(), bytes, PutCondition::Always)?;
        File::open(self.layout.dir())?.sync_all()
    }

    /// Adds lines to the log of pulls, which goes on where an earlier process ended it. Lines are
    /// lost when there are too many records. Blocks.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn append_pulls(&self, lines: &str) -> io::Result<()> {
        let name = RecordName::pulls();
        let len = self.records.append(&name, lines, AppendCondition::IfRoom)?;
        if len > PULLS_BYTES_MAX
            && let Some(log) = self.records.get(&name, len)?
        {
            let newer = &log.bytes[log.bytes.len() / 2..];
            let from = newer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.records.put(&name, &newer[from..], PutCondition::Always)?;
        }
        Ok(())
    }

    /// Opens the file that a blob of a registry is downloaded to, with what an earlier fill left in
    /// it. It is local to this machine. The caller sees to it that one fill at a time has it.
    pub async fn open_fill(
        &self,
        registry: &RegistryName,
        digest: &Digest,
    ) -> io::Result<HashedFile> {
        let (path, algorithm) = (self.layout.fill(registry, digest), digest.algorithm());
        let blobs = Arc::clone(&self.blobs);
        let gates = Arc::clone(blobs.gates());
        gates.check()?;
        let group = blobs.budget().catalog().group(registry);
        let open = move || AppendFile::open(path, group, blobs);
        Ok(HashedFile::resumed(gates.records.run(open).await?, algorithm))
    }

    /// Opens an empty file for the copy of an upload, to be hashed by `algorithm` as it comes. It
    /// is local to this machine, and removed when it is dropped.
    pub async fn open_upload(&self, algorithm: Algorithm) -> io::Result<HashedFile> {
        let path = self.layout.upload(self.drafts.next_number());
        let blobs = Arc::clone(&self.blobs);
        let gates = Arc::clone(blobs.gates());
        gates.check()?;
        let open = move || AppendFile::temporary(path, blobs);
        Ok(HashedFile::empty(gates.records.run(open).await?, algorithm))
    }

    /// Removes the copies of uploads that a killed process left.
    fn clear_uploads(layout: &StoreLayout) {
        let Ok(entries) = fs::read_dir(layout.uploads()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file of an earlier upload");
            }
        }
    }

    /// The content. Does not block.
    pub fn content(&self) -> ContentStore {
        ContentStore::new(Arc::clone(&self.blobs))
    }

    /// Removes a content from the disk. If there is none, it succeeds.
    pub async fn remove_content(&self, digest: &Digest) -> io::Result<()> {
        let (blobs, digest) = (Arc::clone(&self.blobs), digest.clone());
        blocking(move || blobs.budget().remove_blob(&digest)).await
    }

    /// Removes downloads that were last written to more than `fill_keep` before `now`, but those
    /// that are `in_use`. Returns how many.
    pub async fn sweep_fills(
        &self,
        now: SystemTime,
        in_use: Vec<(RegistryName, Digest)>,
    ) -> io::Result<usize> {
        let (blobs, layout, keep) =
            (Arc::clone(&self.blobs), self.layout.clone(), self.options.fill_keep);
        let in_use: HashSet<_> =
            in_use.iter().map(|(registry, digest)| layout.fill(registry, digest)).collect();
        let drafts = Arc::clone(&self.drafts);
        blocking(move || {
            drafts.remove_left();
            let is_idle = |path: &Path, metadata: &Metadata| {
                let age = now.duration_since(metadata.modified().unwrap_or(now));
                age.unwrap_or_default() > keep && !in_use.contains(path)
            };
            remove_partials(&layout, blobs.budget().space(), is_idle)
        })
        .await
    }

    /// Notes that something was asked for, whatever it was served from. Does not block.
    pub fn used(&self, row: IndexRow<'_>) {
        self.blobs.index().used(row);
    }

    /// Notes that a stored blob or manifest was served, for the order of eviction. Does not block.
    pub fn note_hit(&self, digest: &Digest) {
        self.blobs.budget().catalog().note_hit(digest);
    }

    /// Whether a blob was evicted lately, and not stored since. Does not block.
    pub fn was_evicted(&self, digest: &Digest) -> bool {
        self.blobs.budget().catalog().was_evicted(digest)
    }

    /// The present figures. Does not block.
    pub fn report(&self) -> StoreReport {
        let (index, verification) = (self.blobs.index().report(), self.blobs.verification());
        StoreReport { index, verification, space: self.blobs.budget().report() }
    }

    /// Has the index written and closed, and waits for that, a few seconds.
    pub async fn close(&self) {
        let blobs = Arc::clone(&self.blobs);
        let stop = move || {
            blobs.budget().stop();
            blobs.index().stop();
            Ok(())
        };
        // An index that was not closed is looked at when the store is next opened.
        blocking(stop).await.unwrap_or_default();
    }
}
