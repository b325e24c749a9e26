//! Runs the shell blocks of a document as a reader would type them, on ports and directories of the
//! test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;
use super::work::Work;

/// A shell that finds stand-ins for the programs of a document, and its files below a directory.
pub(crate) struct Shell {
    /// Stands for `/`, and is where commands run.
    dir: PathBuf,
    bin: PathBuf,
    /// Texts of the document, and the texts that they stand for here.
    replacements: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new(work: &Work) -> Self {
        let dir = work.new_dir("reader");
        let bin = dir.join("bin");
        fs::create_dir_all(&bin).expect("the test's directory can be written");
        let etc = ("/etc/".to_owned(), format!("{}/etc/", dir.display()));
        Self { dir, bin, replacements: vec![etc] }
    }

    /// Has `here` typed wherever the document says `there`.
    pub(crate) fn replacing(mut self, there: &str, here: &str) -> Self {
        self.replacements.push((there.to_owned(), here.to_owned()));
        self
    }

    /// Has the program `name` be this command, followed by what is typed and then by `last`.
    pub(crate) fn stand_in(&self, name: &str, command: &Command, last: &[&str]) {
        let exports = command.get_envs().map(|(key, value)| {
            format!("export {}={}\n", key.to_string_lossy(), quoted(value.unwrap_or_default()))
        });
        let exports: String = exports.collect();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(quoted).collect();
        let last: Vec<String> = last.iter().map(|word| quoted(word.as_ref())).collect();
        let run = format!("exec {} \"$@\" {}", words.join(" "), last.join(" "));
        self.script(name, &format!("#!/bin/sh\n{exports}{run}\n"));
    }

    /// Has the program `name` be this script.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let file = self.bin.join(name);
        fs::write(&file, text).expect("the test's directory can be written");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&file, executable).expect("the file is ours");
    }

    /// A text of the document as it is here.
    pub(crate) fn localised(&self, text: &str) -> String {
        self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Writes a file that the document shows, where `localised` has its name lead.
    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let file = PathBuf::from(self.localised(file));
        let dir = file.parent().expect("a file is in a directory");
        fs::create_dir_all(dir).expect("the test's directory can be written");
        fs::write(&file, self.localised(text)).expect("the test's directory can be written");
        file
    }

    /// The command that runs a block. It cannot reach beyond the loopback by any proxy.
    pub(crate) fn command(&self, block: &str) -> Command {
        let mut command = tools::command("bash");
        let path = tools::environment("PATH").unwrap_or_default();
        let path = std::iter::once(self.bin.clone()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).expect("no directory of ours has a colon");
        command.env("PATH", path).env("HOME", &self.dir);
        command.args(["-euo", "pipefail", "-c", &self.localised(block)]);
        command.current_dir(&self.dir);
        command
    }

    /// Runs a block to its end; stdout, or an error with stderr.
    pub(crate) fn run(&self, block: &str) -> Result<String, String> {
        tools::run(&mut self.command(block))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A word for the shell.
fn quoted(word: &std::ffi::OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}
