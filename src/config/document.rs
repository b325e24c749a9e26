//! TOML text and single values from elsewhere as one tree, in which everything knows its place.
//!
//! Places are offsets. The file has those from 0 on; each value from the environment or the command
//! line is set into the tree under an offset of its own behind them. So no layer above has to ask
//! where a value came from. The meaning of keys is not known here.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault, quoted};

/// A configuration as text, before it has types.
pub(super) struct Document<'t> {
    file: Option<&'t Path>,
    text: &'t str,
    root: DeValue<'t>,
    elsewhere: Vec<SourcePlace>,
}

impl<'t> Document<'t> {
    /// Reads TOML; `file` is where it is from, `None` if there is no file and so no text.
    pub(super) fn parse(file: Option<&'t Path>, bytes: &'t [u8]) -> Result<Self, Diagnostic> {
        let (text, refused) = decode(bytes);
        let root = DeValue::Table(DeTable::new());
        let this = Self { file, text, root, elsewhere: Vec::new() };
        if let Some(fault) = refused {
            return Err(fault.at(this.place(text.len()), None));
        }
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { root: DeValue::Table(table.into_inner()), ..this }),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let fault = syntax_fault(error.message(), text.get(span.clone()).unwrap_or(""));
                Err(fault.at(this.place(span.start), None))
            }
        }
    }

    /// All of it: a table.
    pub(super) fn root(&self) -> &DeValue<'t> {
        &self.root
    }

    /// Sets `key` of `table` (`""` is the top) to a text from `place`, over what the file says.
    pub(super) fn set(&mut self, table: &str, key: &str, value: String, place: SourcePlace) {
        self.elsewhere.push(place);
        let at = self.text.len() + self.elsewhere.len();
        let owned = |text: &str| Spanned::new(at..at, DeString::Owned(text.to_owned()));
        let DeValue::Table(top) = &mut self.root else { return };
        let empty = || Spanned::new(at..at, DeValue::Table(DeTable::new()));
        let target = match table {
            "" => top,
            _ => match top.entry(owned(table)).or_insert_with(empty).get_mut() {
                DeValue::Table(target) => target,
                // A value in the place of a table is reported later, when types are checked.
                _ => return,
            },
        };
        target.remove(key);
        target.insert(owned(key), Spanned::new(at..at, DeValue::String(DeString::Owned(value))));
    }

    /// All texts that are values, each with its offset.
    pub(super) fn texts(&self) -> Vec<(usize, &str)> {
        let (mut texts, mut rest) = (Vec::new(), vec![(0, &self.root)]);
        while let Some((at, value)) = rest.pop() {
            match value {
                DeValue::String(text) => texts.push((at, &**text)),
                DeValue::Array(items) => {
                    rest.extend(items.iter().map(|item| (item.span().start, item.get_ref())));
                }
                DeValue::Table(table) => {
                    rest.extend(table.values().map(|item| (item.span().start, item.get_ref())));
                }
                _ => {}
            }
        }
        texts
    }

    /// The place that `offset` stands for.
    pub(super) fn place(&self, offset: usize) -> SourcePlace {
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

/// The bytes as text, up to the first that cannot be in TOML, and its fault.
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

/// The fault of `text`, which the parser refuses with `message`.
fn syntax_fault(message: &str, text: &str) -> ValueFault {
    match lower_first(message) {
        what if what == "duplicate key" => ValueFault::new(format!("{what} {}", quoted(text)))
            .hint("it stands in this file already: keep one, or put their lines together"),
        what if what.contains("unquoted key") => ValueFault::new(what)
            .hint("names with other characters need quotes, as in `[registry.\"a.corp:5000\"]`"),
        what => ValueFault::new(what),
    }
}

/// The parser begins some messages with a capital letter.
fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "this is not TOML".to_owned(),
    }
}
