//! How a table of the configuration is declared: `table!`, and what it makes known of each key.
//!
//! The declaration is the only place that has a key's name, type, default and documentation. The
//! reader, the JSON schema, `config.example.toml` and `docs/configuration.md` all take them from
//! there.

use serde_json::{Map, Value, json};

use super::reader::{FromToml, TableReader, TomlValue};

/// All that is known of a key beside its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyInfo {
    pub name: &'static str,
    /// Paragraphs of Markdown. The first says what the key is for.
    pub doc: &'static str,
    pub default: KeyDefault,
    /// Whether its value is a table, or holds tables.
    pub is_table: bool,
    pub type_schema: fn() -> Value,
}

impl KeyInfo {
    /// The default in words, or in TOML between backquotes, as Markdown.
    pub(super) fn default_words(&self) -> String {
        match self.default {
            KeyDefault::Toml("{}") | KeyDefault::Nothing => "none".to_owned(),
            KeyDefault::Required => "none; the key is required".to_owned(),
            KeyDefault::Toml(toml) => format!("`{toml}`"),
            KeyDefault::Derived { words, .. } => words.to_owned(),
        }
    }

    /// The JSON schema of the value, with the documentation.
    fn schema(&self) -> Value {
        let mut schema = (self.type_schema)();
        schema["description"] = self.doc.trim().into();
        // JSON writes these as TOML does, except for tables, which are left out.
        let as_json = |toml| serde_json::from_str::<Value>(toml).ok();
        match self.default {
            KeyDefault::Toml(toml) => {
                if let Some(default) = as_json(toml) {
                    schema["default"] = default;
                }
            }
            KeyDefault::Derived { words, example } => {
                schema["description"] = format!("{}\n\nDefault: {words}", self.doc.trim()).into();
                if let Some(example) = as_json(example) {
                    schema["examples"] = json!([example]);
                }
            }
            KeyDefault::Nothing | KeyDefault::Required => {}
        }
        schema
    }
}

/// The value of a key that is left out.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyDefault {
    /// Something that other keys or the environment decide.
    Derived {
        words: &'static str,
        example: &'static str,
    },
    Nothing,
    /// Nothing: the key has to be given.
    Required,
    /// This TOML.
    Toml(&'static str),
}

/// All that is known of a table with fixed keys beside its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableInfo {
    /// How it is written, as in `[cache]`.
    pub title: &'static str,
    /// How a message calls one that lacks a required key.
    pub subject: &'static str,
    /// Paragraphs of Markdown.
    pub doc: &'static str,
    pub keys: &'static [KeyInfo],
}

/// A table with fixed keys, as `table!` declares it.
pub(super) trait TomlTable: FromToml {
    const INFO: TableInfo;

    /// Reads every key; `None` if a required one is missing or wrong.
    fn read_keys(table: &mut TableReader<'_, '_, '_>) -> Option<Self>;
}

/// Reads a value that has to be a table.
pub(super) fn read_table<T: TomlTable>(value: &mut TomlValue<'_, '_>) -> Option<T> {
    let known: Vec<&'static str> = T::INFO.keys.iter().map(|key| key.name).collect();
    let mut table = TableReader::new::<T>(value, &known)?;
    let read = T::read_keys(&mut table);
    table.finish(T::INFO.subject);
    read
}

/// The JSON schema of a table.
pub(super) fn schema_of<T: TomlTable>() -> Value {
    let required = |key: &&KeyInfo| matches!(key.default, KeyDefault::Required);
    let required: Vec<_> = T::INFO.keys.iter().filter(required).map(|key| key.name).collect();
    let property = |key: &KeyInfo| (key.name.to_owned(), key.schema());
    json!({
        "type": "object",
        "description": T::INFO.doc.trim(),
        "properties": T::INFO.keys.iter().map(property).collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
    })
}

/// A key's name without the `r#` of a field that is called like a Rust keyword.
pub(super) const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Declares a table: a struct whose fields are its keys.
///
/// A key is declared as one of
///
/// - `key: Type = default`, the default in TOML: the field is a `Type`;
/// - `key: Type`: the field is an `Option<Type>`;
/// - `key: Type, required`: the field is a `Type`, and a table without it is reported;
/// - `key: Type => "words" | example`: the field is an `Option<Type>`, whose default other keys or
///   the environment decide. The documentation describes it with the words, in Markdown; the
///   example file shows it at `example`.
///
/// each with a semicolon behind.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        struct $name:ident in $title:literal $(as $subject:literal)? {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident: $type:ty
                    $(= $default:tt)? $(=> $words:literal $(| $example:tt)?)? $(, $required:ident)?;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(super) struct $name {
            $(
                $(#[doc = $key_doc])*
                pub $key: table!(@field $type $(= $default)? $(, $required)?),
            )*
        }

        impl $crate::config::table::TomlTable for $name {
            const INFO: $crate::config::table::TableInfo = $crate::config::table::TableInfo {
                title: $title,
                subject: concat!($($subject)?),
                doc: concat!($($doc, "\n"),*),
                keys: &[$(
                    $crate::config::table::KeyInfo {
                        name: $crate::config::table::bare(stringify!($key)),
                        doc: concat!($($key_doc, "\n"),*),
                        default: table!(
                            @default $(= $default)? $(=> $words $(| $example)?)? $(, $required)?
                        ),
                        is_table: <$type as $crate::config::reader::FromToml>::IS_TABLE,
                        type_schema: <$type as $crate::config::reader::FromToml>::schema,
                    }
                ),*],
            };

            fn read_keys(
                table: &mut $crate::config::reader::TableReader<'_, '_, '_>,
            ) -> Option<Self> {
                // Every key is read before any is given up, so that each fault is reported.
                $( let $key = table!(@read table, $key $(= $default)? $(, $required)?); )*
                Some(Self { $($key: $key?),* })
            }
        }

        impl $crate::config::reader::FromToml for $name {
            const EXPECTED: &'static str = "a table";
            const IS_TABLE: bool = true;

            fn read(value: &mut $crate::config::reader::TomlValue<'_, '_>) -> Option<Self> {
                $crate::config::table::read_table(value)
            }

            fn schema() -> serde_json::Value {
                $crate::config::table::schema_of::<Self>()
            }
        }
    };

    (@field $type:ty = $default:tt) => { $type };
    (@field $type:ty, required) => { $type };
    (@field $type:ty) => { Option<$type> };

    (@default = $default:tt) => {
        $crate::config::table::KeyDefault::Toml(stringify!($default))
    };
    (@default => $words:literal $(| $example:tt)?) => {
        $crate::config::table::KeyDefault::Derived {
            words: $words,
            example: concat!($(stringify!($example))?),
        }
    };
    (@default , required) => { $crate::config::table::KeyDefault::Required };
    (@default) => { $crate::config::table::KeyDefault::Nothing };

    (@read $table:ident, $key:ident = $default:tt) => {
        $table.with_default($crate::config::table::bare(stringify!($key)), stringify!($default))
    };
    (@read $table:ident, $key:ident, required) => {
        $table.required($crate::config::table::bare(stringify!($key)))
    };
    (@read $table:ident, $key:ident) => {
        Some($table.optional($crate::config::table::bare(stringify!($key))))
    };
}
pub(super) use table;
