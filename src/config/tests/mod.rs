//! Whole configurations, good and bad, through the same function that the program uses.

mod access;
mod credentials_page;
mod dashboard;
mod doubtful;
mod example;
mod identity;
mod listeners;
mod meaning;
mod places;
mod reference;
mod refused;
mod refused_registries;

use std::path::Path;

use tempfile::TempDir;

use super::diagnostics::{Diagnostic, Diagnostics, SourcePlace};
use super::environment::Environment;
use super::load::{ConfigArgs, LoadedConfig, load_with};
use super::settings::Settings;

/// A directory with a `config.toml` in it.
struct Case {
    dir: TempDir,
    arguments: ConfigArgs,
    variables: Vec<(String, String)>,
}

impl Case {
    fn of(config: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        // Not for others to read, so that no test gets a warning it did not provoke.
        set_mode(&path, 0o600);
        let arguments = ConfigArgs { config: Some(path), listen: Vec::new() };
        Self { dir, arguments, variables: vec![("HOME".into(), "/home/test".into())] }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.dir.path().join(name), content).unwrap();
        set_mode(&self.dir.path().join(name), 0o600);
        self
    }

    fn load(&self) -> Result<LoadedConfig, Diagnostics> {
        let environment: Environment = self.variables.clone().into_iter().collect();
        load_with(&self.arguments, &environment, &self.dir.path().join("system.toml"))
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|problems| panic!("\n{problems}\n")).settings
    }

    #[track_caller]
    fn problems(&self) -> Vec<Diagnostic> {
        self.load().expect_err("it must be refused").iter().cloned().collect()
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

/// Warnings as the log has them.
fn lines(warnings: &[Diagnostic]) -> Vec<String> {
    warnings.iter().map(Diagnostic::to_line).collect()
}

fn line(problem: &Diagnostic) -> usize {
    match &problem.place {
        SourcePlace::File { line, .. } => *line,
        _ => 0,
    }
}

/// Text; the line and key that the first problem names; a part of the message and hint.
type Row = (&'static str, usize, &'static str, &'static str);

#[track_caller]
fn refused(rows: &[Row]) {
    for (text, want_line, want_key, want) in rows {
        let problem = Case::of(text).problems().remove(0);
        let shown = problem.to_string();
        assert_eq!(line(&problem), *want_line, "{text}\n{shown}");
        assert_eq!(problem.key.as_deref().unwrap_or_default(), *want_key, "{text}\n{shown}");
        assert!(shown.contains(want), "{text}\n{shown}");
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        assert!(!problem.what.ends_with('.') && !problem.what.contains('\n'), "{shown}");
    }
}
