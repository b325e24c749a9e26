//! The sources of the configuration, and which one wins.

use super::*;
use crate::store::SpaceAmount;

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let mut case = Case::of("listen = '127.0.0.1:1'\n[cache]\nmemory = '1MiB'\nmin_free = '1MiB'")
        .variable("LARDER_LISTEN", "127.0.0.1:2, 127.0.0.1:3")
        .variable("LARDER_CACHE_MEMORY", "2MiB")
        .variable("LARDER_CACHE_DIR", "/c")
        .variable("LARDER_SHUTDOWN_GRACE", "");
    let settings = case.settings();
    let ports = |settings: &Settings| -> Vec<u16> {
        settings.listeners.iter().map(|listener| listener.address.port()).collect()
    };
    assert_eq!(ports(&settings), [2, 3]);
    assert_eq!(
        (settings.cache.memory, settings.store.limits.min_free),
        (2 << 20, SpaceAmount::Bytes(1 << 20))
    );
    assert_eq!(settings.store.dir, Path::new("/c"));

    case.arguments.listen = vec!["[::1]:4".to_owned()];
    let loaded = case.load().unwrap();
    assert_eq!(ports(&loaded.settings), [4]);
    assert_eq!(
        loaded.overrides,
        ["LARDER_LISTEN", "LARDER_CACHE_DIR", "LARDER_CACHE_MEMORY", "--listen"]
    );
}

#[test]
fn a_bad_override_is_called_by_its_own_name() {
    for (name, value, want) in [
        ("LARDER_LISTEN", "5000", "`5000` is not an IP address"),
        ("LARDER_SHUTDOWN_GRACE", "30", "`30` is not a duration"),
        ("LARDER_CACHE_DIR", "cache", "is a relative path"),
        ("LARDER_CACHE_MEMORY", "0MiB", "is nothing"),
        ("LARDER_CACHE_FILL_KEEP", "1 fortnight", "is not a duration"),
    ] {
        // The file's own values are right and must not be blamed.
        let case = Case::of("listen = '127.0.0.1:1'\n[cache]\nmemory = '1MiB'");
        let problems = case.variable(name, value).problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].place, SourcePlace::Variable(name.to_owned()));
        assert!(problems[0].what.contains(want), "{}", problems[0]);
    }
    let mut case = Case::of("");
    case.arguments.listen = vec!["x".to_owned()];
    assert_eq!(case.problems()[0].place, SourcePlace::Argument("--listen"));
}

#[test]
fn the_file_is_looked_for_in_order() {
    let mut case = Case::of("[cache]\nmemory = '1MiB'")
        .file("system.toml", "[cache]\nmemory = '2MiB'")
        .file("variable.toml", "[cache]\nmemory = '3MiB'");
    assert_eq!(case.settings().cache.memory, 1 << 20);

    let explicit = case.arguments.config.take();
    assert_eq!(case.settings().cache.memory, 2 << 20);

    let path = case.dir.path().join("variable.toml").display().to_string();
    let mut case = case.variable("LARDER_CONFIG", &path);
    assert_eq!(case.settings().cache.memory, 3 << 20);

    case.arguments.config = explicit;
    assert_eq!(case.settings().cache.memory, 1 << 20);
}

#[test]
fn a_missing_file_matters_only_if_it_was_named() {
    let mut case = Case::of("");
    case.arguments.config = Some("/nowhere/config.toml".into());
    let problem = case.problems().remove(0);
    assert_eq!(problem.place, SourcePlace::WholeFile("/nowhere/config.toml".into()));

    let case = Case { arguments: ConfigArgs::default(), ..case };
    let problem = case.variable("LARDER_CONFIG", "/").problems().remove(0);
    assert_eq!(problem.what, "it is a directory, not a file");
}

#[test]
fn the_cache_is_where_the_desktop_keeps_caches() {
    let dir = |case: Case| case.settings().store.dir;
    assert_eq!(dir(Case::of("").variable("XDG_CACHE_HOME", "/x")), Path::new("/x/larder"));
    let ignored = Case::of("").variable("XDG_CACHE_HOME", "relative");
    assert_eq!(dir(ignored), Path::new("/home/test/.cache/larder"));
    assert_eq!(dir(Case::of("[cache]\ndir = '~/c'")), Path::new("/home/test/c"));

    let mut homeless = Case::of("");
    homeless.variables.clear();
    let problem = homeless.problems().remove(0);
    assert!(problem.to_string().contains("hint: set `dir` in `[cache]`"), "{problem}");
}

#[test]
fn bytes_that_windows_editors_leave_behind_are_no_fault() {
    let settings = Case::of(b"\xef\xbb\xbf[cache]\r\nmemory = '1MiB'\r\n").settings();

    assert_eq!(settings.cache.memory, 1 << 20);
}
