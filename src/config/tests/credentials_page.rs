//! The entries on the page about credentials.

use super::*;
use crate::upstream::ProxyCredential;

const PAGE: &str = include_str!("../../../docs/credentials.md");

/// The examples in TOML.
fn examples() -> Vec<String> {
    let blocks = PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

/// An operator copies an entry as it stands, and only its files are missing.
#[test]
fn each_entry_on_the_page_gives_its_registries_a_credential() {
    let mut names = Vec::new();
    for example in examples() {
        let text = example.replace("password_file = \"/etc/larder/", "password_file = \"");
        let mut case = Case::of(&text);
        for rest in text.split("password_file = \"").skip(1) {
            case = case.file(rest.split('"').next().unwrap(), "a secret\n");
        }
        let settings = case.settings();
        assert_eq!(settings.registries.len(), text.matches("[registry.").count(), "{text}");
        for registry in &settings.registries {
            let credential = &registry.upstream.credential;
            assert!(!matches!(credential, ProxyCredential::Anonymous), "{text}");
            names.push(registry.name.to_string());
        }
    }
    for wanted in [
        "docker.io",
        "ghcr.io",
        "quay.io",
        "harbor.corp.example",
        "nexus.corp.example:8083",
        "registry.gitlab.com",
        "nvcr.io",
        "corp.azurecr.io",
        "europe-west1-docker.pkg.dev",
        "public.ecr.aws",
    ] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} has no entry");
    }
}

/// Registries that are only shown must be right when their lines are put in force.
#[test]
fn the_registries_that_the_example_file_only_shows_can_be_put_in_force() {
    let example = include_str!("../../../config.example.toml");
    let shown = example.split("# Others that are often wanted.").nth(1).unwrap();
    let lines = shown.lines().filter_map(|line| line.strip_prefix("# "));
    let lines: Vec<_> =
        lines.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
    let settings = Case::of(lines.join("\n")).settings();
    let names: Vec<_> = settings.registries.iter().map(|it| it.name.to_string()).collect();
    let wanted = ["nvcr.io", "registry.gitlab.com", "docker.elastic.co", "cgr.dev", "lscr.io"];
    assert_eq!(names, wanted);
}
