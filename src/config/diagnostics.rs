//! Diagnostics: a mistake in a configuration, its place, and a hint.
//!
//! Nothing here reads or decides; the other files report mistakes in these types, and this is the
//! one place that renders them. The source line is not shown here: it may hold a password.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// One thing that has to change before the configuration can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The mistake: one line, no full stop.
    pub what: String,
    /// The place of the value in question.
    pub place: SourcePlace,
    /// The full name of the key, as in `registry."docker.io".upstream`, where there is one.
    pub key: Option<String>,
    /// The next step, where there is an obvious one.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// One that stands nowhere.
    pub(super) fn in_general(what: String) -> Self {
        Self { what, place: SourcePlace::Nowhere, key: None, hint: None }
    }

    /// All of it on one line, for a log: place, fault, key, hint.
    pub fn to_line(&self) -> String {
        let mut line = match &self.place {
            SourcePlace::Nowhere => String::new(),
            place => format!("{place}: "),
        };
        line.push_str(&self.what);
        for (name, value) in [("key", &self.key), ("hint", &self.hint)] {
            if let Some(value) = value {
                line.extend(["; ", name, ": ", value]);
            }
        }
        line
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if self.place != SourcePlace::Nowhere {
            write!(f, "\n --> {}", self.place)?;
        }
        if let Some(key) = &self.key {
            write!(f, "\n key: {key}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// The place where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePlace {
    /// On the command line, with this flag.
    Argument(&'static str),
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// Nowhere: it follows from what is missing.
    Nowhere,
    /// In an environment variable.
    Variable(String),
    /// A file as a whole.
    WholeFile(PathBuf),
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => write!(f, "argument {name}"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Nowhere => Ok(()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::WholeFile(path) => path.display().fmt(f),
        }
    }
}

/// Everything that was found wrong at once; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub(super) Vec<Diagnostic>);

impl Diagnostics {
    /// Each of them, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(problem: Diagnostic) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl Error for Diagnostics {}

/// A mistake in a value, from code that does not know where the value was written.
#[derive(Debug)]
pub(super) struct ValueFault {
    /// As in [`Diagnostic::what`].
    pub what: String,
    /// As in [`Diagnostic::hint`].
    pub hint: Option<String>,
}

impl ValueFault {
    /// A fault without a hint.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// Adds a next step for the operator.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The problem that it is at `place`.
    pub(super) fn at(self, place: SourcePlace, key: Option<String>) -> Diagnostic {
        Diagnostic { what: self.what, place, key, hint: self.hint }
    }
}

/// A value in backticks, safe to print on a terminal and never longer than a line.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(escaped).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The candidate that `text` is most likely a misspelling of.
pub(super) fn nearest<'c>(text: &str, candidates: &[&'c str]) -> Option<&'c str> {
    // Comparing takes time in proportion to the product of the lengths.
    if text.len() > SHOWN_CHARS_MAX {
        return None;
    }
    let plain = text.to_lowercase().replace('-', "_");
    candidates
        .iter()
        .map(|candidate| {
            let folded = candidate.to_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&plain, &folded), *candidate)
        })
        // A third of the letters wrong is a slip; more is another word.
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (escaped, plain) =
        if c.is_control() { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    escaped.into_iter().flatten().chain(plain)
}

/// A value that does not fit beside its message on one line is cut here.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_what_where_which_key_and_what_to_do() {
        let place =
            SourcePlace::File { path: "/etc/larder/config.toml".into(), line: 3, column: 1 };
        let problem = ValueFault::new("unknown key `upstram`")
            .hint("did you mean `upstream`?")
            .at(place, Some("registry.\"docker.io\".upstram".into()));

        assert_eq!(
            problem.to_string(),
            "error: unknown key `upstram`\n --> /etc/larder/config.toml:3:1\n \
             key: registry.\"docker.io\".upstram\nhint: did you mean `upstream`?"
        );
    }

    #[test]
    fn a_line_of_a_log_has_place_fault_key_and_hint() {
        let place = SourcePlace::File { path: "/etc/l.toml".into(), line: 3, column: 1 };
        let fault = || ValueFault::new("unknown key `upstram`");
        let whole = fault().hint("did you mean `upstream`?").at(place, Some("upstram".into()));
        let bare = fault().at(SourcePlace::Nowhere, None);

        assert_eq!(
            whole.to_line(),
            "/etc/l.toml:3:1: unknown key `upstram`; key: upstram; hint: did you mean `upstream`?"
        );
        assert_eq!(bare.to_line(), "unknown key `upstram`");
    }

    /// A configuration may be hostile enough to carry terminal control sequences.
    #[test]
    fn values_are_shown_escaped_and_short() {
        assert_eq!(quoted("a\u{1b}[2Jb\n"), "`a\\u{1b}[2Jb\\n`");
        assert_eq!(quoted(&"x".repeat(1 << 20)).chars().count(), SHOWN_CHARS_MAX + 3);
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["upstream", "aliases", "tag_ttl"];

        assert_eq!(nearest("upstram", &known), Some("upstream"));
        assert_eq!(nearest("tag-ttl", &known), Some("tag_ttl"));
        assert_eq!(nearest("Aliases", &known), Some("aliases"));
        assert_eq!(nearest("push", &known), None);
        assert_eq!(nearest(&"u".repeat(1 << 20), &known), None);
    }
}
