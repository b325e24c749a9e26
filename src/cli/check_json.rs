//! `larder check --json`: the problems of a configuration and the keys that it changes, for
//! programs.

use serde::Serialize;
use serde_json::Value;

use crate::config::{ChangedKey, Diagnostic, Diagnostics, LoadedConfig, SourcePlace};

/// The document that is printed.
#[derive(Debug, Serialize)]
pub(super) struct CheckDocument {
    /// The configuration can be used.
    valid: bool,
    /// The file that was read; `null` without one, or if it is not valid.
    config: Option<String>,
    /// Variables and arguments that said something, over the file.
    overridden_by: Vec<String>,
    /// Errors and warnings.
    problems: Vec<ProblemRow>,
    /// The keys that differ from their defaults, `push` first.
    changed: Vec<ChangedRow>,
}

#[derive(Debug, Serialize)]
struct ProblemRow {
    /// `error` or `warning`.
    severity: &'static str,
    message: String,
    #[serde(flatten)]
    place: PlaceFields,
    key: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct ChangedRow {
    key: String,
    /// `null` if it is secret.
    value: Option<Value>,
    /// `null` if it has none, or if other keys decide it.
    default: Option<Value>,
    #[serde(flatten)]
    place: PlaceFields,
}

#[derive(Debug, Default, Serialize)]
struct PlaceFields {
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    /// The variable or argument in the place of a file.
    source: Option<String>,
}

impl CheckDocument {
    /// The document of a configuration that can be used.
    pub(super) fn of_valid(loaded: &LoadedConfig) -> Self {
        let warnings = loaded.settings.warnings.iter();
        Self {
            valid: true,
            config: loaded.file.as_ref().map(|file| file.display().to_string()),
            overridden_by: loaded.overrides.clone(),
            problems: warnings.map(|it| ProblemRow::of("warning", it)).collect(),
            changed: loaded.changed.iter().map(ChangedRow::of).collect(),
        }
    }

    /// The document of one that cannot.
    pub(super) fn of_invalid(problems: &Diagnostics) -> Self {
        Self {
            valid: false,
            config: None,
            overridden_by: Vec::new(),
            problems: problems.iter().map(|it| ProblemRow::of("error", it)).collect(),
            changed: Vec::new(),
        }
    }
}

impl ProblemRow {
    fn of(severity: &'static str, problem: &Diagnostic) -> Self {
        let Diagnostic { what, place, key, hint } = problem.clone();
        Self { severity, message: what, place: PlaceFields::of(&place), key, hint }
    }
}

impl ChangedRow {
    fn of(changed: &ChangedKey) -> Self {
        let ChangedKey { key, place, value, default } = changed.clone();
        Self { key, value, default, place: PlaceFields::of(&place) }
    }
}

impl PlaceFields {
    fn of(place: &SourcePlace) -> Self {
        match place {
            SourcePlace::File { path, line, column } => Self {
                file: Some(path.display().to_string()),
                line: Some(*line),
                column: Some(*column),
                source: None,
            },
            SourcePlace::Nowhere => Self::default(),
            SourcePlace::WholeFile(path) => {
                Self { file: Some(path.display().to_string()), ..Self::default() }
            }
            SourcePlace::Argument(name) => {
                Self { source: Some((*name).to_owned()), ..Self::default() }
            }
            SourcePlace::Variable(name) => Self { source: Some(name.clone()), ..Self::default() },
        }
    }
}
