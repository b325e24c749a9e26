//! The space that a directory takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The bytes that files and directories take, as `du` counts them.
pub fn du(dir: &Path) -> u64 {
    // A file that is renamed during the walk is met twice.
    let mut seen = HashSet::new();
    let entries = walk(dir).into_iter().filter(|metadata| seen.insert(metadata.ino()));
    entries.map(|metadata| metadata.blocks() * 512).sum()
}

fn walk(path: &Path) -> Vec<fs::Metadata> {
    let Ok(own) = fs::symlink_metadata(path) else { return Vec::new() };
    let entries = own.is_dir().then(|| fs::read_dir(path).into_iter().flatten().flatten());
    let below = entries.into_iter().flatten().flat_map(|entry| walk(&entry.path())).collect();
    [vec![own], below].concat()
}
