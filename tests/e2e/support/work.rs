//! The files of a test: data that goes with it, logs that stay.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// One test's directories.
pub(crate) struct Work {
    /// Removed with the test: caches, data roots.
    data: TempDir,
    /// Removed with the test, and of a short name: a socket's path may have 107 bytes.
    sockets: TempDir,
    /// `target/e2e/logs/<test>`, emptied when the test starts.
    logs: PathBuf,
}

impl Work {
    pub(crate) fn new(test: &str) -> Self {
        let logs = kept().join("logs").join(test);
        fs::remove_dir_all(&logs).ok();
        fs::create_dir_all(&logs).expect("target/e2e/logs can be written");
        let data = tempfile::Builder::new().prefix("run-").tempdir_in(kept());
        let sockets = tempfile::Builder::new().prefix("larder-").tempdir();

        Self {
            data: data.expect("target/e2e can be written"),
            sockets: sockets.expect("the directory for temporary files can be written"),
            logs,
        }
    }

    /// A directory among the data.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.data.path().join(name);
        fs::create_dir_all(&dir).expect("the test's directory can be written");
        dir
    }

    /// The same, never one that was there before.
    pub(crate) fn new_dir(&self, name: &str) -> PathBuf {
        self.dir(&format!("{name}-{:x}", fastrand::u64(..)))
    }

    /// A file among the data, written.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.data.path().join(name);
        fs::write(&file, text).expect("the test's directory can be written");
        file
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn sockets(&self) -> &Path {
        self.sockets.path()
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }
}

/// `target/e2e`: what one run leaves for the next.
pub(crate) fn kept() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent");
    let kept = target.join("e2e");
    fs::create_dir_all(&kept).expect("the target directory can be written");
    kept
}
