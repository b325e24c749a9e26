//! How fast do images leave a cache as a bundle, and how fast do they come into another one?
//!
//! Both sides end with the bytes on the disk. Larder does in one pass what `tar` and `sha256sum` do
//! one after the other; sources are in the page cache for both.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use larder::oci::{Algorithm, Digest};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Row, take_turns};
use crate::lab::Lab;
use crate::peers::Peer;
use crate::process;
use crate::stats::MIB;
use crate::table::{Bound, Figure, Table};

pub(super) const EXPORT_ROW: Row = Row {
    name: "export",
    question: "An image of 1 GiB in four layers leaves the cache as a bundle. Against it `tar c` of \
        the same files, `sha256sum` of them, and `sync` of the archive.",
    measure: measure_export,
};

pub(super) const IMPORT_ROW: Row = Row {
    name: "import",
    question: "The bundle comes into an empty cache, without a server. Against it `tar x`, \
        `sha256sum` of the files, and `sync` of them.",
    measure: measure_import,
};

const CPU: Figure = Figure("CPU s");
const WALL: Figure = Figure("wall s");

const IMAGE: &str = "docker.io/bench/carried:1";
const LAYERS: u64 = 4;
const LAYER_BYTES: u64 = 256 * MIB;

/// The image as a layout, as a bundle, and in a cache.
struct CarriedImage {
    layout: PathBuf,
    bundle: PathBuf,
    /// The configuration of a Larder that has it.
    config: PathBuf,
    state: TempDir,
}

fn measure_export(lab: &Lab) -> Result<Table> {
    compare(lab, |peer, image| {
        let out = image.state.path().join("exported.tar");
        let commands = if peer == Peer::Larder {
            vec![larder(
                lab,
                &image.config,
                &["export".as_ref(), IMAGE.as_ref(), "-o".as_ref(), out.as_ref()],
            )]
        } else {
            let blobs = files(&image.layout.join("blobs/sha256"))?;
            let layout = image.layout.as_os_str();
            vec![
                tool(
                    lab,
                    "tar",
                    &["cf".as_ref(), out.as_ref(), "-C".as_ref(), layout, ".".as_ref()],
                ),
                tool(lab, "sha256sum", &blobs),
                tool(lab, "sync", &[&out]),
            ]
        };
        let taken = run(commands)?;
        fs::remove_file(out)?;
        Ok(taken)
    })
}

fn measure_import(lab: &Lab) -> Result<Table> {
    compare(lab, |peer, image| {
        let state = lab.state()?;
        let bundle = image.bundle.as_os_str();
        if peer == Peer::Larder {
            let config = configuration(state.path())?;
            return run(vec![larder(lab, &config, &["import".as_ref(), bundle])]);
        }
        let into = state.path().as_os_str();
        let unpacked = run(vec![tool(lab, "tar", &["xf".as_ref(), bundle, "-C".as_ref(), into])])?;
        let blobs = files(&state.path().join("blobs/sha256"))?;
        let checked = run(vec![tool(lab, "sha256sum", &blobs), tool(lab, "sync", &blobs)])?;
        Ok([unpacked[0] + checked[0], unpacked[1] + checked[1]])
    })
}

/// Lets Larder and the tools take turns, each of which gives wall and CPU seconds.
fn compare(lab: &Lab, turn: impl Fn(Peer, &CarriedImage) -> Result<[f64; 2]>) -> Result<Table> {
    let image = CarriedImage::make(lab)?;
    let mut table = Table::default();
    let peers = [Peer::Larder, Peer::Tools];
    take_turns(
        lab,
        &mut table,
        &peers,
        |peer| *peer,
        |peer, table| {
            let [wall, cpu] = turn(*peer, &image)?;
            table.add(*peer, WALL, wall);
            table.add(*peer, CPU, cpu);
            Ok(())
        },
    );
    table.ratio(WALL, Peer::Tools, Bound::AtMost(1.1), None);
    table.ratio(CPU, Peer::Tools, Bound::AtMost(1.1), None);
    Ok(table)
}

impl CarriedImage {
    /// A layout of random layers, which one cache has imported and exported.
    fn make(lab: &Lab) -> Result<Self> {
        let state = lab.state()?;
        let layout = state.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let mut layers = Vec::new();
        for seed in 0..LAYERS {
            let path = lab.blob(LAYER_BYTES, 100 + seed)?;
            let digest: Digest = path.rsplit('/').next().unwrap_or_default().parse()?;
            fs::hard_link(lab.root().join(&path[1..]), blobs.join(digest.hex()))?;
            layers.push(descriptor("layer.v1.tar", &digest, LAYER_BYTES));
        }
        let put = |bytes: &[u8]| {
            let digest = Digest::of(Algorithm::Sha256, bytes);
            fs::write(blobs.join(digest.hex()), bytes).map(|()| digest)
        };
        let config = put(b"{}")?;
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config, 2),
            "layers": layers,
        });
        let manifest = manifest.to_string();
        let digest = put(manifest.as_bytes())?;
        let mut entry = descriptor("manifest.v1+json", &digest, manifest.len() as u64);
        entry["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": IMAGE });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;

        let config = configuration(state.path())?;
        let bundle = state.path().join("bundle.tar");
        run(vec![larder(lab, &config, &["import".as_ref(), layout.as_os_str()])])?;
        let export = ["export".as_ref(), IMAGE.as_ref(), "-o".as_ref(), bundle.as_os_str()];
        run(vec![larder(lab, &config, &export)])?;
        Ok(Self { layout, bundle, config, state })
    }
}

fn descriptor(kind: &str, digest: &Digest, size: u64) -> serde_json::Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    serde_json::json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size })
}

/// The configuration of a Larder that has its cache in a directory.
fn configuration(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("larder.toml");
    let cache = dir.join("cache");
    fs::write(&file, format!("[cache]\ndir = \"{}\"\n", cache.display()))?;
    Ok(file)
}

fn larder(lab: &Lab, config: &Path, arguments: &[&OsStr]) -> Command {
    let mut command = process::measured(&lab.larder, lab.is_pinned);
    command.args(arguments).arg("--config").arg(config);
    command
}

fn tool(lab: &Lab, program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = process::measured(Path::new(program), lab.is_pinned);
    command.args(arguments);
    command
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Runs commands one after the other. Gives wall and CPU seconds of all of them.
fn run(commands: Vec<Command>) -> Result<[f64; 2]> {
    let (cpu, since) = (process::cpu_of(std::process::id())?, Instant::now());
    for mut command in commands {
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    }
    Ok([since.elapsed().as_secs_f64(), process::cpu_of(std::process::id())? - cpu])
}
