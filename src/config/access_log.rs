//! `[access_log]`: the file with a line for each request, its rotation and its place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::de::DeValue;

use super::diagnostics::{Diagnostic, ValueFault};
use super::quantity::{ZeroRule, size};
use super::reader::{FromText, FromToml, Located, TomlValue};
use super::resolver::Resolver;
use super::table::table;
use super::values::integer;
use crate::telemetry::RotationLimits;

table! {
    /// A [file](docs/operations.md#access-log) with a line of JSON for each request.
    ///
    /// ```toml
    /// [access_log]
    /// file = "/var/log/larder/access.log"
    /// ```
    struct AccessLogTable in "[access_log]" {
        /// The file; its directory has to exist.
        ///
        /// On SIGUSR1 it is opened again. Relative paths start at the directory of the
        /// configuration file.
        file: Located<String>;
        /// The size at which the file is renamed to `.1` and a new one is begun; `"0"` for never.
        ///
        /// At least `64KiB`. Write `"0"` if another program, such as logrotate, renames it.
        max_file_size: Located<RotationSize> = "100MiB";
        /// Renamed files that are kept, at most 1,000.
        keep_files: KeptFiles = 5;
    }
}

/// The file of the access log.
#[derive(Clone, Debug)]
pub struct AccessLogSettings {
    /// The file.
    pub path: PathBuf,
    /// Its rotation.
    pub limits: RotationLimits,
    /// The problem, where the file cannot be used.
    problem: Diagnostic,
}

impl PartialEq for AccessLogSettings {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.limits == other.limits
    }
}

impl AccessLogSettings {
    /// The problem that it is when the file cannot be opened.
    pub fn cannot_open(&self, error: &io::Error) -> Diagnostic {
        let what = format!("{}: {error}", self.problem.what);
        Diagnostic { what, ..self.problem.clone() }
    }
}

/// The size at which a file is renamed, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct RotationSize(Option<u64>);

impl FromText for RotationSize {
    const TITLE: &'static str = "size";

    fn from_text(text: &str) -> Result<Self, ValueFault> {
        match size(text, ZeroRule::Meaningful)? {
            0 => Ok(Self(None)),
            bytes if bytes >= ROTATION_BYTES_MIN => Ok(Self(Some(bytes))),
            _ => Err(ValueFault::new("it is less than `64KiB`")
                .hint("each file has some hundred lines at least; write `\"0\"` for any size")),
        }
    }
}

/// A number of renamed files; a text in a variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptFiles(usize);

impl FromToml for KeptFiles {
    const EXPECTED: &'static str = "an integer";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let number = match value.get() {
            DeValue::String(text) => text.trim().parse().ok(),
            _ => integer(value.expect::<Self, _>(DeValue::as_integer)?),
        };
        let number = number.filter(|number| *number <= KEPT_FILES_MAX);
        let fault = || ValueFault::new(format!("it must be from 0 to {KEPT_FILES_MAX}"));
        value.accept(number.ok_or_else(fault)).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": KEPT_FILES_MAX })
    }
}

/// The meaning of the table. The file is looked at and not made: that is done at the start.
pub(super) fn resolve(
    written: &AccessLogTable,
    resolver: &mut Resolver<'_>,
) -> Option<AccessLogSettings> {
    let file = written.file.as_ref()?;
    let path = resolver.path(&file.value);
    let path = resolver.accept(&file.at, path)?;
    let limits =
        RotationLimits { max_size: written.max_file_size.value.0, keep: written.keep_files.0 };
    let usable = check(&path);
    resolver.accept(&file.at, usable)?;
    let fault = ValueFault::new(format!("the access log `{}` cannot be opened", path.display()))
        .hint("Larder has to be able to write it, and to make files beside it");
    let problem = resolver.reader.locate(&file.at, fault);
    Some(AccessLogSettings { path, limits, problem })
}

fn check(path: &Path) -> Result<(), ValueFault> {
    let fault = |what: &str| ValueFault::new(format!("`{}` {what}", path.display()));
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(fault("is not a regular file").hint("name a file; it is made if it is missing"));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    if !fs::metadata(dir).is_ok_and(|there| there.is_dir()) {
        let hint = format!("make `{}`, and let Larder's user write there", dir.display());
        return Err(fault("is in a directory that does not exist").hint(hint));
    }
    Ok(())
}

/// Less than some hundred lines is renamed more often than it is read.
const ROTATION_BYTES_MIN: u64 = 64 << 10;

/// Each renaming renames all of them.
const KEPT_FILES_MAX: usize = 1000;
