//! Partial downloads that no fill goes on with.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::layout::StoreLayout;
use super::space::{FreeSpace, SpacePart};

/// Removes the partial downloads that are idle. Returns how many.
pub(super) fn remove_partials(
    layout: &StoreLayout,
    space: &FreeSpace,
    is_idle: impl Fn(&Path, &Metadata) -> bool,
) -> io::Result<usize> {
    let mut removed = 0;
    for registry in fs::read_dir(layout.fills())? {
        let registry = registry?.path();
        if registry == layout.drafts() || !registry.is_dir() {
            continue;
        }
        for fill in fs::read_dir(registry)? {
            let fill = fill?;
            let metadata = fill.metadata()?;
            if is_idle(&fill.path(), &metadata) {
                remove_partial(&fill.path(), space)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Removes a file that counts as a partial one, and that no task writes to.
pub(super) fn remove_partial(path: &Path, space: &FreeSpace) -> io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    fs::remove_file(path)?;
    space.count(SpacePart::Partials, metadata.blocks() * 512, 0);
    Ok(())
}
