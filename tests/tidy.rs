//! Checks of the code itself: what may depend on what, and who may name a vendor.
//!
//! Rust keeps crates apart but not modules, so this file is the fence inside our one crate. To move
//! the fence, change [`LAYERS`] in a commit of its own and say why.
//!
//! It reads text: it wants one module in each `use` of the crate, and does not see
//! `super::super::`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules it may use. Lowest first.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("telemetry", &[]),
    ("oci", &[]),
    ("http", &[]),
    ("store", &["clock", "oci"]),
    ("upstream", &["http", "oci", "telemetry"]),
    ("registry", &["http", "oci", "upstream"]),
    ("access", &["http", "oci", "registry", "upstream"]),
    ("cache", &["access", "clock", "http", "oci", "registry", "store", "upstream"]),
    ("push", &["access", "cache", "clock", "http", "oci", "registry", "store", "upstream"]),
    ("routes", &["access", "cache", "http", "oci", "push", "registry", "telemetry", "upstream"]),
    ("admin", &["cache", "http", "push", "registry", "routes", "store", "telemetry", "upstream"]),
    ("config", &["access", "cache", "http", "oci", "push", "registry", "store", "upstream"]),
    (
        "app",
        &[
            "access", "admin", "cache", "clock", "config", "http", "push", "registry", "routes",
            "store", "upstream",
        ],
    ),
    ("cli", &["app", "config", "registry", "upstream"]),
];

/// Each vendor that we want to be able to replace, and the places that may name it.
const VENDORS: &[(&str, &[&str])] = &[
    ("argon2::", &["access/htpasswd"]),
    ("aws_lc_rs::", &["access/keyed.rs", "http/", "push/session.rs", "upstream/tests/"]),
    ("bcrypt::", &["access/htpasswd", "access/ledger.rs"]),
    ("clap::", &["cli/"]),
    ("globset::", &["registry/pattern.rs"]),
    ("http_auth::", &["upstream/challenge.rs"]),
    ("hyper::", &["http/"]),
    ("hyper_rustls::", &["http/"]),
    ("hyper_util::", &["http/"]),
    ("moka::", &["cache/hot.rs"]),
    ("prometheus_client::", &["admin/exposition.rs"]),
    ("psl::", &["upstream/realm.rs"]),
    ("rustls::", &["http/", "cli/serve.rs", "upstream/tests/"]),
    ("sha2::", &["oci/digest.rs"]),
    ("sled::", &["store/index/ledger.rs"]),
    ("tokio_rustls::", &["http/", "upstream/tests/"]),
    ("toml::", &["config/"]),
    ("webpki::", &["http/peer.rs"]),
];

const FILE_LINES_MAX: usize = 500;

#[test]
fn modules_only_depend_downwards() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        // The crate's front and the program stand above the fence.
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("src/{}: {module} is not in the table", path.display()));
            continue;
        };
        for (line, used) in crate_paths(&text) {
            if used != module && !allowed.contains(&used) {
                faults.push(format!("src/{}:{line}: {module} may not use {used}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_itself_points_downwards() {
    for (index, (module, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            let below = LAYERS[..index].iter().any(|(name, _)| name == used);
            assert!(below, "{module} may use {used}, which does not stand below it");
        }
    }
}

#[test]
fn each_vendor_is_named_in_its_place_only() {
    for (path, text) in sources() {
        for (vendor, homes) in VENDORS {
            let is_home = homes.iter().any(|home| path.to_string_lossy().starts_with(home));
            assert!(
                is_home || !names(&text, vendor),
                "src/{}: {vendor} belongs in {homes:?}",
                path.display()
            );
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "src/{}: no module header", path.display());
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(lines <= FILE_LINES_MAX, "src/{}: {lines} lines before its tests", path.display());
    }
}

#[test]
fn the_top_level_is_as_the_owner_drew_it() {
    let expected = [
        ".ci",
        ".git",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "benches",
        "clippy.toml",
        "config.example.toml",
        "deny.toml",
        "docs",
        "rustfmt.toml",
        "src",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the top level is readable") {
        let name = entry.expect("the top level is readable").file_name();
        let name = name.to_string_lossy();
        assert!(expected.contains(&&*name), "{name} does not belong at the top level");
    }
}

/// Whether the text has `vendor` as a path's first segment: `xhyper::` is not `hyper::`.
fn names(text: &str, vendor: &str) -> bool {
    code_lines(text).any(|(_, line)| {
        line.match_indices(vendor).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

/// The first name after each `crate::`, with its line.
fn crate_paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code_lines(text)
        .flat_map(|(line, code)| code.split("crate::").skip(1).map(move |rest| (line, rest)))
        .map(|(line, rest)| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (line, &rest[..end])
        })
}

/// The lines that are not comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

/// `cache` for `cache/fill.rs`, `app` for `app.rs`.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default().to_string_lossy();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push((path.strip_prefix(&root).expect("is under src").to_owned(), text));
            }
        }
    }
    found
}
