//! Records as files below the cache directory, one for each.

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
use super::record_store::{PutCondition, RecordName, RecordStore, RecordVersion, StoredRecord};
use super::small_files::{DraftDir, absent_is_fine, read_small};
use super::space::SpacePart;

/// The records of a cache directory, which this process has to itself.
#[derive(Debug)]
pub(super) struct RecordFiles {
    layout: StoreLayout,
    budget: Arc<DiskBudget>,
    drafts: Arc<DraftDir>,
    /// Held from the look at a version to the rename.
    conditional: Mutex<()>,
}

impl RecordFiles {
    pub(super) fn new(layout: StoreLayout, budget: Arc<DiskBudget>, drafts: Arc<DraftDir>) -> Self {
        Self { layout, budget, drafts, conditional: Mutex::default() }
    }

    fn replace(&self, name: &RecordName, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        let _reservation = (len > ALWAYS_BYTES).then(|| self.budget.reserve(len)).transpose()?;
        let path = self.layout.record(name);
        self.counting(&path, || {
            self.drafts.replace(&path, bytes, |file| {
                // Offline nothing can be asked again, so a record must survive a power cut.
                Ok(rustix::fs::fdatasync(file)?)
            })
        })
    }

    /// Changes a file, and counts what it takes.
    fn counting<T>(&self, path: &Path, change: impl FnOnce() -> T) -> T {
        let taken = || path.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
        let before = taken();
        let changed = change();
        self.budget.space().count(SpacePart::Records, before, taken());
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
            self.replace(name, bytes)?;
            return Ok(true);
        };
        let _conditional = self.conditional.lock();
        let is_met = if version == RecordVersion::ABSENT {
            !self.layout.record(name).try_exists()?
        } else {
            self.version(name)? == version
        };
        if is_met {
            self.replace(name, bytes)?;
        }
        Ok(is_met)
    }

    fn append(&self, name: &RecordName, lines: &str) -> io::Result<()> {
        let path = self.layout.record(name);
        self.budget.space().make_parent(&path)?;
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
        // One write, so that no other can come in between.
        self.counting(&path, || options.open(&path)?.write_all(lines.as_bytes()))
    }

    fn delete(&self, name: &RecordName) -> io::Result<()> {
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
        let names = self.list(folder)?;
        if names.len() <= max {
            return Ok(());
        }
        let mut aged = Vec::with_capacity(names.len());
        for path in names.iter().map(|name| self.layout.record(&folder.part(name))) {
            let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
            aged.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
        aged.sort();
        // Not one alone, so that not every new one has to look at the age of all.
        for (_, path) in aged.iter().take(names.len() - max + max / 10) {
            self.counting(path, || absent_is_fine(fs::remove_file(path)))?;
        }
        Ok(())
    }
}

/// A record that is no longer than a block of the disk is kept however little space is left.
const ALWAYS_BYTES: u64 = 4096;
