//! Which part of a module may use which: the fence inside a top-level module.
//!
//! A part is a file or a folder right below the module. Its `mod.rs` is the part `mod`, and counts
//! only for what it defines itself; see [`crate::circles`] for how uses are found.

use std::collections::BTreeSet;
use std::path::Path;

use crate::circles::{circles, uses_between_files};
use crate::source::CrateSource;

/// A part of a module, and the parts that it may use.
type Part = (&'static str, &'static [&'static str]);

/// The modules whose parts have an order: each part with those that it may use, lowest first. A
/// module that is listed here lists all of its parts.
const ROOMS: &[(&str, &[Part])] = &[("cache", CACHE)];

/// Leaves first, then the rooms of pulls. Only the facade sees all of them.
const CACHE: &[Part] = &[
    ("mod", &[]),
    ("decision", &[]),
    ("disk", &[]),
    ("key", &[]),
    ("options", &[]),
    ("tasks", &[]),
    ("epoch", &["key"]),
    ("error", &["decision"]),
    ("question", &["error"]),
    ("document", &["error"]),
    ("memory", &["key"]),
    ("flight", &["error", "key", "tasks"]),
    ("presence", &["disk", "epoch", "error", "flight", "key", "memory", "question", "tasks"]),
    ("fetch", &["error", "question"]),
    ("recheck", &["tasks"]),
    ("fill", &["decision", "epoch", "error", "fetch", "presence", "recheck", "tasks"]),
    ("body", &["error", "fetch", "fill", "presence", "question", "recheck"]),
    ("blob", &["body", "decision", "error", "fill", "presence", "question", "recheck"]),
    ("manifest", MANIFEST),
    ("mutable", MUTABLE),
    ("fuzz", &["mutable"]),
    ("restore", &["decision", "disk", "error", "fill", "key", "manifest"]),
    ("scrub", &["error", "restore"]),
    ("facade", FACADE),
];

const MANIFEST: &[&str] = &[
    "decision", "disk", "document", "epoch", "error", "flight", "key", "memory", "presence",
    "question", "tasks",
];

const MUTABLE: &[&str] = &[
    "decision", "disk", "document", "epoch", "error", "flight", "key", "manifest", "memory",
    "presence", "question", "tasks",
];

const FACADE: &[&str] = &[
    "blob", "decision", "document", "epoch", "error", "fill", "manifest", "memory", "mutable",
    "options", "presence", "question", "recheck", "restore", "scrub", "tasks",
];

/// The modules whose files may not use each other in a circle. A module joins when it has none.
const WITHOUT_CIRCLES: &[&str] = &[
    "access",
    "app",
    "bundle",
    "cache",
    "cli",
    "config",
    "oci",
    "push",
    "registry",
    "routes",
    "store",
    "telemetry",
    "upstream",
    "workloads",
];

#[test]
fn parts_of_a_module_only_use_those_below_them() {
    let code = crate_source();
    let mut faults = Vec::new();
    for (module, parts) in ROOMS {
        for (file, used) in uses_between_files(&code) {
            let Some(part) = part_of(module, &file) else { continue };
            let Some((_, allowed)) = parts.iter().find(|(name, _)| *name == part) else {
                faults.push(format!("src/{file}: {part} is not in the table of {module}"));
                continue;
            };
            let used: BTreeSet<_> = used.iter().filter_map(|used| part_of(module, used)).collect();
            for used in used {
                if used != part && !allowed.contains(&used) {
                    faults.push(format!("src/{file}: {module}/{part} may not use {used}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_tables_of_parts_themselves_point_downwards() {
    for (module, parts) in ROOMS {
        for (index, (part, allowed)) in parts.iter().enumerate() {
            for used in *allowed {
                let below = parts[..index].iter().any(|(name, _)| name == used);
                assert!(below, "{module}/{part} may use {used}, which does not stand below it");
            }
        }
    }
}

#[test]
fn files_of_a_module_do_not_use_each_other_in_a_circle() {
    for circle in circles(&crate_source()) {
        let module = circle[0].split('/').next().unwrap_or_default();
        assert!(!WITHOUT_CIRCLES.contains(&module), "a circle of files: {}", circle.join(", "));
    }
}

fn crate_source() -> CrateSource {
    CrateSource::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// `fill` for `cache/fill.rs` and `cache/fill/task.rs`, if the module is `cache`.
fn part_of<'a>(module: &str, file: &'a str) -> Option<&'a str> {
    let below = file.strip_prefix(module)?.strip_prefix('/')?;
    Some(below.split('/').next().unwrap_or_default().trim_end_matches(".rs"))
}
