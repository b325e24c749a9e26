//! The system calls that a run makes on files of the cache, and the faults that they get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// All that the program asks of a file or a directory. `close` tells nothing, and `flock` has a
/// test of its own.
const FILE_CALLS: &[&str] = &[
    "copy_file_range",
    "fadvise64",
    "fallocate",
    "fchmod",
    "fdatasync",
    "fsync",
    "ftruncate",
    "getdents64",
    "linkat",
    "mkdir",
    "newfstatat",
    "openat",
    "pread64",
    "preadv2",
    "pwrite64",
    "pwritev2",
    "read",
    "rename",
    "renameat2",
    "rmdir",
    "sendfile",
    "splice",
    "statfs",
    "statx",
    "sync_file_range",
    "unlink",
    "utimensat",
    "write",
];

/// Calls that need no room, and change nothing.
const READS: &[&str] = &[
    "fadvise64",
    "getdents64",
    "newfstatat",
    "pread64",
    "preadv2",
    "read",
    "sendfile",
    "splice",
    "statfs",
    "statx",
];

/// The fate of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(&'static str),
    Kill,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::Error("EIO"),
        Self::Error("ENOSPC"),
        Self::Error("EDQUOT"),
        Self::Error("EROFS"),
        Self::Error("EMFILE"),
        Self::Error("EINTR"),
        Self::Kill,
    ];

    /// Whether a kernel may answer a call so. If not, an answer may be cut by it, but never wrong.
    pub fn is_natural(self, call: &str) -> bool {
        match self {
            Self::Kill | Self::Error("EIO" | "EINTR") => true,
            Self::Error("EMFILE") => call == "openat",
            Self::Error(_) => !READS.contains(&call),
        }
    }

    /// Whether the program may refuse to start: no disk is at fault, but a limit that the operator
    /// set too low, or nothing.
    pub fn may_refuse(self, call: &str) -> bool {
        !self.is_natural(call) || matches!(self, Self::Error("EMFILE" | "EINTR"))
    }

    /// As strace's `inject` has it.
    pub fn action(self) -> String {
        match self {
            Self::Error(error) => format!("error={error}"),
            Self::Kill => "signal=SIGKILL".to_owned(),
        }
    }
}

/// The calls of a run without faults.
#[derive(Debug, Default)]
pub struct Calls {
    /// Those of [`FILE_CALLS`] that it makes, and the files and directories of each.
    pub paths_of: BTreeMap<String, BTreeSet<PathBuf>>,
}

impl Calls {
    /// All calls that strace is to show.
    pub fn traced() -> String {
        FILE_CALLS.join(",")
    }

    /// All paths of all calls.
    pub fn paths(&self) -> BTreeSet<&Path> {
        self.paths_of.values().flatten().map(PathBuf::as_path).collect()
    }

    /// Reads strace's lines, which name the file of each descriptor.
    pub fn read(lines: &str, cache: &Path) -> Self {
        let mut calls = Self::default();
        let mut counts = BTreeMap::<&str, u32>::new();
        for line in lines.lines() {
            let Some((head, arguments)) = line.split_once('(') else { continue };
            let Some(name) = head.split_whitespace().last() else { continue };
            let named = arguments.split(['"', '<', '>']).map(Path::new);
            let paths: Vec<_> = named.filter(|path| path.starts_with(cache)).collect();
            if !paths.is_empty() && FILE_CALLS.contains(&name) {
                *counts.entry(name).or_default() += 1;
                let of_call = calls.paths_of.entry(name.to_owned()).or_default();
                of_call.extend(paths.into_iter().map(Path::to_owned));
            }
        }
        eprintln!("calls on files of the cache: {counts:?}");
        calls
    }
}
