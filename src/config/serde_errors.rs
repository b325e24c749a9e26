//! What serde and the TOML parser say, in our words, and without the values.
//!
//! Serde quotes the value that has the wrong type, and that may be a password. So its messages are
//! taken apart and only what kind of thing it was is kept.

use super::diagnostics::{ValueFault, nearest, quoted};
use super::document::PathStep;
use super::written::sections;

/// One of serde's messages.
pub(super) fn of_serde(message: &str) -> ValueFault {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(rest);
    }
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        return wrong_type(rest);
    }
    // Nothing else is raised for the types in `written.rs`; should that change, no value may slip
    // through before somebody has looked at the new message.
    ValueFault::new("the value does not fit here")
}

/// The full name of a key.
pub(super) fn of_path(steps: &[PathStep]) -> String {
    let mut name = String::new();
    for step in steps {
        match step {
            PathStep::Index(index) => name.extend(["[", &index.to_string(), "]"]),
            PathStep::Key(key) => {
                if !name.is_empty() {
                    name.push('.');
                }
                let is_bare = !key.is_empty()
                    && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
                let shown = quoted(key);
                let shown = shown.trim_matches('`');
                let quote = if is_bare { "" } else { "\"" };
                name.extend([quote, shown, quote]);
            }
        }
    }
    name
}

/// The parser begins some messages with a capital letter.
pub(super) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "this is not TOML".to_owned(),
    }
}

/// `rest` is ``key`, expected one of `a`, `b` ``.
fn unknown_key(rest: &str) -> ValueFault {
    let (key, known) = rest.rsplit_once("`, expected ").unwrap_or((rest, ""));
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let fault = ValueFault::new(format!("unknown key {}", quoted(key)));
    if let Some(known) = nearest(key, &known) {
        return fault.hint(format!("did you mean `{known}`?"));
    }
    let home = sections().into_iter().find(|(_, keys)| keys.contains(&key));
    fault.hint(match home {
        Some(("", _)) => format!("`{key}` belongs above the first `[…]` of the file"),
        Some((section, _)) => format!("`{key}` belongs in `{section}`"),
        None => format!("known here: `{}`", known.join("`, `")),
    })
}

/// `rest` is `integer `5`, expected a string`.
fn wrong_type(rest: &str) -> ValueFault {
    let (found, wanted) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
    let found = match found.split(['`', '"']).next().unwrap_or_default().trim() {
        "boolean" => "`true` or `false`",
        "floating point" => "a number with a point",
        "integer" => "an integer",
        "map" => "a table",
        "sequence" => "a list",
        "string" => "a string",
        _ => "this",
    };
    let wanted = match wanted {
        "a boolean" => "`true` or `false`",
        "a map" => "a table",
        "a sequence" => "a list",
        "i64" => "an integer",
        // Structs of `written.rs`, by their Rust names.
        wanted if wanted.starts_with("struct ") => "a table",
        wanted => wanted,
    };
    let fault = ValueFault::new(format!("expected {wanted}, not {found}"));
    match (wanted, found) {
        ("a string", "an integer" | "a number with a point") => {
            fault.hint("put it in quotes; a size or a duration also needs its unit")
        }
        ("an integer" | "`true` or `false`", "a string") => fault.hint("write it without quotes"),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A password that somebody forgot to quote must not reach a log through an error message.
    #[test]
    fn values_are_left_out() {
        for message in [
            "invalid type: integer `12345`, expected a string",
            "invalid type: string \"12345`, expected x\", expected struct Auth",
            "invalid value: integer `12345`, expected less",
            "unknown variant `12345`, expected `a`",
        ] {
            let fault = of_serde(message);
            assert!(!format!("{fault:?}").contains("12345"), "{fault:?}");
        }
    }

    #[test]
    fn keys_that_are_not_bare_are_quoted() {
        let key = |text: &str| PathStep::Key(text.to_owned());

        assert_eq!(
            of_path(&[
                key("registry"),
                key("a.b"),
                key("upstream"),
                PathStep::Index(1),
                key("url")
            ]),
            "registry.\"a.b\".upstream[1].url"
        );
    }
}
