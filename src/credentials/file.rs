//! Reads files that hold credentials: regular ones, of a bounded length.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use tokio::fs::OpenOptions;
use tokio::io::AsyncReadExt as _;

/// The content of a file of at most `len_max` bytes.
///
/// # Errors
///
/// If it cannot be read, is longer, is something else than a regular file, or could have been
/// written by any user.
pub(super) async fn read(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a program that writes into it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(io::Error::other("every user of this machine can write it"));
    }
    let mut bytes = Vec::new();
    file.take(len_max + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > len_max {
        return Err(io::Error::other(format!("it is longer than {len_max} bytes")));
    }
    Ok(bytes)
}
