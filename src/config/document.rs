//! TOML text and single values from elsewhere as one tree, in which everything knows its place.
//!
//! Places are offsets. The file has those from 0 on; each value from the environment or the
//! command line is set into the tree under offsets of its own behind them. So serde, which only
//! knows offsets, carries both through, and no layer above has to ask where a value came from.
//!
//! What the keys mean is not known here.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::diagnostics::{Diagnostic, Diagnostics, SourcePlace, ValueFault};
use super::serde_errors;
use super::written::FileTable;

/// A configuration as text, before it has types.
pub(super) struct Document<'t> {
    file: Option<&'t Path>,
    text: &'t str,
    table: Spanned<DeTable<'t>>,
    elsewhere: Vec<SourcePlace>,
}

impl<'t> Document<'t> {
    /// Reads TOML; `file` is where it is from, `None` if there is no file and so no text.
    pub(super) fn parse(file: Option<&'t Path>, bytes: &'t [u8]) -> Result<Self, Diagnostic> {
        let (text, refused) = decode(bytes);
        let empty = Spanned::new(0..0, DeTable::new());
        let mut this = Self { file, text, table: empty, elsewhere: Vec::new() };
        if let Some(fault) = refused {
            return Err(this.problem(text.len()..text.len(), fault));
        }
        match DeTable::parse(text) {
            Ok(table) => this.table = table,
            Err(error) => {
                let span = error.span().unwrap_or_default();
                return Err(
                    this.problem(span, ValueFault::new(serde_errors::lower_first(error.message())))
                );
            }
        }
        Ok(this)
    }

    /// Sets `key` of `table` (`""` is the top) to a text from `place`, over what the file says.
    pub(super) fn set(&mut self, table: &str, key: &str, value: String, place: SourcePlace) {
        self.elsewhere.push(place);
        let at = self.text.len() + self.elsewhere.len();
        let span = at..at + 1;
        let owned = |text: &str| Spanned::new(span.clone(), DeString::Owned(text.to_owned()));
        let mut target = self.table.get_mut();
        if !table.is_empty() {
            let empty = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
            // If it is not a table in the file, that is reported when types are looked at.
            match target.entry(owned(table)).or_insert_with(empty).get_mut() {
                DeValue::Table(inner) => target = inner,
                _ => return,
            }
        }
        let value = Spanned::new(span.clone(), DeValue::String(DeString::Owned(value)));
        target.remove(key);
        target.insert(owned(key), value);
    }

    /// Gives it types, or reports the keys and values that have no place in them.
    ///
    /// Serde stops at the first fault, so what is at fault is taken out and the rest tried again.
    pub(super) fn typed(&self) -> Result<FileTable, Diagnostics> {
        let mut rest = self.table.clone();
        let mut problems = Vec::new();
        loop {
            let error = match FileTable::deserialize(Deserializer::from(rest.clone())) {
                Ok(file) => return Diagnostics::none_or(problems, file),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let steps = path_to(self.table.get_ref(), span.start).unwrap_or_default();
            problems.push(self.problem(span, serde_errors::of_serde(error.message())));
            if problems.len() >= PROBLEMS_MAX || !remove(rest.get_mut(), &steps) {
                return Diagnostics::none_or(problems, FileTable::default());
            }
        }
    }

    /// `fault`, with the place and the key of what is at `span`.
    pub(super) fn problem(&self, span: Range<usize>, fault: ValueFault) -> Diagnostic {
        let key =
            path_to(self.table.get_ref(), span.start).map(|steps| serde_errors::of_path(&steps));
        fault.at(self.place(span.start), key)
    }

    fn place(&self, offset: usize) -> SourcePlace {
        if let Some(index) = offset.checked_sub(self.text.len() + 1) {
            return self.elsewhere.get(index).cloned().unwrap_or(SourcePlace::Nowhere);
        }
        let Some(path) = self.file else { return SourcePlace::Nowhere };
        let end = (0..=offset).rev().find(|end| self.text.is_char_boundary(*end)).unwrap_or(0);
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        SourcePlace::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One step from a table or list to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Index(usize),
    Key(String),
}

/// The text, or as much of it as is fit to be read and what is wrong with the rest.
fn decode(bytes: &[u8]) -> (&str, Option<ValueFault>) {
    const HINT: &str = "save the file as UTF-8";
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return ("", Some(ValueFault::new("the file is UTF-16").hint(HINT)));
    }
    // Editors on Windows put it there; TOML has no use for it.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let (text, fault) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, Some(ValueFault::new("this is not UTF-8").hint(HINT)))
        }
    };
    match text.find('\0') {
        Some(at) => (&text[..at], Some(ValueFault::new("there is a NUL character"))),
        None => (text, fault),
    }
}

/// The way to the value that is meant by `offset`.
fn path_to(table: &DeTable<'_>, offset: usize) -> Option<Vec<PathStep>> {
    best_in(table, offset).map(|found| found.steps)
}

/// A value that may be the one that is meant.
struct NearMatch {
    /// Whether the offset lies in its name, not somewhere in its extent. The extent of a table is
    /// its header, in which the names of the tables around it stand too.
    is_named: bool,
    steps: Vec<PathStep>,
}

/// What is named at `offset`, else the innermost value that it lies in.
fn best_in(table: &DeTable<'_>, offset: usize) -> Option<NearMatch> {
    let mut best: Option<NearMatch> = None;
    for (key, value) in table {
        let is_named = key.span().contains(&offset);
        let is_here = is_named || value.span().contains(&offset);
        // What is in a table can stand anywhere, so it has to be looked at in any case.
        let inner = best_into(value.get_ref(), offset).filter(|it| it.is_named || !is_named);
        let found = inner.or_else(|| is_here.then(|| NearMatch { is_named, steps: Vec::new() }));
        let Some(mut found) = found else { continue };
        found.steps.insert(0, PathStep::Key(key.get_ref().clone().into_owned()));
        if best.as_ref().is_none_or(|best| found.is_named && !best.is_named) {
            best = Some(found);
        }
    }
    best
}

fn best_into(value: &DeValue<'_>, offset: usize) -> Option<NearMatch> {
    match value {
        DeValue::Table(table) => best_in(table, offset),
        DeValue::Array(list) => list.iter().enumerate().find_map(|(index, item)| {
            let mut found = best_into(item.get_ref(), offset)?;
            found.steps.insert(0, PathStep::Index(index));
            Some(found)
        }),
        _ => None,
    }
}

/// Takes out what `steps` lead to; false if there is nothing.
fn remove(table: &mut DeTable<'_>, steps: &[PathStep]) -> bool {
    match steps {
        [PathStep::Key(key)] => table.remove(key.as_str()).is_some(),
        [PathStep::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_in(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, steps: &[PathStep]) -> bool {
    match (value, steps) {
        (DeValue::Table(table), steps) => remove(table, steps),
        (DeValue::Array(list), [PathStep::Index(index), rest @ ..]) => {
            list.get_mut(*index).is_some_and(|item| remove_in(item.get_mut(), rest))
        }
        _ => false,
    }
}

/// Whoever has more than this wrong has it all wrong in the same way.
const PROBLEMS_MAX: usize = 20;
