//! `larder check` for programs, and on a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const SECRET: &str = "canary-of-a-password";

/// A command with a configuration in this directory.
fn larder(dir: &Path, config: &str, arguments: &[&str]) -> Command {
    let path = dir.join("config.toml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.arg("check").args(arguments).arg("--config").arg(path).env_clear();
    command.env("HOME", "/home/test").env("PATH", "/usr/bin:/bin");
    command
}

/// The exit code, and the object on stdout; stderr has to be empty.
fn checked(mut command: Command) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
    (status.code(), serde_json::from_slice(&stdout).unwrap())
}

#[test]
fn every_problem_is_an_object_with_its_place_key_and_hint() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "shutdown_grace = '5'\n[cache]\nmemory = '0'\n[registry.'a.test']\n\
         upstream = 'http://a.test'\nauth = {{ type = 'basic', pasword = '{SECRET}' }}\n"
    );
    let (code, found) = checked(larder(dir.path(), &config, &["--json"]));

    assert_eq!((code, &found["valid"]), (Some(2), &false.into()), "{found:#}");
    assert!(!found.to_string().contains(SECRET), "{found:#}");
    let path = dir.path().join("config.toml").display().to_string();
    let problems = found["problems"].as_array().unwrap();
    let place = |problem: &Value| (problem["line"].as_u64(), problem["key"].clone());
    let places: Vec<_> = problems.iter().map(place).collect();
    for want in [(Some(1), "shutdown_grace"), (Some(3), "cache.memory")] {
        assert!(places.contains(&(want.0, want.1.into())), "{places:?}");
    }
    let misspelt = problems.iter().find(|it| it["line"] == 6).unwrap();
    let want = json!({
        "severity": "error", "message": "unknown key `pasword`", "file": path, "line": 6,
        "column": 26, "source": null, "key": "registry.\"a.test\".auth.pasword",
        "hint": "did you mean `password`?",
    });
    assert_eq!(misspelt, &want);
}

#[test]
fn a_valid_file_has_its_warnings_and_the_keys_that_it_changes_push_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "listen = ['127.0.0.1:5000']\nshutdown_grace = '1m'\nadmin_listen = ''\n\
         [registry.'mirror']\nupstream = 'http://m.test'\npush = true\ntag_ttl = '60s'\n\
         auth = {{ type = 'basic', username = 'robot', password = '{SECRET}' }}\n"
    );
    let mut command = larder(dir.path(), &config, &["--json"]);
    command.env("LARDER_CACHE_MAX_SIZE", "1GiB");
    let (code, found) = checked(command);

    assert_eq!((code, &found["valid"]), (Some(0), &true.into()), "{found:#}");
    assert!(!found.to_string().contains(SECRET), "{found:#}");
    assert_eq!(found["overridden_by"], json!(["LARDER_CACHE_MAX_SIZE"]));
    let problems = found["problems"].as_array().unwrap();
    assert!(!problems.is_empty() && problems.iter().all(|it| it["severity"] == "warning"));
    let changed = found["changed"].as_array().unwrap();
    let keys: Vec<_> = changed.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys[0], "registry.mirror.push", "{keys:?}");
    assert_eq!((&changed[0]["value"], &changed[0]["default"]), (&true.into(), &false.into()));
    for absent in ["listen", "registry.mirror.tag_ttl"] {
        assert!(!keys.contains(&absent), "{absent} is at its default: {keys:?}");
    }
    let of =
        |key: &str| changed.iter().find(|it| it["key"] == key).unwrap_or_else(|| panic!("{key}"));
    assert_eq!(of("shutdown_grace")["default"], "30s");
    assert_eq!(of("shutdown_grace")["line"], 2);
    assert_eq!(of("registry.mirror.auth.password")["value"], Value::Null);
    assert_eq!(of("registry.mirror.auth.username")["value"], "robot");
    let size = of("cache.max_size");
    assert_eq!((&size["source"], &size["line"]), (&"LARDER_CACHE_MAX_SIZE".into(), &Value::Null));
}

/// A person who edits the file needs no other look at it.
#[test]
fn a_terminal_gets_the_line_with_a_caret_and_colours_unless_they_are_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("[cache]\nmemori = '5MiB'\n[access]\npasword = '{SECRET}'\n");
    let script = |variables: &[(&str, &str)]| {
        let path = dir.path().join("config.toml");
        fs::write(&path, &config).unwrap();
        let line = format!("{} check --config {}", env!("CARGO_BIN_EXE_larder"), path.display());
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).env_clear().env("SHELL", "/bin/sh");
        terminal.env("HOME", "/home/test").envs(variables.iter().copied());
        let run = terminal.output().ok()?;
        assert_eq!(run.status.code(), Some(2));
        Some(String::from_utf8(run.stdout).unwrap().replace("\r\n", "\n"))
    };
    let Some(coloured) = script(&[]) else {
        println!("skipped: no `script` here");
        return;
    };
    assert!(coloured.contains("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: unknown key"), "{coloured:?}");
    let plain = script(&[("NO_COLOR", "1")]).unwrap();
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(plain.contains("   |\n 2 | memori = '…'\n   | ^\n"), "{plain}");
    assert!(plain.contains(" 4 | pasword = '…'\n"), "{plain}");
    assert!(!coloured.contains(SECRET) && !plain.contains(SECRET), "{plain}");
}
