//! Configurations that are valid and surely not what was meant: each has one warning.

use super::{Case, lines};

fn warnings(config: &str) -> Vec<String> {
    lines(&Case::of(config).settings().warnings)
}

#[test]
fn a_registry_that_no_door_but_one_reaches_is_told() {
    let found = warnings("[registry.'mirror']\nupstream = 'http://m.test'");
    let want = "`mirror` can be no prefix";
    assert!(matches!(&found[..], [one] if one.contains(want)), "{found:?}");
    for config in [
        "",
        "[registry.'mirror']\nupstream = 'http://m.test'\nprefix = 'm.test'",
        "[registry.'mirror']\nupstream = 'http://m.test'\nhosts = ['m.test']",
        "[registry.'mirror']\nupstream = 'http://m.test'\ndefault = true",
        "[registry.'m.test:8083']",
        "[registry.'*.dkr.ecr.*.amazonaws.com']",
    ] {
        assert_eq!(warnings(config), [""; 0], "{config}");
    }
}

/// Such a password is refused by the registry hours later, and by then it looks like its fault.
#[test]
fn a_value_that_reads_like_a_variable_is_told_with_its_place_and_not_shown() {
    let auth = |password: &str| {
        format!(
            "[registry.'a.test'.auth]\ntype = 'basic'\nusername = 'u'\npassword = '{password}'\n"
        )
    };
    for password in ["${HUB_TOKEN}", "$HUB_TOKEN"] {
        let found = warnings(&auth(password));
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.contains("config.toml:4:12: this reads like a variable"), "{one}");
        assert!(!one.contains("HUB_TOKEN"), "{one}");
    }
    for password in ["$", "${}", "$ecret", "a${B}", "$2y$05$abc"] {
        assert_eq!(warnings(&auth(password)), [""; 0], "{password}");
    }
}
