//! What resolving needs at every step: where values stand, whom to tell, and what to do without.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault};
use super::document::Document;
use super::environment::Environment;
use super::file::ConfigFile;
use super::quantity;
use super::quantity::ZeroRule;
use super::written::Text;

/// Collects problems and warnings while the parts of the configuration are given meaning.
///
/// A value that is wrong is reported and its default used in its stead, so that one run finds
/// everything; the result is thrown away if there was any problem.
pub(super) struct Resolver<'a> {
    document: &'a Document<'a>,
    environment: &'a Environment,
    /// What relative paths in the file are relative to.
    base: &'a Path,
    /// Whether every user of the machine can read the file.
    is_world_readable: bool,
    /// What makes the configuration unusable.
    pub problems: Vec<Diagnostic>,
    /// What the operator should know nevertheless.
    pub warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// A resolver for `document`; `file` is the file it was read from and whether everybody can
    /// read it.
    pub(super) fn new(
        document: &'a Document<'a>,
        environment: &'a Environment,
        file: Option<(&'a Path, bool)>,
    ) -> Self {
        let (path, is_world_readable) = file.unwrap_or((Path::new(""), false));
        Self {
            document,
            environment,
            base: path.parent().unwrap_or(Path::new("")),
            is_world_readable,
            problems: Vec::new(),
            warnings: environment.warnings(),
        }
    }

    /// Reports `fault` of what stands at `span`.
    pub(super) fn report(&mut self, span: Range<usize>, fault: ValueFault) {
        self.problems.push(self.document.problem(span, fault));
    }

    /// Reports `fault` of something that stands nowhere.
    pub(super) fn report_missing(&mut self, fault: ValueFault) {
        self.problems.push(fault.at(SourcePlace::Nowhere, None));
    }

    /// Reports `fault` of what an environment variable says, once.
    pub(super) fn report_variable(&mut self, name: &str, fault: ValueFault) {
        let problem = fault.at(SourcePlace::Variable(name.to_owned()), None);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The value, or a report and nothing.
    pub(super) fn accept<T>(
        &mut self,
        span: Range<usize>,
        value: Result<T, ValueFault>,
    ) -> Option<T> {
        value.map_err(|fault| self.report(span, fault)).ok()
    }

    /// What `meaning` makes of the text; `None` where there is none or it is wrong.
    pub(super) fn given<T>(
        &mut self,
        text: Option<&Text>,
        meaning: impl FnOnce(&str) -> Result<T, ValueFault>,
    ) -> Option<T> {
        let text = text?;
        self.accept(text.span(), meaning(text.get_ref()))
    }

    /// A size, or what it is by default.
    pub(super) fn size(&mut self, text: Option<&Text>, zero: ZeroRule, default: u64) -> u64 {
        self.given(text, |text| quantity::size(text, zero)).unwrap_or(default)
    }

    /// A duration, or what it is by default.
    pub(super) fn duration(
        &mut self,
        text: Option<&Text>,
        zero: ZeroRule,
        default: Duration,
    ) -> Duration {
        self.given(text, |text| quantity::duration(text, zero)).unwrap_or(default)
    }

    /// Each item that `meaning` accepts.
    pub(super) fn list<T>(
        &mut self,
        items: Option<Spanned<Vec<Text>>>,
        meaning: impl Fn(&str) -> Result<T, ValueFault>,
    ) -> Vec<T> {
        let items = items.map(Spanned::into_inner).unwrap_or_default();
        items.iter().filter_map(|item| self.given(Some(item), &meaning)).collect()
    }

    /// The environment variables.
    pub(super) fn environment(&self) -> &'a Environment {
        self.environment
    }

    /// A path to a file: `~/` is the home directory, and what is relative is relative to the
    /// directory of the configuration file.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, ValueFault> {
        Ok(self.base.join(self.path_as_written(text)?))
    }

    /// A path of which only `~/` is resolved.
    pub(super) fn path_as_written(&self, text: &str) -> Result<PathBuf, ValueFault> {
        if text.is_empty() || text.contains('\0') {
            return Err(ValueFault::new("this is not a path"));
        }
        match text.strip_prefix("~/") {
            Some(rest) => {
                let home = self.environment.path("HOME");
                Ok(home
                    .ok_or_else(|| ValueFault::new("`~` is unknown: `HOME` is not set"))?
                    .join(rest))
            }
            None => Ok(PathBuf::from(text)),
        }
    }

    /// The content of the file that `text` names, and a warning if it is a secret for all to see.
    pub(super) fn file(&mut self, text: &Text, len_max: u64, is_secret: bool) -> Option<Vec<u8>> {
        let path = self.path(text.get_ref());
        let path = self.accept(text.span(), path)?;
        let read = ConfigFile::read_present(&path, len_max).map_err(|fault| ValueFault {
            what: format!("{}: `{}`", fault.what, path.display()),
            ..fault
        });
        let input = self.accept(text.span(), read)?;
        if is_secret && input.is_world_readable {
            self.warn_of_readers(&path.display().to_string());
        }
        Some(input.bytes)
    }

    /// Notes that the configuration file itself holds a secret.
    pub(super) fn holds_secret(&mut self) {
        if self.is_world_readable {
            self.warn_of_readers("the configuration file");
        }
    }

    fn warn_of_readers(&mut self, what: &str) {
        let warning = format!("{what} holds a secret and every user of this machine can read it");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}
