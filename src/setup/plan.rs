//! The plan for a client: the files as they are and as they will be, and the steps after that.

use std::io;
use std::path::{Path, PathBuf};

/// A file as it is and as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its text now; `None` if it does not exist.
    pub before: Option<String>,
    /// Its text then.
    pub after: String,
}

/// The steps by which a client is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupPlan {
    /// The files.
    pub files: Vec<PlannedFile>,
    /// A document that is applied, not written.
    pub document: Option<String>,
    /// The steps that are left to the operator, a sentence each.
    pub next: Vec<String>,
}

/// Why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientFileError {
    /// A file is there and cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is there and is not in its format.
    #[error("{path} is not understood: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file is there in a format that is not changed by programs.
    #[error("{path} exists, and is not changed by a program; these lines belong in it:\n{lines}")]
    ByHand {
        /// The file.
        path: PathBuf,
        /// The lines.
        lines: String,
    },
}

/// The files that exist, by which a plan is made.
pub(super) struct ExistingFiles<'f> {
    pub(super) root: &'f Path,
    pub(super) read: &'f dyn Fn(&Path) -> io::Result<Option<String>>,
}

impl ExistingFiles<'_> {
    /// Plans a file, given what it says now. `path` is below the root.
    pub(super) fn plan(
        &self,
        path: &str,
        change: impl FnOnce(Option<&str>) -> Result<String, String>,
    ) -> Result<PlannedFile, ClientFileError> {
        let path = self.root.join(path);
        let before = self.before(&path)?;
        let after = change(before.as_deref());
        let after =
            after.map_err(|reason| ClientFileError::Malformed { path: path.clone(), reason })?;
        Ok(PlannedFile { path, before, after })
    }

    fn before(&self, path: &Path) -> Result<Option<String>, ClientFileError> {
        let unreadable = |source| ClientFileError::Unreadable { path: path.to_owned(), source };
        (self.read)(path).map_err(unreadable)
    }
}

/// The first line of a file that is written as a whole, and so may be written anew.
pub(super) const WRITTEN_BY: &str = "# Written by `larder setup`.\n";
