//! Which module may use which: the fence between the top-level modules of the crate.
//!
//! It reads text: it wants one module in each `use` of the crate, and does not see
//! `super::super::`.

use std::path::Path;

use crate::source::{code_lines, sources};

/// Each module, and the modules it may use. Lowest first.
const LAYERS: &[(&str, &[&str])] = &[
    ("amounts", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("oci", &[]),
    ("http", &["clock"]),
    ("traces", &["clock", "http", "telemetry"]),
    ("store", &["clock", "oci"]),
    ("credentials", &["clock", "http", "traces"]),
    ("upstream", &["credentials", "http", "oci", "telemetry", "traces"]),
    ("registry", &["http", "oci", "upstream"]),
    ("inventory", &["clock", "oci", "registry", "store"]),
    ("bundle", &["inventory", "oci", "registry", "store"]),
    ("access", &["http", "oci", "registry", "upstream"]),
    ("cache", &["access", "clock", "http", "oci", "registry", "store", "traces", "upstream"]),
    ("push", &["access", "cache", "clock", "http", "oci", "registry", "store", "upstream"]),
    (
        "routes",
        &[
            "access",
            "cache",
            "clock",
            "http",
            "oci",
            "push",
            "registry",
            "telemetry",
            "traces",
            "upstream",
        ],
    ),
    (
        "admin",
        &["cache", "clock", "http", "push", "registry", "routes", "store", "telemetry", "upstream"],
    ),
    (
        "control",
        &["access", "bundle", "cache", "http", "inventory", "oci", "registry", "routes", "store"],
    ),
    (
        "dashboard",
        &[
            "access",
            "admin",
            "amounts",
            "cache",
            "control",
            "http",
            "inventory",
            "oci",
            "registry",
            "routes",
            "store",
        ],
    ),
    ("setup", &["oci"]),
    ("workloads", &[]),
    (
        "config",
        &[
            "access",
            "bundle",
            "cache",
            "credentials",
            "http",
            "inventory",
            "oci",
            "push",
            "registry",
            "store",
            "telemetry",
            "traces",
            "upstream",
        ],
    ),
    (
        "app",
        &[
            "access",
            "admin",
            "amounts",
            "bundle",
            "cache",
            "clock",
            "config",
            "control",
            "dashboard",
            "http",
            "inventory",
            "push",
            "registry",
            "routes",
            "store",
            "telemetry",
            "traces",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "amounts",
            "app",
            "bundle",
            "clock",
            "config",
            "control",
            "http",
            "inventory",
            "oci",
            "registry",
            "setup",
            "store",
            "traces",
            "upstream",
            "workloads",
        ],
    ),
    ("fuzz", &["access", "cache", "config", "http", "oci", "push", "store", "upstream"]),
];

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

/// The first name after each `crate::`, with its line.
fn crate_paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code_lines(text)
        .flat_map(|(line, code)| code.split("crate::").skip(1).map(move |rest| (line, rest)))
        .map(|(line, rest)| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (line, &rest[..end])
        })
}

/// `cache` for `cache/fill.rs`, `app` for `app.rs`.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default().to_string_lossy();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}
