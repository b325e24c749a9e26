//! The programs that the tests run: where they are, which version, and what happens without them.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Returns from the test, with a printed reason, unless every tool in the lists is there; else the
/// test's name.
///
/// `root` stands for being root. With `LARDER_E2E_REQUIRE=1` the test fails instead.
macro_rules! requires {
    ($($tools:expr),+ $(,)?) => {{
        fn here() {}
        let name = $crate::support::tools::test_name(&here);
        if !$crate::support::tools::present(name, &[$($tools),+]) {
            return;
        }
        name
    }};
}
pub(crate) use requires;

/// The name of the function around `here`.
pub(crate) fn test_name<T>(here: &T) -> &'static str {
    let path = std::any::type_name_of_val(here);
    let path = path.strip_suffix("::here").unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

pub(crate) fn present(test: &str, tools: &[&[&str]]) -> bool {
    let tools = tools.iter().flat_map(|list| list.iter().copied());
    let missing: Vec<&str> = tools.filter(|tool| !has(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(test, &format!("not here: {}", missing.join(", ")));
    false
}

/// Says why a test does not run, or fails it if everything has to run.
pub(crate) fn skip(test: &str, reason: &str) {
    let required = environment("LARDER_E2E_REQUIRE").is_some_and(|value| value == "1");
    assert!(!required, "{test} has to run (LARDER_E2E_REQUIRE=1), but: {reason}");
    println!("skipped: {test}: {reason}");
}

/// A command for a tool of `requires`, which cannot reach beyond the loopback by any proxy.
///
/// A client that gives up on its mirror asks the real Docker Hub; a dead proxy makes that a
/// failure on every machine, not only on those without a network.
pub(crate) fn command(tool: &str) -> Command {
    let mut command = Command::new(find(tool).unwrap_or_else(|| panic!("`{tool}` is not here")));
    confine(&mut command);
    command
}

/// Points every proxy variable at a port where nothing listens, except for the loopback itself.
pub(crate) fn confine(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, DEAD_PROXY).env(name.to_uppercase(), DEAD_PROXY);
    }
    command.env("no_proxy", "127.0.0.1,localhost").env("NO_PROXY", "127.0.0.1,localhost");
}

/// Sends a confined command's calls by TLS to the proxy at this port of the loopback.
pub(crate) fn send_by(command: &mut Command, proxy: u16) {
    let url = format!("http://127.0.0.1:{proxy}");
    command.env("https_proxy", &url).env("HTTPS_PROXY", url);
}

/// Runs to the end; stdout, or what was said on stderr.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    // Without the environment, which the debug form of a command shows.
    let typed = std::iter::once(command.get_program()).chain(command.get_args());
    let typed = typed.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("`{typed}`: {error}"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!("`{typed}`: {status}\n{}{said}", String::from_utf8_lossy(&stdout)))
}

/// Whether a tool is here.
pub(crate) fn has(tool: &str) -> bool {
    if tool == "root" { rustix::process::geteuid().is_root() } else { find(tool).is_some() }
}

/// The file of a tool.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let ours = super::work::kept().with_file_name("tools").join("bin");
    let path = environment("PATH").unwrap_or_default();
    // Daemons are in sbin, which is not on everybody's PATH.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(ours)
        .chain(std::env::split_paths(&path))
        .chain(system)
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
}

/// A variable of this process.
pub(crate) fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// The discard port; nothing serves a proxy there.
const DEAD_PROXY: &str = "http://127.0.0.1:9";
