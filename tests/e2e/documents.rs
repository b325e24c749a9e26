//! README.md and docs/clients.md lead to a pull: their blocks run as written, with real clients.
//!
//! Ports, directories and the registries behind Larder are the test's own; nothing else of a block
//! is changed. `tests/it/documents.rs` checks the blocks that need no client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::built::Built;
use crate::support::containerd::Containerd;
use crate::support::curl::Curl;
use crate::support::dockerd::Dockerd;
use crate::support::image::{HERE, Image};
use crate::support::layer;
use crate::support::process::Process;
use crate::support::publish::Publisher;
use crate::support::registry::{Guard, Registry};
use crate::support::shell::Shell;
use crate::support::tools::{self, requires};
use crate::support::traffic::Request;
use crate::support::wait;
use crate::support::work::Work;

#[expect(dead_code, unreachable_pub, reason = "the other half is for tests/it")]
#[path = "../markdown.rs"]
mod markdown;

use markdown::{Block, blocks_of};

/// The first minute of a new operator: start it, ask it, look at its health.
#[test]
fn the_readme_shows_a_miss_and_then_a_hit() {
    let work = Work::new(requires!(README_TOOLS));
    let reader = Reader::of(&work, README);

    let ask = reader.block("sh", "/manifests/latest");
    for expected in ["larder; fwd=uri-miss", "larder; hit"] {
        let said = reader.run(&ask);
        let header = format!("cache-status: {expected}");
        assert!(said.contains(&header), "{header} is not in:\n{said}");
        assert!(readme().contains(&header), "the README promises another header than {header}");
        reader.until_stored("library/alpine/manifests/latest");
    }
    let said = reader.run(&reader.block("sh", "/readyz"));
    assert!(said.contains("\"status\":\"ready\""), "{said}");
    assert!(said.contains("larder_requests_total"), "{said}");
}

#[test]
fn the_readme_leads_dockerd_to_a_pull() {
    let dockerd = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let work = Work::new(requires!(dockerd, README_TOOLS));
    let reader = Reader::of(&work, README);

    let json = reader.block("json", "registry-mirrors");
    let config = reader.shell.write(&json.file, &json.text);
    let dockerd = Dockerd::configured(&work, &config, |_| {});
    reader.shell.stand_in("docker", &dockerd.client(), &[]);

    reader.run(&reader.block("sh", "docker pull"));
    reader.was_pulled(&Image::alpine());
}

#[test]
fn the_readme_leads_containerd_to_a_pull() {
    let work = Work::new(requires!(CONTAINERD, README_TOOLS));
    let reader = Reader::of(&work, README);
    let containerd = Containerd::start(&work);
    reader.shell.stand_in("ctr", &containerd.ctr(), &[]);

    let hosts = reader.block("toml", "docker.io");
    reader.shell.write(&hosts.file, &hosts.text);
    reader.run(&reader.block("sh", "ctr images pull"));

    reader.was_pulled(&Image::alpine());
}

/// The mirror, and the form that forbids to go round it.
#[test]
fn the_clients_page_leads_podman_to_a_pull() {
    let work = Work::new(requires!(&["podman", "root"], README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    let forms = blocks_of(CLIENTS).into_iter().filter(|it| it.file.contains("registries.conf.d"));
    let mut count = 0;
    for form in forms {
        count += 1;
        let text = reader.shell.localised(&form.text);
        let podman = podman(&work, &text);
        reader.shell.stand_in("podman", &podman.command, &["--signature-policy", &podman.policy]);
        reader.run(&reader.block("sh", "podman pull"));
        reader.was_pulled(&Image::alpine());
    }
    assert_eq!(count, 2);
}

#[test]
fn the_clients_page_leads_skopeo_to_a_pull_by_name() {
    let work = Work::new(requires!(&["skopeo"], README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    let policy = work.file("policy.json", ACCEPT_ANYTHING);
    let mut skopeo = tools::command("skopeo");
    skopeo.arg("--policy").arg(policy);
    reader.shell.stand_in("skopeo", &skopeo, &[]);

    reader.run(&reader.block("sh", "skopeo copy"));

    reader.was_pulled(&Image::alpine());
    reader.was_pulled(&reader.app);
}

#[test]
fn the_clients_page_leads_crane_to_a_pull_by_name() {
    let work = Work::new(requires!(&["crane"], README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    reader.shell.stand_in("crane", &tools::command("crane"), &[]);

    reader.run(&reader.block("sh", "crane pull"));

    assert!(reader.shell.dir().join("alpine.tar").exists());
    reader.was_pulled(&Image::alpine());
}

/// containerd up to 2.2 says only with pulls which registry it means. The path says it with pushes.
#[test]
fn containerd_pushes_to_the_registry_that_its_hosts_toml_names() {
    let work = Work::new(requires!(CONTAINERD, README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    let containerd = Containerd::start(&work);
    for hosts in blocks_of(CLIENTS).iter().filter(|it| it.file.starts_with(CERTS)) {
        reader.shell.write(&hosts.file, &hosts.text);
    }
    let hosts = reader.shell.localised(CERTS);

    let built = Built::version(&work, "v1");
    let ctr = |arguments: &[&str]| tools::run(containerd.ctr().args(arguments));
    let archive = built.archive.to_str().expect("a path of ours");
    ctr(&["images", "import", "--no-unpack", archive]).expect("the archive is right");
    let loaded = format!("docker.io/library/{}", built.name());
    let name = "ghcr.io/owner/pushed:v1";
    ctr(&["images", "tag", &loaded, name]).expect("the image is there");
    ctr(&["images", "push", "--hosts-dir", &hosts, name]).expect("Larder passes it on");

    assert!(has(&reader.ghcr, "owner/pushed"));
    assert!(!has(&reader.hub, "owner/pushed"), "it went to the default registry");
}

/// The containerd of today, as the library that is also in Docker 29.
#[test]
fn todays_containerd_and_docker_pull_and_push_by_their_hosts_toml() {
    let work = Work::new(requires!(&["containerd-pull"], README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    let built = Built::version(&work, "v1");
    for (certs, repository) in [(CERTS, "owner/by-containerd"), (DOCKER_CERTS, "owner/by-docker")] {
        let hosts = hosts_dir(&work, &reader, &format!("{certs}/ghcr.io/"));
        pull_by(&hosts, "ghcr.io/owner/app:v1", &work);
        reader.was_pulled(&reader.app);

        let mut push = tools::command("containerd-pull");
        push.arg("--hosts-dir").arg(&hosts).arg("--push").arg(format!("ghcr.io/{repository}:v1"));
        tools::run(push.arg(&built.layout)).unwrap_or_else(|error| panic!("{certs}: {error}"));
        assert!(has(&reader.ghcr, repository));
        assert!(!has(&reader.hub, repository), "it went to the default registry");
    }
}

#[test]
fn one_hosts_toml_serves_all_registries() {
    let work = Work::new(requires!(&["containerd-pull"], README_TOOLS));
    let reader = Reader::of(&work, CLIENTS);
    let hosts = hosts_dir(&work, &reader, &format!("{CERTS}/_default/"));

    pull_by(&hosts, "ghcr.io/owner/app:v1", &work);
    pull_by(&hosts, "docker.io/library/alpine:latest", &work);

    reader.was_pulled(&reader.app);
    reader.was_pulled(&Image::alpine());
}

/// By containerd's own parser, as far as the version that is here knows the format.
#[test]
fn containerd_takes_the_configuration_that_the_clients_page_has_for_it() {
    let work = Work::new(requires!(&["containerd"]));
    let version = tools::run(tools::command("containerd").arg("--version")).expect("it is here");
    let is_old = version.contains(" 1.") || version.contains(" v1.");
    let wanted = if is_old { "version = 2" } else { "version = 3" };
    let config = block(CLIENTS, "toml", wanted);
    let file = work.file("config.toml", &config.text);

    let mut dump = tools::command("containerd");
    let said = tools::run(dump.arg("--config").arg(file).args(["config", "dump"]));
    let said = said.expect("containerd can read it");
    let is_taken = said.lines().any(|line| {
        let (key, value) = line.split_once('=').unwrap_or_default();
        key.trim() == "config_path" && value.contains(CERTS)
    });
    assert!(is_taken, "{version}: {said}");
}

/// One page, read by a new operator: Larder runs as the README says.
struct Reader {
    page: &'static str,
    shell: Shell,
    /// Behind docker.io.
    hub: Registry,
    /// Behind ghcr.io.
    ghcr: Registry,
    /// In the latter.
    app: Image,
    larder: u16,
    _process: Process,
}

impl Reader {
    fn of(work: &Work, page: &'static str) -> Self {
        // Made before the registry that serves it.
        drop(Image::alpine());
        let hub = Registry::start(work, &Guard::Open);
        let ghcr = Registry::writable(&work.dir("ghcr"), work);
        let publisher = Publisher { registry: &ghcr.url(), algorithm: "sha256", work };
        // Not a layer of docker.io's, which Larder would not fetch again.
        let layers = |_: &str, dir: &Path| vec![layer::noise(dir, 1 << 20)];
        let app = publisher.publish("owner/app", "v1", &[HERE], layers).swap_remove(0);
        let (larder, admin) = (wait::free_port(), wait::free_port());
        let shell = Shell::new(work)
            .replacing("127.0.0.1:5000", &format!("127.0.0.1:{larder}"))
            .replacing("127.0.0.1:5001", &format!("127.0.0.1:{admin}"));
        // The binary is built already, and not for a release.
        let program = env!("CARGO_BIN_EXE_larder");
        let cargo = format!(
            "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 64\nshift 3\n\
             exec '{program}' \"$@\"\n"
        );
        shell.script("cargo", &cargo);

        let config = format!(
            "listen = [\"127.0.0.1:{larder}\"]\nadmin_listen = \"127.0.0.1:{admin}\"\n\
             dashboard.listen = \"\"\n\
             [access]\nanonymous = \"push\"\n\
             [registry.\"docker.io\"]\nupstream = \"{}\"\n\
             [registry.\"ghcr.io\"]\nupstream = \"{}\"\npush = true\n",
            hub.url(),
            ghcr.url(),
        );
        let mut command = shell.command(&block(README, "sh", "-- serve").text);
        command.env("LARDER_CONFIG", work.file("larder.toml", &config));
        let mut process = Process::spawn("larder", &command, &work.log("larder.log"));
        process.wait_until_ready(|| wait::answers(larder) && wait::answers(admin));
        Self { page, shell, hub, ghcr, app, larder, _process: process }
    }

    fn block(&self, language: &str, text: &str) -> Block {
        block(self.page, language, text)
    }

    fn run(&self, block: &Block) -> String {
        let done = self.shell.run(&block.text);
        done.unwrap_or_else(|error| panic!("{}: {error}", block.place))
    }

    /// Panics unless Larder has fetched the whole image from its registry, and serves it.
    fn was_pulled(&self, image: &Image) {
        let (registry, prefix) = match image.repository.as_str() {
            "owner/app" => (&self.ghcr, "ghcr.io/"),
            _ => (&self.hub, ""),
        };
        let asked = registry.requests();
        for digest in image.blobs() {
            let is_fetch = |it: &&Request| it.method == "GET" && it.path.contains(digest);
            let fetched = asked.iter().filter(is_fetch);
            assert_eq!(fetched.count(), 1, "{digest} came through Larder, once: {asked:#?}");
            self.until_stored(&format!("{prefix}{}/blobs/{digest}", image.repository));
        }
    }

    /// Waits until Larder answers from its cache.
    fn until_stored(&self, path: &str) {
        let url = format!("http://127.0.0.1:{}/v2/{path}", self.larder);
        wait::until(&format!("{path} is stored"), wait::DAEMON, || {
            let answer = Curl::get(&url).send();
            (answer.cache_status() == "larder; hit").then_some(())
        });
    }
}

/// The page's files below `prefix`, in a directory without the others: each has to lead by itself.
fn hosts_dir(work: &Work, reader: &Reader, prefix: &str) -> PathBuf {
    let hosts = work.new_dir("hosts");
    let mut count = 0;
    for block in blocks_of(reader.page).iter().filter(|block| block.file.starts_with(prefix)) {
        count += 1;
        let registry = Path::new(prefix).file_name().expect("a registry's directory has a name");
        let dir = hosts.join(registry);
        fs::create_dir_all(&dir).expect("the test's directory can be written");
        let text = reader.shell.localised(&block.text);
        fs::write(dir.join("hosts.toml"), text).expect("the test's directory can be written");
    }
    assert_eq!(count, 1, "{prefix}");
    hosts
}

fn pull_by(hosts: &Path, name: &str, work: &Work) {
    let mut pull = tools::command("containerd-pull");
    pull.arg("--hosts-dir").arg(hosts).arg(name).arg(work.new_dir("pulled").join("it"));
    tools::run(&mut pull).unwrap_or_else(|error| panic!("{}: {error}", hosts.display()));
}

/// Whether a registry itself has the repository.
fn has(registry: &Registry, repository: &str) -> bool {
    let url = format!("{}/v2/{repository}/tags/list", registry.url());
    Curl::get(&url).send().status == 200
}

/// podman on directories of its own.
struct Podman {
    command: Command,
    policy: String,
}

fn podman(work: &Work, registries: &str) -> Podman {
    let dir = work.new_dir("podman");
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        dir.join("graph").display(),
        work.sockets().join(format!("podman-{}", fastrand::u16(..))).display(),
    );
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).expect("the test's directory can be written");
        file
    };
    let mut command = tools::command("podman");
    command.env("CONTAINERS_STORAGE_CONF", write("storage.conf", &storage));
    command.env("CONTAINERS_REGISTRIES_CONF", write("registries.conf", registries));
    command.env("REGISTRY_AUTH_FILE", write("auth.json", "{}"));
    command.args(["--events-backend=none", "--cgroup-manager=cgroupfs"]);
    let policy = write("policy.json", ACCEPT_ANYTHING).display().to_string();
    Podman { command, policy }
}

/// The one block of a page in that language with that text, or the first of several.
fn block(page: &str, language: &str, text: &str) -> Block {
    let mut blocks = blocks_of(page).into_iter();
    let found = blocks.find(|block| block.language == language && block.text.contains(text));
    found.unwrap_or_else(|| panic!("{page} has no block of {language} with `{text}`"))
}

fn readme() -> String {
    fs::read_to_string(markdown::root().join(README)).expect("it is in the repository")
}

const README: &str = "README.md";

const CLIENTS: &str = "docs/clients.md";

/// For the registries, and for the blocks that start Larder and ask it.
const README_TOOLS: &[&str] = &["docker-registry", "curl", "setpriv", "bash"];

/// The directory of containerd's files for each registry.
const CERTS: &str = "/etc/containerd/certs.d";

/// The same for Docker 29 with the containerd image store.
const DOCKER_CERTS: &str = "/etc/docker/certs.d";

const CONTAINERD: &[&str] = &["containerd", "ctr", "root"];

const ACCEPT_ANYTHING: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
