//! A small file system of its own. To mount one takes root; without it the tests that need one say
//! so and check nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Its size in bytes.
pub const DISK: usize = 32 << 20;

/// A mounted file system of 32 MiB, unmounted when dropped.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None`, with a word on why, where mounting is not allowed.
    pub fn mount() -> Option<Self> {
        Self::mount_with("")
    }

    /// The same with further options of tmpfs.
    pub fn mount_with(more: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={DISK},mode=0700{more}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "larder-test"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { dir }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped: no tmpfs can be mounted: {}", why.trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: no tmpfs can be mounted: {error}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status();
        assert!(status.unwrap().success(), "{options}");
    }

    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as the process that used it may still be going.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}
