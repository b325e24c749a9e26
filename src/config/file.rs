//! Files that a configuration consists of or points to: read whole, within a bound, never waited
//! for.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::diagnostics::ValueFault;

/// The content of a file.
#[derive(Default)]
pub(super) struct ConfigFile {
    pub bytes: Vec<u8>,
    /// Whether every user of the machine could have read it too.
    pub is_world_readable: bool,
}

impl ConfigFile {
    /// Reads a regular file of at most `len_max` bytes.
    ///
    /// `Ok(None)` when there is no such file.
    pub(super) fn read(path: &Path, len_max: u64) -> Result<Option<Self>, ValueFault> {
        // Without NONBLOCK, opening a FIFO would wait for someone to write into it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(unreadable(&error.into())),
        };
        let metadata = file.metadata().map_err(|error| unreadable(&error))?;
        let kind = metadata.file_type();
        if !kind.is_file() {
            let kind = match () {
                () if kind.is_dir() => "a directory",
                () if kind.is_fifo() => "a pipe",
                () => "a device",
            };
            return Err(ValueFault::new(format!("it is {kind}, not a file")));
        }
        let mut bytes = Vec::new();
        file.take(len_max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > len_max {
            return Err(ValueFault::new(format!("the file has more than {len_max} bytes")));
        }
        let is_world_readable = metadata.permissions().mode() & 0o004 != 0;
        Ok(Some(Self { bytes, is_world_readable }))
    }

    /// Like [`ConfigFile::read`], but the file must be there.
    pub(super) fn read_present(path: &Path, len_max: u64) -> Result<Self, ValueFault> {
        Self::read(path, len_max)?.ok_or_else(|| ValueFault::new("there is no such file"))
    }
}

fn unreadable(error: &io::Error) -> ValueFault {
    ValueFault::new(format!("the file cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(path: &Path) -> String {
        ConfigFile::read_present(path, 8).err().expect("it must be refused").what
    }

    /// A reload must not hang because the file became a pipe.
    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        std::fs::write(dir.path().join("long"), "123456789").unwrap();

        assert_eq!(what(&fifo), "it is a pipe, not a file");
        assert_eq!(what(dir.path()), "it is a directory, not a file");
        assert_eq!(what(Path::new("/dev/null")), "it is a device, not a file");
        assert_eq!(what(&dir.path().join("none")), "there is no such file");
        assert_eq!(what(&dir.path().join("long")), "the file has more than 8 bytes");
        assert_eq!(
            what(&dir.path().join("long").join("x")),
            "the file cannot be read: Not a directory (os error 20)"
        );
    }
}
