//! One walk from a TOML tree to typed tables, which reports everything that does not fit.
//!
//! The walk is not serde's: serde stops at its first error, quotes the value in it, which may be a
//! password, and knows no key by its full name. Which keys there are and what they mean is not
//! known here.

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::changed_key::{ChangedKey, SECRET_TITLE, json_of};
use super::diagnostics::{Diagnostic, Diagnostics, SourcePlace, ValueFault, nearest, quoted};
use super::document::Document;

/// A type that a key can have.
pub(super) trait FromToml: Sized {
    /// How a message calls the TOML type that it is written as.
    const EXPECTED: &'static str;
    /// Whether it is a table, or holds tables.
    const IS_TABLE: bool = false;

    /// Reads `value`; `None` if something was wrong with it, which has been reported.
    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self>;

    /// Its JSON schema.
    fn schema() -> Value;
}

/// A type that is written as a TOML string.
pub(super) trait FromText: Sized {
    /// How the documentation calls it.
    const TITLE: &'static str;
    /// Every text that it can have, if they can be listed.
    const WORDS: &'static [&'static str] = &[];

    /// Reads `text`.
    fn from_text(text: &str) -> Result<Self, ValueFault>;
}

/// The full name of a key, and where its value stands.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyLocation {
    /// As in `registry."docker.io".upstream`; empty for the whole file.
    name: String,
    /// The entry, where the value is one of a list.
    index: Option<usize>,
    /// Its offset in the document; `None` for a default.
    offset: Option<usize>,
}

impl KeyLocation {
    /// The key `name` of the table that stands here.
    fn child(&self, name: &str, offset: usize) -> Self {
        let mut full = self.name.clone();
        if let Some(index) = self.index {
            full.extend(["[", &index.to_string(), "]"]);
        }
        if !full.is_empty() {
            full.push('.');
        }
        let is_bare = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let quote = if is_bare { "" } else { "\"" };
        full.extend([quote, quoted(name).trim_matches('`'), quote]);
        Self { name: full, index: None, offset: self.offset.map(|_| offset) }
    }

    /// Entry `index` of the list that stands here.
    fn entry(&self, index: usize, offset: usize) -> Self {
        let offset = self.offset.map(|_| offset);
        Self { name: self.name.clone(), index: Some(index), offset }
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub at: KeyLocation,
}

impl<T> Located<T> {
    /// Whether it was written, and is not a default.
    pub(super) fn is_given(&self) -> bool {
        self.at.offset.is_some()
    }
}

/// Reads values, and collects what is wrong with them.
pub(super) struct TomlReader<'d> {
    document: &'d Document<'d>,
    /// In which table a key belongs.
    home_of: fn(&str) -> Option<&'static str>,
    diagnostics: Vec<Diagnostic>,
    /// The keys that differ from their defaults.
    pub changed: Vec<ChangedKey>,
    /// Whether a key was unknown or of another type, so that no meaning should be looked for.
    pub is_malformed: bool,
}

impl<'d> TomlReader<'d> {
    /// A reader of `document`; `home_of` says in which table a key belongs.
    pub(super) fn new(
        document: &'d Document<'d>,
        home_of: fn(&str) -> Option<&'static str>,
    ) -> Self {
        Self {
            document,
            home_of,
            diagnostics: Vec::new(),
            changed: Vec::new(),
            is_malformed: false,
        }
    }

    /// Reads the whole document.
    pub(super) fn read<T: FromToml>(&mut self) -> Option<T> {
        let at = KeyLocation { offset: Some(0), ..KeyLocation::default() };
        T::read(&mut TomlValue { value: self.document.root(), at, reader: self })
    }

    /// The value that `toml` stands for. Tests see to it that every default can be read.
    pub(super) fn default_value<T: FromToml>(&mut self, toml: &'static str) -> Option<T> {
        let at = KeyLocation::default();
        let value = DeValue::parse(toml).map_err(|_| ValueFault::new("a default is not TOML"));
        let value = self.accept(&at, value)?;
        T::read(&mut TomlValue { value: value.get_ref(), at, reader: self })
    }

    /// Reports `fault` of the value at `at`.
    pub(super) fn report(&mut self, at: &KeyLocation, fault: ValueFault) {
        self.push(self.locate(at, fault));
    }

    /// `fault` with the place and the key of `at`.
    pub(super) fn locate(&self, at: &KeyLocation, fault: ValueFault) -> Diagnostic {
        let place = at.offset.map_or(SourcePlace::Nowhere, |offset| self.document.place(offset));
        let key = Some(at.name.clone()).filter(|name| !name.is_empty());
        fault.at(place, key)
    }

    /// Notes `diagnostic`, unless it is known or there are enough.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < DIAGNOSTICS_MAX && !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// The value, or a report and nothing.
    pub(super) fn accept<T>(
        &mut self,
        at: &KeyLocation,
        value: Result<T, ValueFault>,
    ) -> Option<T> {
        value.map_err(|fault| self.report(at, fault)).ok()
    }

    /// The value if nothing was reported, else what was.
    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, Diagnostics> {
        let value = value.filter(|_| self.diagnostics.is_empty());
        value.ok_or(Diagnostics(self.diagnostics))
    }
}

/// A value of the document on its way to a type.
pub(super) struct TomlValue<'v, 'd> {
    value: &'v DeValue<'v>,
    /// The location of the value.
    pub at: KeyLocation,
    reader: &'v mut TomlReader<'d>,
}

impl<'v, 'd> TomlValue<'v, 'd> {
    /// The value itself.
    pub(super) fn get(&self) -> &'v DeValue<'v> {
        self.value
    }

    /// The value that `pick` takes out of it. If that is `None`, reports that the value is not of
    /// type `T`.
    pub(super) fn expect<T: FromToml, U>(
        &mut self,
        pick: impl FnOnce(&'v DeValue<'v>) -> Option<U>,
    ) -> Option<U> {
        let picked = pick(self.value);
        if picked.is_none() {
            self.refuse_type(T::EXPECTED);
        }
        picked
    }

    fn refuse_type(&mut self, expected: &str) {
        let found = match self.value {
            DeValue::Array(_) => "a list",
            DeValue::Boolean(_) => "`true` or `false`",
            DeValue::Datetime(_) => "a date",
            DeValue::Float(_) => "a number with a point",
            DeValue::Integer(_) => "an integer",
            DeValue::String(_) => "a string",
            DeValue::Table(_) => "a table",
        };
        let fault = ValueFault::new(format!("expected {expected}, not {found}"));
        let fault = match (expected, self.value) {
            ("a string", DeValue::Integer(_) | DeValue::Float(_)) => {
                fault.hint("put it in quotes; a size or a duration also needs its unit")
            }
            ("an integer" | "`true` or `false`", DeValue::String(_)) => {
                fault.hint("write it without quotes")
            }
            _ => fault,
        };
        self.reader.is_malformed = true;
        self.report(fault);
    }

    /// Notes it, unless it is the default. Tables are noted key by key.
    fn note_change<T: FromToml>(&mut self, default: Option<&str>) {
        let (Some(value), Some(offset)) = (json_of(self.value), self.at.offset) else { return };
        // JSON writes defaults as TOML does.
        let default = default.and_then(|toml| serde_json::from_str::<Value>(toml).ok());
        if default.as_ref() != Some(&value) {
            let is_secret = T::schema()["title"] == SECRET_TITLE;
            self.reader.changed.push(ChangedKey {
                key: self.at.name.clone(),
                place: self.reader.document.place(offset),
                value: (!is_secret).then_some(value),
                default,
            });
        }
    }

    /// Reports `fault` of it.
    pub(super) fn report(&mut self, fault: ValueFault) {
        self.reader.report(&self.at, fault);
    }

    /// The value, or a report and nothing.
    pub(super) fn accept<T>(&mut self, value: Result<T, ValueFault>) -> Option<T> {
        self.reader.accept(&self.at, value)
    }

    /// The value of key `name` of this table.
    pub(super) fn child(
        &mut self,
        name: &str,
        value: &'v Spanned<DeValue<'v>>,
    ) -> TomlValue<'_, 'd> {
        let at = self.at.child(name, value.span().start);
        TomlValue { value: value.get_ref(), at, reader: self.reader }
    }

    /// Entry `index` of this list.
    fn entry(&mut self, index: usize, value: &'v Spanned<DeValue<'v>>) -> TomlValue<'_, 'd> {
        let at = self.at.entry(index, value.span().start);
        TomlValue { value: value.get_ref(), at, reader: self.reader }
    }

    /// The name of an entry of this table, as a value.
    pub(super) fn name<T: FromText>(&mut self, name: &str, offset: usize) -> Option<Located<T>> {
        let at = self.at.child(name, offset);
        self.reader.accept(&at, T::from_text(name)).map(|value| Located { value, at })
    }

    /// Reports that there is no key `name` in this table, which has the `known` ones.
    fn refuse_key(&mut self, name: &str, known: &[&'static str], offset: usize) {
        let hint = match (nearest(name, known), (self.reader.home_of)(name)) {
            (Some(known), _) => format!("did you mean `{known}`?"),
            (None, Some("")) => format!("`{name}` belongs above the first `[…]` of the file"),
            (None, Some(table)) => format!("`{name}` belongs in `{table}`"),
            (None, None) => format!("known here: `{}`", known.join("`, `")),
        };
        let fault = ValueFault::new(format!("unknown key {}", quoted(name))).hint(hint);
        self.reader.is_malformed = true;
        self.reader.report(&self.at.child(name, offset), fault);
    }
}

/// Reads the keys of one table.
pub(super) struct TableReader<'t, 'v, 'd> {
    table: &'v DeTable<'v>,
    value: &'t mut TomlValue<'v, 'd>,
    missing: Vec<&'static str>,
    /// Whether every key is known: one that is not may be a missing one, misspelt.
    is_known: bool,
}

impl<'t, 'v, 'd> TableReader<'t, 'v, 'd> {
    /// A reader of `value`, if that is a table. Reports the keys that are not `known`.
    pub(super) fn new<T: FromToml>(
        value: &'t mut TomlValue<'v, 'd>,
        known: &[&'static str],
    ) -> Option<Self> {
        let table = value.expect::<T, _>(DeValue::as_table)?;
        let mut is_known = true;
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            is_known = false;
            value.refuse_key(key.get_ref(), known, key.span().start);
        }
        Some(Self { table, value, missing: Vec::new(), is_known })
    }

    /// The value of `key`, if it is given and right.
    pub(super) fn optional<T: FromToml>(&mut self, key: &str) -> Option<T> {
        self.given(key, None)
    }

    fn given<T: FromToml>(&mut self, key: &str, default: Option<&'static str>) -> Option<T> {
        let mut value = self.value.child(key, self.table.get(key)?);
        value.note_change::<T>(default);
        T::read(&mut value)
    }

    /// The value of `key`, or the one that `default` stands for.
    pub(super) fn with_default<T: FromToml>(
        &mut self,
        key: &str,
        default: &'static str,
    ) -> Option<T> {
        self.given(key, Some(default)).or_else(|| self.value.reader.default_value(default))
    }

    /// The value of `key`, which has to be given.
    pub(super) fn required<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.missing.push(key);
        }
        self.optional(key)
    }

    /// Reports the required keys that `subject` has not.
    pub(super) fn finish(self, subject: &str) {
        for key in self.missing.iter().filter(|_| self.is_known) {
            self.value.report(ValueFault::new(format!("{subject} has no `{key}`")));
        }
    }
}

impl<T: FromToml> FromToml for Located<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const IS_TABLE: bool = T::IS_TABLE;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        Some(Self { value: T::read(value)?, at: value.at.clone() })
    }

    fn schema() -> Value {
        T::schema()
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    const EXPECTED: &'static str = "a list";
    const IS_TABLE: bool = T::IS_TABLE;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let items = value.expect::<Self, _>(DeValue::as_array)?.iter().enumerate();
        Some(items.filter_map(|(index, item)| T::read(&mut value.entry(index, item))).collect())
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        value.expect::<Self, _>(DeValue::as_bool)
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl<T: FromText> FromToml for T {
    const EXPECTED: &'static str = "a string";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let text = value.expect::<Self, _>(DeValue::as_str)?;
        value.accept(T::from_text(text))
    }

    fn schema() -> Value {
        match T::WORDS {
            [] => json!({ "type": "string", "title": T::TITLE }),
            words => json!({ "type": "string", "enum": words }),
        }
    }
}

/// An operator that has more than this wrong has it all wrong in the same way.
const DIAGNOSTICS_MAX: usize = 20;
