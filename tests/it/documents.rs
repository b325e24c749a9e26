//! The documents hold what they say: their configurations are valid, their links lead somewhere.
//!
//! `tests/e2e/documents.rs` goes on from here: it runs the commands, with the real clients.

#[path = "../markdown.rs"]
mod markdown;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use larder::cli::{self, ExitStatus};
use larder::setup::{self, ClientProgram, MirrorTargets};
use serde_json::Value;

use crate::support::tls::TestCa;
use markdown::{Block, anchors, blocks, blocks_of, files, links, root};

/// An operator copies them, so `larder check` has to accept them without a warning.
#[test]
fn every_configuration_of_larder_passes_its_check() {
    let etc = Etc::new();
    let blocks = all_blocks("toml").filter(|block| {
        let file = block.file.as_str();
        matches!(file, "" | "/etc/larder/config.toml")
    });
    let mut count = 0;
    for block in blocks {
        count += 1;
        let (exit, out, err) = etc.check(&block.text);
        assert_eq!((exit, err.as_str()), (ExitStatus::Done, ""), "{}:\n{out}", block.place);
    }
    assert!(count >= 8, "{count} blocks, so the search for them is wrong");
}

/// A fault in a block must not pass unseen.
#[test]
fn a_configuration_with_a_fault_does_not_pass() {
    let (exit, _, err) = Etc::new().check("[registry.\"docker.io\"]\ntag_tll = \"1m\"\n");

    assert_eq!(exit, ExitStatus::Misused);
    assert!(err.contains("tag_ttl"), "{err}");
}

/// Both lines name the registry in the path: pushes of containerd up to 2.2 do not say otherwise
/// which one is meant. The mirror takes no pushes of its own.
#[test]
fn every_hosts_toml_names_larder_and_the_registry_in_both_lines() {
    let mut registries = Vec::new();
    for block in all_blocks("toml").filter(|block| block.file.ends_with("hosts.toml")) {
        let toml: toml::Table =
            block.text.parse().unwrap_or_else(|e| panic!("{}: {e}", block.place));
        let registry = directory(&block.file);
        let host = toml["host"].as_table().unwrap();
        let (url, keys) = host.iter().next().unwrap();
        assert_eq!(host.len(), 1, "{}", block.place);
        let pulls = toml::Value::from(vec!["pull", "resolve"]);
        assert_eq!(keys["capabilities"], pulls, "{}", block.place);
        if registry == "_default" {
            assert_eq!(url, "http://127.0.0.1:5000", "{}", block.place);
            assert!(!toml.contains_key("server"), "{}: it would name one registry", block.place);
        } else {
            assert_eq!(*url, format!("http://127.0.0.1:5000/{registry}"), "{}", block.place);
            assert_eq!(toml["server"].as_str(), Some(url.as_str()), "{}", block.place);
        }
        registries.push(registry.to_owned());
    }
    registries.sort();
    registries.dedup();
    assert_eq!(registries, ["_default", "docker.io", "ghcr.io"]);
}

/// The files that `larder setup` writes for the two registries are those of the page, which real
/// clients are led by.
#[test]
fn larder_setup_writes_the_files_of_the_page() {
    let registries = ["docker.io", "ghcr.io"].map(|name| name.parse().unwrap()).to_vec();
    let larder = "http://127.0.0.1:5000".parse().unwrap();
    let targets = MirrorTargets { larder, registries };
    let mut count = 0;
    for client in [
        ClientProgram::Buildkit,
        ClientProgram::Containerd,
        ClientProgram::Docker,
        ClientProgram::Podman,
    ] {
        let planned = setup::plan(client, &targets, Path::new("/"), &|_| Ok(None)).unwrap();
        for file in planned.files {
            let mut on_page = blocks_of("docs/clients.md").into_iter();
            let Some(block) = on_page.find(|block| Path::new(&block.file) == file.path) else {
                continue;
            };
            count += 1;
            let parsed = |text: &str| match block.language.as_str() {
                "json" => serde_json::from_str::<Value>(text).unwrap(),
                _ => serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap(),
            };
            assert_eq!(parsed(&file.after), parsed(&block.text), "{}", block.place);
        }
    }
    assert!(count >= 6, "{count} files of the page are written");
}

#[test]
fn every_containerd_configuration_names_the_directory_of_hosts_toml() {
    let images = |version: i64| match version {
        2 => "io.containerd.grpc.v1.cri",
        3 => "io.containerd.cri.v1.images",
        other => panic!("version {other} of containerd's configuration"),
    };
    let all = all_blocks("toml").filter(|block| block.file == "/etc/containerd/config.toml");
    let versions: Vec<i64> = all
        .map(|block| {
            let toml: toml::Table = block.text.parse().unwrap();
            let version = toml["version"].as_integer().unwrap();
            let registry = &toml["plugins"][images(version)]["registry"];
            assert_eq!(registry["config_path"].as_str(), Some("/etc/containerd/certs.d"));
            version
        })
        .collect();
    assert_eq!(versions, [2, 3]);
}

/// podman rewrites names: what stands before the repository has to lead through the prefix door.
#[test]
fn every_registries_conf_leads_each_registry_to_its_prefix() {
    let all = all_blocks("toml").filter(|block| block.file.contains("registries.conf.d"));
    let mut count = 0;
    for block in all {
        let toml: toml::Table = block.text.parse().unwrap();
        for registry in toml["registry"].as_array().unwrap() {
            count += 1;
            let (name, target) = match registry.get("mirror") {
                Some(mirrors) => (&registry["location"], &mirrors[0]),
                None => (&registry["prefix"], registry),
            };
            let larder = format!("127.0.0.1:5000/{}", name.as_str().unwrap());
            assert_eq!(target["location"].as_str(), Some(larder.as_str()), "{}", block.place);
            assert_eq!(target["insecure"].as_bool(), Some(true), "{}", block.place);
        }
    }
    assert_eq!(count, 3);
}

#[test]
fn buildkit_is_told_that_its_mirrors_speak_plain_http() {
    let file = "/etc/buildkit/buildkitd.toml";
    let all: Vec<Block> = all_blocks("toml").filter(|block| block.file == file).collect();
    assert_eq!(all.len(), 1);
    let toml: toml::Table = all[0].text.parse().unwrap();
    assert_mirrors_speak_http(toml["registry"].as_table().unwrap());
}

#[track_caller]
fn assert_mirrors_speak_http(registries: &toml::Table) {
    for mirrors in registries.values().filter_map(|registry| registry.get("mirrors")) {
        for mirror in mirrors.as_array().unwrap() {
            assert_eq!(registries[mirror.as_str().unwrap()]["http"].as_bool(), Some(true));
        }
    }
}

#[test]
fn every_daemon_json_names_mirrors_by_their_urls() {
    let mut count = 0;
    for block in all_blocks("json") {
        count += 1;
        assert_eq!(block.file, "/etc/docker/daemon.json", "{}", block.place);
        let json: Value = serde_json::from_str(&block.text).unwrap();
        for (key, list) in json.as_object().unwrap() {
            let is_url = match key.as_str() {
                "registry-mirrors" => true,
                "insecure-registries" => false,
                other => panic!("{}: `{other}`", block.place),
            };
            for entry in list.as_array().unwrap() {
                assert_eq!(entry.as_str().unwrap().starts_with("http://"), is_url, "{entry}");
            }
        }
    }
    assert!(count >= 2, "{count} blocks");
}

/// The directory of hosts.toml has to be in the node, and its containerd to look there.
#[test]
fn a_node_of_kind_gets_the_directory_of_hosts_toml() {
    let blocks: Vec<_> = all_blocks("yaml").filter(|it| it.file.ends_with("kind.yaml")).collect();
    assert_eq!(blocks.len(), 1);
    let texts = yaml_texts(&blocks[0].text);
    let patch = after(&texts, "containerdConfigPatches").parse::<toml::Table>().unwrap();
    let registry = &patch["plugins"]["io.containerd.grpc.v1.cri"]["registry"];
    assert_eq!(registry["config_path"].as_str(), Some("/etc/containerd/certs.d"));
    for path in ["hostPath", "containerPath"] {
        assert_eq!(after(&texts, path), "/etc/containerd/certs.d", "{path}");
    }
}

/// A workflow has the configuration of a builder in it, whose mirrors speak plain HTTP.
#[test]
fn a_workflow_tells_buildkit_of_its_mirrors() {
    let blocks: Vec<_> = all_blocks("yaml").filter(|it| it.file.contains("/workflows/")).collect();
    assert_eq!(blocks.len(), 1);
    let texts = yaml_texts(&blocks[0].text);
    let toml: toml::Table = after(&texts, "buildkitd-config-inline").parse().unwrap();
    assert_mirrors_speak_http(toml["registry"].as_table().unwrap());
}

/// The argument is dockerd's own, and the service is found by its name.
#[test]
fn a_runner_of_gitlab_gives_its_dockerd_a_mirror() {
    let file = "/etc/gitlab-runner/config.toml";
    let blocks: Vec<_> = all_blocks("toml").filter(|block| block.file == file).collect();
    assert_eq!(blocks.len(), 1);
    let toml: toml::Table = blocks[0].text.parse().unwrap();
    let docker = &toml["runners"][0]["docker"];
    let service = &docker["services"][0];
    assert_eq!(service["alias"].as_str(), Some("docker"));
    let command = service["command"].as_array().unwrap();
    assert_eq!(command[0].as_str(), Some("--registry-mirror"));
    assert!(command[1].as_str().unwrap().starts_with("http://"));
}

/// All scalars of a YAML document, keys among them.
fn yaml_texts(text: &str) -> Vec<String> {
    let events = saphyr_parser::Parser::new_from_str(text).map(|event| event.unwrap().0);
    let scalar = |event| match event {
        saphyr_parser::Event::Scalar(text, ..) => Some(text.into_owned()),
        _ => None,
    };
    events.filter_map(scalar).collect()
}

/// The scalar that follows a key.
fn after<'t>(texts: &'t [String], key: &str) -> &'t str {
    let at = texts.iter().position(|text| text == key).unwrap();
    &texts[at + 1]
}

/// The parser is bash's own.
#[test]
fn every_shell_block_can_be_parsed() {
    let mut count = 0;
    for block in all_blocks("sh") {
        count += 1;
        let parsed = Command::new("bash").args(["-n", "-c", &block.text]).output().unwrap();
        let said = String::from_utf8_lossy(&parsed.stderr);
        assert!(parsed.status.success(), "{}: {said}", block.place);
    }
    assert!(count >= 15, "{count} blocks");
}

/// A block of an unknown language would be checked by no test here.
#[test]
fn every_block_of_the_manuals_is_of_a_language_that_is_checked() {
    let pages = ["README.md", "docs/clients.md", "docs/install.md", "docs/access.md"];
    for page in pages.into_iter().chain(["docs/upstreams.md", "docs/recipes.md"]) {
        for block in blocks_of(page) {
            let language = block.language.as_str();
            let is_checked = matches!(language, "json" | "sh" | "toml");
            // Without a parser for it here: k3s' file is short enough to be read, and those of
            // proxies are tried by hand.
            let is_read = language == "yaml" && block.file.ends_with("registries.yaml");
            let is_tried = page.ends_with("recipes.md") && matches!(language, "nginx" | "text");
            let is_yaml = language == "yaml"
                && (block.file.ends_with("kind.yaml") || block.file.contains("/workflows/"));
            assert!(is_checked || is_read || is_tried || is_yaml, "{}: `{language}`", block.place);
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for (path, text) in files() {
        let dir = root().join(path.parent().unwrap());
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&path) } else { dir.join(file) };
            assert!(target.exists(), "{}: `{link}` leads nowhere", path.display());
            if !anchor.is_empty() {
                let headings = anchors(&fs::read_to_string(&target).unwrap());
                let is_there = headings.iter().any(|heading| heading == anchor);
                assert!(is_there, "{}: `{link}` is no heading of {headings:?}", path.display());
            }
        }
    }
}

/// A page that no other page names is read by no one.
#[test]
fn each_index_names_every_page_beside_it() {
    for dir in ["docs", "docs/decisions"] {
        let dir = root().join(dir);
        let linked = links(&fs::read_to_string(dir.join("README.md")).unwrap());
        for entry in fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_named = linked.iter().any(|link| link.split('#').next() == Some(name.as_str()));
            let is_excused = name == "README.md";
            assert!(is_named || is_excused, "{}/{name} is not in the index", dir.display());
        }
    }
}

/// A file that moves is looked for under its old name by everyone who reads the page first.
#[test]
fn the_pages_about_the_code_name_files_that_exist() {
    let mut count = 0;
    for (path, text) in files() {
        let is_about_code = ["docs/architecture.md", "docs/decisions", "CONTRIBUTING.md"]
            .iter()
            .any(|start| path.starts_with(start));
        for span in code_spans(&text).filter(|span| is_about_code && is_source_path(span)) {
            count += 1;
            let candidates = [root().join(span), root().join("src").join(span)];
            let is_there = candidates.iter().any(|file| file.exists());
            assert!(is_there, "{}: `{span}` is neither here nor in src/", path.display());
        }
    }
    assert!(count >= 100, "{count} files, so the search for them is wrong");
}

/// The texts between single backquotes.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether it is a file of Rust or a folder in a folder; the store's own folders are of one level.
fn is_source_path(span: &str) -> bool {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.');
    let is_file = Path::new(span).extension().is_some_and(|extension| extension == "rs");
    let is_folder = span.strip_suffix('/').is_some_and(|folder| folder.contains('/'));
    (is_file || is_folder) && span.chars().all(is_of_path)
}

/// A new package comes with its reason.
#[test]
fn every_package_is_in_the_decision_about_them() {
    let manifest: toml::Table =
        fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let page = fs::read_to_string(root().join("docs/decisions/0001-dependencies.md")).unwrap();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let words: Vec<&str> = page.split(|c| !is_part(c)).collect();
    for package in manifest["dependencies"].as_table().unwrap().keys() {
        assert!(words.contains(&package.as_str()), "{package} has no reason in the decision");
    }
}

/// The README is a front page. More belongs in `docs/`.
#[test]
fn the_front_page_stays_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

const README_LINES_MAX: usize = 150;

/// The blocks of all pages, in one language.
fn all_blocks(language: &str) -> impl Iterator<Item = Block> {
    let all = files().into_iter().flat_map(|(path, text)| blocks(&path, &text));
    all.filter(move |block| block.language == language)
}

/// `ghcr.io` for `…/certs.d/ghcr.io/hosts.toml`.
fn directory(file: &str) -> &str {
    let directory = Path::new(file).parent().and_then(Path::file_name);
    directory.and_then(|name| name.to_str()).unwrap()
}

/// `/etc/larder` with the files that the pages name, somewhere else.
struct Etc {
    dir: tempfile::TempDir,
}

/// The files with a password that the pages name.
const SECRET_FILES: [&str; 14] = [
    "acr-token",
    "git",
    "github-token",
    "gitlab",
    "harbor-password",
    "harbor-token",
    "hub-one",
    "hub-token",
    "hub-two",
    "key.json",
    "nexus-password",
    "ngc-key",
    "quay-token",
    "upstream-password",
];

impl Etc {
    fn new() -> Self {
        let etc = Self { dir: tempfile::tempdir().unwrap() };
        let ca = TestCa::new();
        let (certificate, key) = ca.issue("larder.corp");
        etc.write("tls.crt", &certificate);
        etc.write("tls.key", &key);
        etc.write("clients-ca.pem", &String::from_utf8(ca.pem()).unwrap());
        etc.write("registry.crt", &certificate);
        // Of ECDSA over P-256, as rcgen makes them.
        let pair = rcgen::KeyPair::generate().unwrap();
        for file in ["near.pub", "near-side.pub"] {
            etc.write(file, &pair.public_key_pem());
        }
        etc.write("gar-key.json", "{\n  \"private_key\": \"canary\"\n}\n");
        for file in SECRET_FILES {
            etc.write(file, "canary\n");
        }
        let hash = bcrypt::hash_with_result("canary", 10).unwrap();
        etc.write("htpasswd", &format!("ann:{hash}\nci:{hash}\n"));
        etc
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `larder check`, which reads these files and no variable of this process.
    fn check(&self, config: &str) -> (ExitStatus, String, String) {
        let here = self.dir.path().to_str().unwrap();
        self.write(
            "config.toml",
            &config.replace("/etc/larder", here).replace("/var/log/larder", here),
        );
        let arguments = ["larder", "check", "--config", &format!("{here}/config.toml")];
        let environment = [("HOME", here)].into_iter().collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let arguments = arguments.map(OsString::from);
        let exit = cli::run(arguments, &environment, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}
