//! Tools for the files that resolve values: diagnostics, warnings, and reading of files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault};
use super::environment::Environment;
use super::file::ConfigFile;
use super::reader::{KeyLocation, Located, TomlReader};
use crate::http::HostPort;
use crate::oci::RegistryName;

/// Collects diagnostics and warnings while the parts of the configuration are given meaning.
///
/// A value that is wrong is reported and its default used in its stead, so that one run finds
/// everything; the result is thrown away if anything was reported.
pub(super) struct Resolver<'a> {
    pub reader: TomlReader<'a>,
    pub environment: &'a Environment,
    /// The directory that relative paths in the file start at.
    base: &'a Path,
    /// Whether every user of the machine can read the file.
    is_world_readable: bool,
    /// Warnings for the operator: the configuration is valid in spite of them.
    pub warnings: Vec<Diagnostic>,
    /// Addresses and names of the listeners, which no upstream may lead to.
    pub own: Vec<(SocketAddr, Vec<HostPort>)>,
    /// The registries that rules name, which have to exist.
    pub rule_registries: Vec<Located<RegistryName>>,
}

impl<'a> Resolver<'a> {
    /// A resolver of values that `reader` has read from the file at `path`, if there was one.
    pub(super) fn new(
        reader: TomlReader<'a>,
        environment: &'a Environment,
        path: Option<&'a Path>,
        is_world_readable: bool,
    ) -> Self {
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        Self {
            reader,
            environment,
            base,
            is_world_readable,
            warnings: environment.warnings().into_iter().map(Diagnostic::in_general).collect(),
            own: Vec::new(),
            rule_registries: Vec::new(),
        }
    }

    /// Warns of the value at `at`, with its place.
    pub(super) fn warn(&mut self, at: &KeyLocation, fault: ValueFault) {
        self.warnings.push(self.reader.locate(at, fault));
    }

    /// Warns, once, of something that stands nowhere.
    pub(super) fn warn_in_general(&mut self, what: String) {
        let warning = Diagnostic::in_general(what);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Reports `fault` of the value at `at`.
    pub(super) fn report(&mut self, at: &KeyLocation, fault: ValueFault) {
        self.reader.report(at, fault);
    }

    /// Reports `fault` of something that stands nowhere.
    pub(super) fn report_missing(&mut self, fault: ValueFault) {
        self.reader.push(fault.at(SourcePlace::Nowhere, None));
    }

    /// Reports `fault` of the environment variable `name`.
    pub(super) fn report_variable(&mut self, name: &str, fault: ValueFault) {
        self.reader.push(fault.at(SourcePlace::Variable(name.to_owned()), None));
    }

    /// The value, or a report and nothing.
    pub(super) fn accept<T>(
        &mut self,
        at: &KeyLocation,
        value: Result<T, ValueFault>,
    ) -> Option<T> {
        self.reader.accept(at, value)
    }

    /// A path to a file: `~/` is the home directory, and a relative path starts at the directory of
    /// the configuration file.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, ValueFault> {
        Ok(self.base.join(self.path_as_written(text)?))
    }

    /// A path in which only `~/` is resolved.
    pub(super) fn path_as_written(&self, text: &str) -> Result<PathBuf, ValueFault> {
        if text.is_empty() || text.contains('\0') {
            return Err(ValueFault::new("this is not a path"));
        }
        let Some(rest) = text.strip_prefix("~/") else { return Ok(PathBuf::from(text)) };
        let home = self.environment.path("HOME");
        Ok(home.ok_or_else(|| ValueFault::new("`~` is unknown: `HOME` is not set"))?.join(rest))
    }

    /// The content of the file that `text` names, of at most `len_max` bytes.
    pub(super) fn file(&mut self, text: &Located<String>, len_max: u64) -> Option<Vec<u8>> {
        self.open(text, len_max).map(|file| file.bytes)
    }

    /// Reads a file that holds a secret: warns if every user can read it.
    pub(super) fn secret_file(&mut self, text: &Located<String>, len_max: u64) -> Option<Vec<u8>> {
        let file = self.open(text, len_max)?;
        if file.is_world_readable {
            let path = self.path(&text.value).ok()?;
            self.warn_of_readers(&path.display().to_string());
        }
        Some(file.bytes)
    }

    fn open(&mut self, text: &Located<String>, len_max: u64) -> Option<ConfigFile> {
        let path = self.path(&text.value);
        let path = self.accept(&text.at, path)?;
        let file = ConfigFile::read_present(&path, len_max).map_err(|fault| ValueFault {
            what: format!("{}: `{}`", fault.what, path.display()),
            ..fault
        });
        self.accept(&text.at, file)
    }

    /// Notes that the configuration file itself holds a secret.
    pub(super) fn note_secret(&mut self) {
        if self.is_world_readable {
            self.warn_of_readers("the configuration file");
        }
    }

    fn warn_of_readers(&mut self, what: &str) {
        let warning = format!("{what} holds a secret and every user of this machine can read it");
        self.warn_in_general(warning);
    }
}
