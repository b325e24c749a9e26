//! The bytes that files and directories take on the disk, as `du` counts them. All of it blocks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::layout::StoreLayout;
use crate::oci::Algorithm;

/// The entries of a directory, as far as they can be listed.
pub(super) fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Bytes that all files and directories under `dir` take, as far as they can be listed.
pub(super) fn bytes_under(dir: &Path) -> u64 {
    let mut bytes = bytes_of(dir);
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in entries(&dir) {
            bytes += entry.metadata().map_or(0, |metadata| metadata.blocks() * 512);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    bytes
}

/// Bytes that directories take, but for those of the index, of partial files and in the tree of
/// records; and the few files beside them.
pub(super) fn bytes_of_directories(layout: &StoreLayout) -> u64 {
    let counted = [layout.index(), layout.fills()];
    let beside = entries(layout.dir()).map(|entry| entry.path());
    let beside = beside.filter(|path| !counted.contains(path)).map(|path| bytes_of(&path));
    let trees = ALGORITHMS.iter().flat_map(|algorithm| {
        let name = algorithm.as_str();
        let trees = [layout.blobs().join(name), layout.sums_dir().join(name)];
        let leaves = (0..=u8::MAX).flat_map(|first| {
            [layout.blobs_of(*algorithm, first), layout.sums_of(*algorithm, first)]
        });
        trees.into_iter().chain(leaves)
    });
    bytes_of(layout.dir()) + beside.sum::<u64>() + trees.map(|dir| bytes_of(&dir)).sum::<u64>()
}

fn bytes_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// All that digests can be of.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];
