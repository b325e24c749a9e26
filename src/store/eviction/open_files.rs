//! The files that this process holds open, as the kernel lists them.
//!
//! A blob is read through a descriptor, whatever part of the program reads it, so nothing has to be
//! noted when one is opened. Without `/proc` no file counts as open: an evicted blob is then still
//! read to its end, as Linux keeps the file, but its space is not counted until it is closed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::store::stamps::FileId;

/// The files on one device that were open at a moment.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    ids: HashSet<FileId>,
    /// Bytes of those without a name.
    unlinked: u64,
}

impl OpenFiles {
    /// Looks at every descriptor: about a microsecond each.
    pub(super) fn now(device: u64) -> Self {
        let mut this = Self::default();
        for descriptor in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            // One that was closed meanwhile is of no interest.
            let Ok(metadata) = fs::metadata(descriptor.path()) else { continue };
            if metadata.dev() != device || !metadata.is_file() {
                continue;
            }
            if this.ids.insert(FileId::of(&metadata)) && metadata.nlink() == 0 {
                this.unlinked += metadata.blocks() * 512;
            }
        }
        this
    }

    pub(super) fn has(&self, file: FileId) -> bool {
        self.ids.contains(&file)
    }

    pub(super) fn unlinked(&self) -> u64 {
        self.unlinked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_until_its_last_descriptor_is_closed_and_counts_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![1; 100_000]).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let (device, id) = (metadata.dev(), FileId::of(&metadata));
        assert!(!OpenFiles::now(device).has(id));

        let file = fs::File::open(&path).unwrap();
        let other = file.try_clone().unwrap();
        drop(file);
        let before = OpenFiles::now(device);
        assert!(before.has(id));
        fs::remove_file(&path).unwrap();
        let after = OpenFiles::now(device);
        // Other tests have files of their own on the device.
        assert!(after.has(id) && after.unlinked() >= 100_000);
        drop(other);
        assert!(!OpenFiles::now(device).has(id));
    }
}
