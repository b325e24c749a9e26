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

use super::problem::{Fault, Place, Problem, Problems};
use super::wording;
use super::written::File;

/// A configuration as text, before it has types.
pub(super) struct Document<'t> {
    file: Option<&'t Path>,
    text: &'t str,
    table: Spanned<DeTable<'t>>,
    elsewhere: Vec<Place>,
}

impl<'t> Document<'t> {
    /// Reads TOML; `file` is where it is from, `None` if there is no file and so no text.
    pub(super) fn parse(file: Option<&'t Path>, bytes: &'t [u8]) -> Result<Self, Problem> {
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
                return Err(this.problem(span, Fault::new(wording::lower_first(error.message()))));
            }
        }
        Ok(this)
    }

    /// Sets `key` of `table` (`""` is the top) to a text from `place`, over what the file says.
    pub(super) fn set(&mut self, table: &str, key: &str, value: String, place: Place) {
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
    pub(super) fn typed(&self) -> Result<File, Problems> {
        let mut rest = self.table.clone();
        let mut problems = Vec::new();
        loop {
            let error = match File::deserialize(Deserializer::from(rest.clone())) {
                Ok(file) => return Problems::none_or(problems, file),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let steps = path_to(self.table.get_ref(), span.start).unwrap_or_default();
            problems.push(self.problem(span, wording::of_serde(error.message())));
            if problems.len() >= PROBLEMS_MAX || !remove(rest.get_mut(), &steps) {
                return Problems::none_or(problems, File::default());
            }
        }
    }

    /// `fault`, with the place and the key of what is at `span`.
    pub(super) fn problem(&self, span: Range<usize>, fault: Fault) -> Problem {
        let key = path_to(self.table.get_ref(), span.start).map(|steps| wording::of_path(&steps));
        fault.at(self.place(span.start), key)
    }

    fn place(&self, offset: usize) -> Place {
        if let Some(index) = offset.checked_sub(self.text.len() + 1) {
            return self.elsewhere.get(index).cloned().unwrap_or(Place::Nowhere);
        }
        let Some(path) = self.file else { return Place::Nowhere };
        let end = (0..=offset).rev().find(|end| self.text.is_char_boundary(*end)).unwrap_or(0);
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One step from a table or list to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Index(usize),
    Key(String),
}

/// The text, or as much of it as is fit to be read and what is wrong with the rest.
fn decode(bytes: &[u8]) -> (&str, Option<Fault>) {
    const HINT: &str = "save the file as UTF-8";
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return ("", Some(Fault::new("the file is UTF-16").hint(HINT)));
    }
    // Editors on Windows put it there; TOML has no use for it.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let (text, fault) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, Some(Fault::new("this is not UTF-8").hint(HINT)))
        }
    };
    match text.find('\0') {
        Some(at) => (&text[..at], Some(Fault::new("there is a NUL character"))),
        None => (text, fault),
    }
}

/// The way to the value that is meant by `offset`.
fn path_to(table: &DeTable<'_>, offset: usize) -> Option<Vec<Step>> {
    best_in(table, offset).map(|found| found.steps)
}

/// A value that may be the one that is meant.
struct Found {
    /// Whether the offset lies in its name, not somewhere in its extent. The extent of a table is
    /// its header, in which the names of the tables around it stand too.
    is_named: bool,
    steps: Vec<Step>,
}

/// What is named at `offset`, else the innermost value that it lies in.
fn best_in(table: &DeTable<'_>, offset: usize) -> Option<Found> {
    let mut best: Option<Found> = None;
    for (key, value) in table {
        let is_named = key.span().contains(&offset);
        let is_here = is_named || value.span().contains(&offset);
        // What is in a table can stand anywhere, so it has to be looked at in any case.
        let inner = best_into(value.get_ref(), offset).filter(|it| it.is_named || !is_named);
        let found = inner.or_else(|| is_here.then(|| Found { is_named, steps: Vec::new() }));
        let Some(mut found) = found else { continue };
        found.steps.insert(0, Step::Key(key.get_ref().clone().into_owned()));
        if best.as_ref().is_none_or(|best| found.is_named && !best.is_named) {
            best = Some(found);
        }
    }
    best
}

fn best_into(value: &DeValue<'_>, offset: usize) -> Option<Found> {
    match value {
        DeValue::Table(table) => best_in(table, offset),
        DeValue::Array(list) => list.iter().enumerate().find_map(|(index, item)| {
            let mut found = best_into(item.get_ref(), offset)?;
            found.steps.insert(0, Step::Index(index));
            Some(found)
        }),
        _ => None,
    }
}

/// Takes out what `steps` lead to; false if there is nothing.
fn remove(table: &mut DeTable<'_>, steps: &[Step]) -> bool {
    match steps {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_in(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, steps: &[Step]) -> bool {
    match (value, steps) {
        (DeValue::Table(table), steps) => remove(table, steps),
        (DeValue::Array(list), [Step::Index(index), rest @ ..]) => {
            list.get_mut(*index).is_some_and(|item| remove_in(item.get_mut(), rest))
        }
        _ => false,
    }
}

/// Whoever has more than this wrong has it all wrong in the same way.
const PROBLEMS_MAX: usize = 20;
