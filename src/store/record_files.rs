//! Records as files below the cache directory, one for each.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::eviction::DiskBudget;
use super::layout::StoreLayout;
use super::record_share::RecordShare;
use super::record_store::{
    AppendCondition, PutCondition, RecordName, RecordStore, RecordVersion, StoredRecord,
};
use super::record_sweep::RecordSweeper;
use super::small_files::{DraftDir, absent_is_fine, read_small};
use super::space::{RecordPermit, SpacePart};

/// The records of a cache directory, which this process has to itself.
#[derive(Debug)]
pub(super) struct RecordFiles {
    layout: StoreLayout,
    budget: Arc<DiskBudget>,
    drafts: Arc<DraftDir>,
    sweeper: RecordSweeper,
    /// Held from the look at a version to the rename.
    conditional: Mutex<()>,
    /// How many records the folders have at most that were trimmed before.
    counts: Mutex<HashMap<RecordName, usize>>,
}

impl RecordFiles {
    pub(super) fn new(layout: StoreLayout, budget: Arc<DiskBudget>, drafts: Arc<DraftDir>) -> Self {
        let sweeper = RecordSweeper::start(&budget);
        Self {
            layout,
            budget,
            drafts,
            sweeper,
            conditional: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Replaces a record. Returns whether there was room for it.
    fn replace(&self, name: &RecordName, bytes: &[u8]) -> io::Result<bool> {
        let len = bytes.len() as u64;
        let path = self.layout.record(name);
        let Some(_permit) = self.permit(&path, len)? else { return Ok(false) };
        let _reservation = (len > ALWAYS_BYTES).then(|| self.budget.reserve(len)).transpose()?;
        self.counting(&path, || {
            self.making_room(|| {
                self.drafts.replace(&path, bytes, |file| {
                    // Offline nothing can be asked again, so a record must survive a power cut.
                    Ok(rustix::fs::fdatasync(file)?)
                })
            })
        })?;
        Ok(true)
    }

    /// The permission to write a record of `len` bytes; `None` if there are too many.
    fn permit(&self, path: &Path, len: u64) -> io::Result<Option<RecordPermit>> {
        let registries = self.layout.registries();
        let below = path.strip_prefix(registries).ok().and_then(|below| below.iter().next());
        let registry = below.unwrap_or_default();
        if below.is_none() || (path.exists() && len <= ALWAYS_BYTES) {
            return self.budget.space().promise_record(registry, RecordShare::default());
        }
        let missing = path.ancestors().skip(1).take_while(|dir| !dir.exists()).count() as u64;
        let blocks = missing + len.div_ceil(ALWAYS_BYTES);
        let more = RecordShare { files: missing + 1, bytes: blocks * ALWAYS_BYTES };
        let permit = self.budget.space().promise_record(registry, more)?;
        if permit.is_none() {
            tracing::debug!(path = %path.display(), "not recorded: there are too many records");
            self.sweeper.wake();
        }
        Ok(permit)
    }

    /// Writes a record, once more if the disk was full, or an empty directory was removed.
    fn making_room<T>(&self, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match self.budget.with_room(ALWAYS_BYTES, &write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => write(),
            written => written,
        }
    }

    /// Changes a file, and counts what it takes.
    fn counting<T>(&self, path: &Path, change: impl FnOnce() -> T) -> T {
        let found = || path.symlink_metadata().ok().map(|metadata| metadata.blocks() * 512);
        let before = found();
        let changed = change();
        let now = found();
        let space = self.budget.space();
        space.count(SpacePart::Records, before.unwrap_or_default(), now.unwrap_or_default());
        space.count_record_file(i64::from(now.is_some()) - i64::from(before.is_some()));
        changed
    }

    fn version(&self, name: &RecordName) -> io::Result<RecordVersion> {
        let bytes = read_small(&self.layout.record(name), u64::MAX)?;
        Ok(bytes.map_or(RecordVersion::ABSENT, |bytes| RecordVersion::of(&bytes)))
    }
}

impl RecordStore for RecordFiles {
    fn get(&self, name: &RecordName, max: u64) -> io::Result<Option<StoredRecord>> {
        let bytes = read_small(&self.layout.record(name), max)?;
        Ok(bytes.map(|bytes| {
            let version = RecordVersion::of(&bytes);
            StoredRecord { bytes: Bytes::from(bytes), version }
        }))
    }

    fn put(&self, name: &RecordName, bytes: &[u8], condition: PutCondition) -> io::Result<bool> {
        let PutCondition::IfVersion(version) = condition else {
            return self.replace(name, bytes);
        };
        let _conditional = self.conditional.lock();
        let is_met = if version == RecordVersion::ABSENT {
            !self.layout.record(name).try_exists()?
        } else {
            self.version(name)? == version
        };
        Ok(is_met && self.replace(name, bytes)?)
    }

    fn append(
        &self,
        name: &RecordName,
        lines: &str,
        condition: AppendCondition,
    ) -> io::Result<u64> {
        self.drafts.gates().check()?;
        let path = self.layout.record(name);
        let permit = self.permit(&path, lines.len() as u64)?;
        if permit.is_none() && condition == AppendCondition::IfRoom {
            return Ok(0);
        }
        let len = lines.len() as u64;
        let _reservation = (len > ALWAYS_BYTES).then(|| self.budget.reserve(len)).transpose()?;
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
        let append = || {
            self.budget.space().make_parent(&path)?;
            let mut file = options.open(&path)?;
            // One write, so that no other can come in between.
            file.write_all(lines.as_bytes())?;
            Ok(file.metadata()?.len())
        };
        self.counting(&path, || self.making_room(append))
    }

    fn delete(&self, name: &RecordName) -> io::Result<()> {
        self.drafts.gates().check()?;
        let path = self.layout.record(name);
        self.counting(&path, || absent_is_fine(fs::remove_file(&path)))
    }

    fn list(&self, folder: &RecordName) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.layout.record(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A name that is not UTF-8 is none of ours.
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn trim(&self, folder: &RecordName, max: usize) -> io::Result<()> {
        if self.has_one_more(folder, max) {
            return Ok(());
        }
        let names = self.list(folder)?;
        let mut left = names.len();
        if left > max {
            let mut aged = Vec::with_capacity(left);
            for path in names.iter().map(|name| self.layout.record(&folder.part(name))) {
                let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
                aged.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), path));
            }
            aged.sort();
            // Not one alone, so that not every new one has to look at the age of all.
            for (_, path) in aged.iter().take(left - max + max / 10) {
                self.counting(path, || absent_is_fine(fs::remove_file(path)))?;
            }
            left = max - max / 10;
        }
        let mut counts = self.counts.lock();
        if counts.len() >= COUNTS_MAX {
            counts.clear();
        }
        counts.insert(folder.clone(), left);
        Ok(())
    }
}

impl RecordFiles {
    /// Counts a new record of a folder; whether it has no more than `max`, if that is known without
    /// a look at all of them. Those that were removed since are counted as well.
    fn has_one_more(&self, folder: &RecordName, max: usize) -> bool {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(folder) else { return false };
        *count += 1;
        *count <= max
    }
}

/// Folders whose counts are remembered: one for each registry, and for each repository with lists.
const COUNTS_MAX: usize = 4096;

/// A record that is no longer than a block of the disk is kept however little space is left, if
/// there are not too many.
const ALWAYS_BYTES: u64 = 4096;
