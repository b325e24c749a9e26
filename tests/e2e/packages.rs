//! The image, the Debian package and the chart, built by the script of a release and used as
//! operators use them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Resource, getrlimit};

use crate::support::booted::BootedDebian;
use crate::support::client::Client as _;
use crate::support::image::Image;
use crate::support::layer;
use crate::support::one_shot::{self, OneShot};
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{self, requires, skip};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::{Work, kept};

/// The program of all packages, built once.
static PROGRAM: LazyLock<()> = LazyLock::new(|| build("program"));

/// Runs a step of the script; the directory that it writes into.
fn packages(step: &str) -> PathBuf {
    LazyLock::force(&PROGRAM);
    build(step);
    kept().with_file_name("packages")
}

fn build(step: &str) {
    let mut script = Command::new(root().join("docs/packaging/build"));
    let tools = kept().with_file_name("tools").join("bin");
    let path = tools::environment("PATH").unwrap_or_default();
    let path = std::iter::once(tools).chain(std::env::split_paths(&path));
    script.env("PATH", std::env::join_paths(path).expect("PATH is a list of directories"));
    script.env("CARGO_TARGET_DIR", kept().parent().expect("it lies in the target directory"));
    tools::run(script.args(["--debug", step])).expect("the packages are built");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The configuration of docker.io at `upstream`.
fn registry_table(upstream: &str) -> String {
    format!("[registry.\"docker.io\"]\nupstream = \"{upstream}\"\ndefault = true\n")
}

/// Pulls an image through Larder at `port`.
fn pull(work: &Work, port: u16, image: &Image) {
    let client = OneShot::new(work, one_shot::skopeo);
    client.pull(&Way::plain(Door::Mirror, port), &Wanted::by_tag(image)).expect("it is served");
}

/// A container with nothing writable but its volume, no capability and no user of this machine.
#[test]
fn the_image_pulls_read_only_and_without_rights_and_says_that_it_is_healthy() {
    let work = Work::new(requires!(&["root", "podman", "buildah", "skopeo"], DISTRIBUTION));
    let archive = packages("image").join("larder-image.tar");
    let [image, _] = Image::small();
    let upstream = Registry::start(&work, &Guard::Open);
    let (port, admin) = (wait::free_port(), wait::free_port());
    let config = work.file("config.toml", &registry_table(&upstream.url()));
    let podman = |arguments: &[&str]| {
        let mut command = tools::command("podman");
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--root"]);
        command.arg(work.dir("storage")).arg("--runroot").arg(work.dir("run"));
        // There is no systemd here to run the health check; the test does.
        tools::run(command.args(arguments).env("DISABLE_HC_SYSTEMD", "true"))
    };
    podman(&["load", "--input", &archive.display().to_string()]).expect("it is an archive");
    // podman wants to raise them, which this machine may refuse.
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
    let version = env!("CARGO_PKG_VERSION");

    podman(&[
        "run",
        "--detach",
        "--name=larder",
        "--network=host",
        "--read-only",
        "--cap-drop=all",
        &format!("--ulimit=nofile={limit}:{limit}"),
        "--ulimit=nproc=1000:1000",
        &format!("--env=LARDER_LISTEN=127.0.0.1:{port}"),
        &format!("--env=LARDER_ADMIN_LISTEN=127.0.0.1:{admin}"),
        &format!("--volume={}:/etc/larder/config.toml:ro", config.display()),
        &format!("larder:{version}"),
    ])
    .expect("it starts");
    wait::until("the container serves", wait::DAEMON, || wait::answers(port).then_some(()));
    pull(&work, port, &image);

    podman(&["healthcheck", "run", "larder"]).expect("it is healthy");
    let listed = podman(&["exec", "larder", "/usr/bin/larder", "ls"]).expect("a command");
    assert!(listed.contains("library/small:1"), "{listed}");
    let pid = podman(&["inspect", "larder", "--format={{.State.Pid}}"]).expect("it runs");
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("it runs");
    assert!(status.contains("\nUid:\t65532\t65532\t65532\t65532\n"), "{status}");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    podman(&["stop", "larder"]).expect("it ends");
    let code = podman(&["inspect", "larder", "--format={{.State.ExitCode}}"]).expect("it ended");
    assert_eq!(code.trim(), "0", "{:?}", podman(&["logs", "larder"]));
    podman(&["rm", "--volumes", "larder"]).expect("it is removed");
}

/// In a Debian without systemd, where the test starts what the unit would.
#[test]
fn the_debian_package_installs_a_service_that_pulls_and_its_purge_leaves_nothing() {
    let test = requires!(&["root", "debootstrap", "cargo-deb", "skopeo"], DISTRIBUTION);
    let work = Work::new(test);
    let [image, _] = Image::small();
    let debian = work.dir("debian");
    let base = Image::blob_file(&Image::debian().layers[0]);
    tools::run(Command::new("tar").arg("-xzf").arg(base).arg("-C").arg(&debian))
        .expect("a layer is a tar");
    if !debian.join("usr/bin/dpkg").exists() {
        return skip(test, "debootstrap reaches no Debian mirror");
    }
    fs::copy(packages("deb").join("larder.deb"), debian.join("larder.deb")).expect("it is built");
    let chroot = |arguments: &[&str]| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        tools::run(command.arg(&debian).args(arguments)).expect("it works in the Debian")
    };
    chroot(&["dpkg", "--install", "/larder.deb"]);
    let user = chroot(&["getent", "passwd", "larder"]);
    assert!(user.ends_with(":/var/cache/larder:/usr/sbin/nologin\n"), "{user}");
    let unit = fs::read_to_string(debian.join("usr/lib/systemd/system/larder.service"));
    let unit = unit.expect("it has a unit");
    assert!(unit.contains("\nExecStart=larder serve\n") && unit.contains("\nUser=larder\n"));
    assert!(!debian.join("etc/systemd/system/sockets.target.wants/larder.socket").exists());
    for page in [
        "usr/share/man/man1/larder.1.gz",
        "usr/share/man/man1/larder-ls.1.gz",
        "usr/share/man/man5/larder.toml.5.gz",
        "usr/share/doc/larder/larder.socket",
    ] {
        assert!(debian.join(page).exists(), "{page}");
    }
    let file = debian.join("etc/larder/config.toml");
    let upstream = Registry::start(&work, &Guard::Open);
    let as_shipped = fs::read_to_string(&file).expect("it has a configuration");
    fs::write(&file, as_shipped + &registry_table(&upstream.url())).expect("it is a file");
    let checked = chroot(&["larder", "check"]);
    assert!(checked.contains("/var/cache/larder"), "{checked}");

    // What the unit's CacheDirectory= and User= do.
    chroot(&["install", "-d", "-o", "larder", "-g", "larder", "-m", "700", "/var/cache/larder"]);
    let port = wait::free_port();
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg("--userspec=larder:larder").arg(&debian).args(["larder", "serve"]);
    command.env("LARDER_LISTEN", format!("127.0.0.1:{port}"));
    command.env("LARDER_ADMIN_LISTEN", format!("127.0.0.1:{}", wait::free_port()));
    command.env("PATH", "/usr/bin");
    let mut larder = Process::spawn("larder", &command, &work.log("larder.log"));
    larder.wait_until_ready(|| wait::answers(port));
    pull(&work, port, &image);
    assert!(chroot(&["larder", "ls"]).contains("library/small:1"));
    assert!(larder.stop().success(), "{}", larder.tail());

    chroot(&["dpkg", "--purge", "larder"]);
    for path in ["usr/bin/larder", "etc/larder", "var/cache/larder", "usr/share/doc/larder"] {
        assert!(!debian.join(path).exists(), "{path}");
    }
}

/// In a Debian that systemd has started, of the oldest version that the unit is for.
#[test]
fn systemd_runs_the_packages_unit_and_restarts_it_without_a_refused_connection() {
    let test = requires!(&["root", "debootstrap", "cargo-deb", "skopeo", "nsenter"], DISTRIBUTION);
    let work = Work::new(test);
    let debian = work.dir("debian");
    if layer::debootstrap(&debian, &["--variant=minbase", "--include=systemd,ca-certificates"])
        .is_err()
    {
        return skip(test, "debootstrap reaches no Debian mirror");
    }
    fs::copy(packages("deb").join("larder.deb"), debian.join("larder.deb")).expect("it is built");
    let port = wait::free_port();
    let variables = [
        ("LISTEN", port),
        ("ADMIN_LISTEN", wait::free_port()),
        ("DASHBOARD_LISTEN", wait::free_port()),
    ];
    let lines =
        variables.map(|(name, port)| format!("Environment=LARDER_{name}=127.0.0.1:{port}\n"));
    drop_in(&debian, "larder.service", &format!("[Service]\n{}", lines.concat()));
    let socket = format!("[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n");
    drop_in(&debian, "larder.socket", &socket);
    let booted = match BootedDebian::boot(&work, &debian) {
        Ok(booted) => booted,
        Err(reason) => return skip(test, &format!("systemd does not start here: {reason}")),
    };
    let run = |arguments: &[&str]| booted.run(arguments).expect("it works in the Debian");

    run(&["dpkg", "--install", "/larder.deb"]);
    let state = || run(&["systemctl", "show", "larder", "--property=Type,User,ActiveState"]);
    wait::until("the service that the package starts is active", wait::DAEMON, || {
        (state() == "Type=notify\nUser=larder\nActiveState=active\n").then_some(())
    });

    let upstream = Registry::start(&work, &Guard::Open);
    let file = debian.join("etc/larder/config.toml");
    let as_shipped = fs::read_to_string(&file).expect("it has a configuration");
    fs::write(&file, as_shipped + &registry_table(&upstream.url())).expect("it is a file");
    run(&["systemctl", "reload", "larder"]);
    let log = run(&["journalctl", "--unit=larder", "--no-pager"]);
    assert!(log.contains("the configuration was read again"), "{log}");
    let [image, _] = Image::small();
    pull(&work, port, &image);

    run(&["cp", "/usr/share/doc/larder/larder.socket", "/etc/systemd/system/"]);
    run(&["systemctl", "daemon-reload"]);
    run(&["systemctl", "stop", "larder.service"]);
    run(&["systemctl", "enable", "--now", "larder.socket"]);
    run(&["systemctl", "start", "larder.service"]);
    let clients = Clients::start(port);
    for _ in 0..3 {
        clients.until_more_are_answered();
        run(&["systemctl", "restart", "larder.service"]);
    }
    clients.until_more_are_answered();
    assert_eq!(clients.stop(), Vec::<String>::new(), "no request fails in a restart");
    let log = run(&["journalctl", "--unit=larder", "--no-pager"]);
    assert_eq!(log.matches("larder starts").count(), 5, "{log}");
    assert!(!log.contains("index set aside"), "no system call that it needs is refused: {log}");

    run(&["systemctl", "disable", "--now", "larder.socket"]);
    run(&["dpkg", "--purge", "larder"]);
    assert!(!wait::answers(port));
    let left = booted.run(&["systemctl", "list-unit-files", "larder.service"]);
    assert!(left.is_err_and(|said| said.contains("0 unit files")));
}

/// Changes a unit of the Debian in `root`.
fn drop_in(root: &Path, unit: &str, text: &str) {
    let dir = root.join("etc/systemd/system").join(format!("{unit}.d"));
    fs::create_dir_all(&dir).expect("a new directory");
    fs::write(dir.join("test.conf"), text).expect("a new file");
}

/// Clients that ask all the time, each by a connection of its own.
struct Clients {
    shared: Arc<ClientCounts>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct ClientCounts {
    is_over: AtomicBool,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Clients {
    fn start(port: u16) -> Self {
        let shared = Arc::new(ClientCounts::default());
        let threads = std::iter::repeat_with(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.is_over.load(Ordering::Relaxed) {
                    match ping(port) {
                        Ok(()) => drop(shared.answered.fetch_add(1, Ordering::Relaxed)),
                        Err(fault) => shared.failed.lock().expect("no panic").push(fault),
                    }
                }
            })
        });
        let threads = threads.take(4).collect();
        Self { shared, threads }
    }

    fn until_more_are_answered(&self) {
        let before = self.shared.answered.load(Ordering::Relaxed);
        wait::until("clients are answered", wait::DAEMON, || {
            (self.shared.answered.load(Ordering::Relaxed) > before + 50).then_some(())
        });
    }

    /// Ends them; the faults that they had.
    fn stop(self) -> Vec<String> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        std::mem::take(&mut *self.shared.failed.lock().expect("no panic"))
    }
}

fn ping(port: u16) -> Result<(), String> {
    let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    match answer {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// A cluster is not here; what it would be given is.
#[test]
fn the_chart_is_right_for_both_kinds_and_refuses_values_that_are_not() {
    let work = Work::new(requires!(&["helm"]));
    packages("chart");
    let template = |values: &[&str]| template(&work, values);
    let stateful = template(&[]).expect("the defaults are right");
    for line in [
        "kind: StatefulSet",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "storage: 50Gi",
        "path: /readyz",
        "value: \"50s\"",
    ] {
        assert!(stateful.contains(line), "`{line}` is not in\n{stateful}");
    }
    for kind in ["ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget", "hostPort"] {
        assert!(!stateful.contains(kind), "{kind} is not asked for\n{stateful}");
    }
    let daemon = template(DAEMON).expect("these are right");
    for line in [
        "kind: DaemonSet",
        "hostIP: 127.0.0.1",
        "mountPath: /run/secrets/larder/hub",
        "kind: ServiceMonitor",
        "kind: NetworkPolicy",
        "kind: PodDisruptionBudget",
    ] {
        assert!(daemon.contains(line), "`{line}` is not in\n{daemon}");
    }
    assert!(!daemon.contains("volumeClaimTemplates"), "{daemon}");
    for wrong in ["kind=Deployment", "cache.size=much", "hostport=5000", "replicas=-1"] {
        let error = template(&[wrong]).expect_err(wrong);
        assert!(error.contains("values don't meet the specifications"), "{wrong}: {error}");
    }
}

/// The API server refuses a field that it does not know, or loses it, and only at the install.
#[test]
fn kubernetes_and_the_prometheus_operator_know_every_field_of_the_chart() {
    let work = Work::new(requires!(&["helm", "manifests"]));
    let read = |documents: &str| {
        let file = work.file("documents.yaml", documents);
        let mut manifests = tools::command("manifests");
        tools::run(manifests.stdin(fs::File::open(file).expect("it was just written")))
    };
    let monitored = ["serviceMonitor.enabled=true", "serviceMonitor.labels.release=prometheus"];
    let scheduled = [
        "service.type=NodePort",
        "service.nodePort=30500",
        "cache.storageClassName=fast",
        "env[0].name=LARDER_LOG",
        "env[0].value=debug",
        "imagePullSecrets[0].name=pull",
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "priorityClassName=system-node-critical",
        "serviceAccount.annotations.role=larder",
    ];
    for (values, kinds) in [
        (&[][..], &["StatefulSet", "ConfigMap", "Service", "ServiceAccount"][..]),
        (DAEMON, &["DaemonSet", "ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget"]),
        (&monitored, &["ServiceMonitor"]),
        (&scheduled, &["StatefulSet"]),
    ] {
        let documents = template(&work, values).expect("these are right");
        let found = read(&documents).unwrap_or_else(|error| panic!("{error}\n{documents}"));
        for kind in kinds {
            assert!(found.lines().any(|line| line == *kind), "no {kind}: {found}");
        }
    }
    let documents = template(&work, &[]).expect("the defaults are right");
    for (right, wrong) in [("replicas:", "replica:"), ("runAsUser: 65532", "runAsUser: \"65532\"")]
    {
        assert!(documents.contains(right), "{documents}");
        let error = read(&documents.replace(right, wrong)).expect_err(wrong);
        assert!(error.contains("apps/v1 StatefulSet"), "{error}");
    }
}

/// The chart with these values.
fn template(work: &Work, values: &[&str]) -> Result<String, String> {
    let mut helm = tools::command("helm");
    helm.env("HOME", work.dir("home")).args(["template", "test"]);
    helm.arg(root().join("docs/packaging/chart"));
    tools::run(helm.args(values.iter().flat_map(|value| ["--set", value])))
}

/// A `DaemonSet` with all that the chart can add.
const DAEMON: &[&str] = &[
    "kind=DaemonSet",
    "hostPort=5000",
    "secrets.hub.secretName=hub",
    "serviceMonitor.enabled=true",
    "networkPolicy.enabled=true",
    "podDisruptionBudget.enabled=true",
];
