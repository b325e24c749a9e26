//! The access log: a file with a line for each request, whatever the log on stderr has.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Map, Value};

use crate::support::instance::{client_of, free_address};
use crate::support::small_disk::SmallDisk;
use crate::support::{Client, Image, Instance, ScriptedRegistry};

const MANIFEST: &str = "/v2/library/app/manifests/latest";

/// A mirror of a registry with an image, without lines for requests on stderr, and its addresses.
async fn start(keys: &str) -> (Instance, [SocketAddr; 2]) {
    let hub = ScriptedRegistry::new();
    hub.put_image("library/app", "latest", &Image::random(1, &[50_000]));
    let (address, admin) = (free_address(), free_address());
    let config = format!(
        "listen = ['{address}']\nadmin_listen = '{admin}'\ndashboard.listen = ''\n{keys}\n\
         [registry.'docker.io']\nupstream = 'http://{}'\ndefault = true\n",
        hub.listen().await
    );
    (Instance::start(&[], &config).await, [address, admin])
}

const QUIET: &str = "log_level = 'info,larder::request=off'";

/// The lines of a file; each of them has to be an object.
fn lines(path: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    text.lines().map(parse).collect()
}

fn has_lines(count: usize) -> impl Fn(&str) -> bool {
    move |text| text.lines().count() >= count
}

async fn pull(client: &Client) {
    client.get(MANIFEST).await.assert_status(200);
}

/// A pull, an error and a path that no registry has.
async fn ask(address: SocketAddr) {
    let client = client_of(address);
    pull(&client).await;
    client.get_with("/v2/library/app/manifests/none", &[("user-agent", "a\"b")]).await;
    client.get("/none/%1b?token=secret").await;
}

#[tokio::test]
async fn each_request_is_a_line_with_the_fields_of_the_log() {
    let (mut quiet, [address, _]) =
        start(&format!("{QUIET}\naccess_log.file = 'access.log'")).await;
    ask(address).await;
    quiet.until_file("access.log", has_lines(3)).await;
    let path = quiet.path("access.log");
    assert!(!quiet.log().contains("larder::request"), "{}", quiet.log());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let written = lines(&path);

    let (mut told, [address, _]) = start("log_format = 'json'").await;
    ask(address).await;
    told.until_logged("\"target\":\"larder::request\"", 3).await;
    let log = told.log();
    let log = log.lines().filter(|line| line.contains("\"target\":\"larder::request\""));
    let logged: Vec<Value> = log.map(|line| serde_json::from_str(line).unwrap()).collect();

    assert_eq!(written.len(), 3);
    for (line, logged) in written.iter().zip(&logged) {
        let mut fields = logged["fields"].as_object().unwrap().clone();
        fields.remove("message");
        fields.insert("timestamp".to_owned(), logged["timestamp"].clone());
        let names = |fields: &Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(line), names(&fields));
        let same = ["method", "path", "route", "registry", "repository", "status", "decision"];
        for name in same.into_iter().chain(["detail", "bytes", "agent", "end", "client"]) {
            assert_eq!(line.get(name), fields.get(name), "{name}");
        }
    }
    assert_eq!(written[0]["repository"], "library/app");
    assert_eq!(written[1]["agent"], "a\\\"b");
    assert!(!written[2]["path"].as_str().unwrap().contains("secret"));
}

#[tokio::test]
async fn a_file_of_the_size_is_renamed_and_the_oldest_goes() {
    let keys = "[access_log]\nfile = 'access.log'\nmax_file_size = '64KiB'\nkeep_files = 2";
    let (mut larder, [address, _]) = start(&format!("{QUIET}\n{keys}")).await;
    let client = client_of(address);
    // 600 bytes a line, so that four files would be needed.
    for number in 0..500 {
        client.get(&format!("/{number}/{}", "x".repeat(400))).await.assert_status(404);
    }
    larder.until_file("access.log", |text| text.contains("/499/")).await;

    let mut names: Vec<_> = fs::read_dir(larder.path("")).unwrap().flatten().collect();
    names.retain(|entry| entry.file_name().to_string_lossy().starts_with("access.log"));
    assert_eq!(names.len(), 3, "{names:?}");
    let mut kept = Vec::new();
    for name in ["access.log.2", "access.log.1", "access.log"] {
        let path = larder.path(name);
        assert!(fs::metadata(&path).unwrap().len() <= 64 << 10, "{name}");
        kept.extend(lines(&path));
    }
    let number = |line: &Map<String, Value>| {
        line["path"].as_str().unwrap().split('/').nth(1).unwrap().parse::<usize>().unwrap()
    };
    let numbers: Vec<_> = kept.iter().map(number).collect();
    assert!(numbers[0] > 0 && numbers.len() > 200, "{numbers:?}");
    assert_eq!(numbers, (numbers[0]..500).collect::<Vec<_>>(), "none is lost between two files");
}

/// As logrotate does it: rename, signal, compress.
#[tokio::test]
async fn a_renamed_file_is_left_at_a_signal() {
    let (mut larder, [address, _]) =
        start("[access_log]\nfile = 'access.log'\nmax_file_size = '0'").await;
    let client = client_of(address);
    pull(&client).await;
    larder.until_file("access.log", has_lines(1)).await;
    fs::rename(larder.path("access.log"), larder.path("theirs")).unwrap();
    pull(&client).await;
    larder.until_file("theirs", has_lines(2)).await;

    larder.signal(Signal::USR1);
    larder.until_logged("the access log was opened again", 1).await;
    pull(&client).await;
    larder.until_file("access.log", has_lines(1)).await;

    assert_eq!(
        [lines(&larder.path("theirs")).len(), lines(&larder.path("access.log")).len()],
        [2, 1]
    );
}

/// The signal would end a process that has no use for it.
#[tokio::test]
async fn the_signal_does_nothing_without_a_file() {
    let (mut larder, [address, _]) = start("").await;
    larder.signal(Signal::USR1);
    larder.reload().await;
    pull(&client_of(address)).await;
}

/// The end of `larder` with a configuration: its exit code, and its last words.
fn refused(command: &str, file: &str) -> (Option<i32>, String, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let addresses = "listen = ['127.0.0.1:0']\nadmin_listen = ''\ndashboard.listen = ''\n";
    fs::write(&path, format!("{addresses}[access_log]\nfile = '{file}'\n")).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args([command, "--config"])
        .arg(&path)
        .env_clear()
        .env("LARDER_CACHE_DIR", dir.path().join("cache"))
        .output()
        .unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap(), path)
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_at_the_start_with_its_place() {
    let (code, said, path) = refused("serve", "/proc/access.log");
    assert_eq!(code, Some(1), "{said}");
    let want =
        format!("error: {}:5:8: the access log `/proc/access.log` cannot be", path.display());
    assert!(said.contains(&want), "{said}");
    assert!(said.contains("; key: access_log.file; hint: "), "{said}");

    for (file, what) in [
        ("/none/such/access.log", "is in a directory that does not exist"),
        ("/dev/null", "is not a regular file"),
        ("/tmp", "is not a regular file"),
    ] {
        let (code, said, path) = refused("check", file);
        assert_eq!(code, Some(2), "{said}");
        let place = format!("{}:5:8\n key: access_log.file\nhint: ", path.display());
        assert!(said.contains(what) && said.contains(&place), "{said}");
    }
}

/// Lines are worth less than pulls: those that the disk does not take are counted, and told.
#[tokio::test]
async fn a_full_disk_costs_lines_and_no_pull() {
    let Some(disk) = SmallDisk::mount() else { return };
    let file = disk.path().join("access.log");
    let keys = format!("{QUIET}\naccess_log.file = '{}'", file.display());
    let (mut larder, [address, admin]) = start(&keys).await;
    let client = client_of(address);
    pull(&client).await;
    larder.until_file(file.to_str().unwrap(), has_lines(1)).await;
    let ballast = disk.path().join("ballast");
    // Whole pages: what is left of the last one of the log takes some lines.
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=4096"]).arg(of(&ballast)).output();
    assert!(String::from_utf8_lossy(&filled.unwrap().stderr).contains("No space left"));

    for _ in 0..50 {
        pull(&client).await;
    }
    larder.until_logged("lines of the access log were lost", 1).await;
    let metrics = client_of(admin).get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let lost = "larder_access_log_lost_total{reason=\"disk\"} ";
    let lost = metrics.lines().find_map(|line| line.strip_prefix(lost)).expect(&metrics);
    assert!(lost.parse::<u64>().unwrap() > 0, "{lost}");
    lines(&file);

    fs::remove_file(ballast).unwrap();
    client.get("/after").await.assert_status(404);
    larder.until_file(file.to_str().unwrap(), |text| text.contains("/after")).await;
    assert!(lines(&file).len() < 52, "some are lost, and none is torn");
}

fn of(path: &Path) -> String {
    format!("of={}", path.display())
}
