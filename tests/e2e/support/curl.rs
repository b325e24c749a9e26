//! curl: the client that does exactly what it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;

/// A request in the making.
pub(crate) struct Curl {
    command: Command,
    body: PathBuf,
    headers: tempfile::NamedTempFile,
}

/// The reply. Its body is in the file that was asked for.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// As sent, of the last response.
    pub(crate) headers: Vec<(String, String)>,
    /// Empty unless curl failed, as it does for a body that is cut short.
    pub(crate) trouble: String,
}

impl Curl {
    pub(crate) fn get(url: &str) -> Self {
        let headers = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let mut command = tools::command("curl");
        command.args(["-q", "-sS", "-w", "%{http_code}", "-D"]).arg(headers.path()).arg(url);
        Self { command, body: "/dev/null".into(), headers }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn range(self, range: &str) -> Self {
        self.arg("-r").arg(range)
    }

    /// The file that the body goes to; by default none.
    pub(crate) fn to(mut self, file: &Path) -> Self {
        // curl leaves the file alone when the body is empty.
        fs::write(file, b"").expect("the test's directory can be written");
        file.clone_into(&mut self.body);
        self
    }

    pub(crate) fn send(mut self) -> Reply {
        let output = self.command.arg("-o").arg(&self.body).output().expect("curl can be run");
        let status = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        let trouble = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let headers = fs::read_to_string(self.headers.path()).unwrap_or_default();
        Reply { status, headers: last_response(&headers), trouble }
    }
}

impl Reply {
    /// All values of a header, joined as HTTP allows.
    pub(crate) fn header(&self, name: &str) -> String {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn cache_status(&self) -> String {
        self.header("cache-status")
    }
}

/// curl's dump holds every response on the way, each ended by an empty line.
fn last_response(dump: &str) -> Vec<(String, String)> {
    let response = dump.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let fields = response.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}
