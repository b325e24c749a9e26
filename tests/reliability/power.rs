//! Power cuts: the disk keeps what had reached it at one instant, and the machine starts anew.
//!
//! All that the block layer was given counts as kept: a disk with a volatile cache that lies about
//! flushes loses more.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use crate::Arguments;
use crate::nth::checks::at_rest;
use crate::support::image::OCI_IMAGE;
use crate::support::{Blob, Client, Image, Process, ScriptedRegistry, Version};
use crate::table::Row;
use crate::volume::{Lab, Volume};

const PART: &str = "power";
const REPOSITORY: &str = "library/alpine";
const TAG: &str = "/v2/library/alpine/manifests/moving";

/// Evictions go on as well.
const CACHE_KEYS: &str = "min_free = '0B'\nmax_size = '60MiB'";
const KEYS: &str = "push = true\n[access]\nanonymous = 'push'";

pub async fn run(arguments: &Arguments) -> Vec<Row> {
    let rounds = if arguments.long { 60 } else { 3 };
    let mut rows = Vec::new();
    for kind in ["ext4", "xfs"] {
        let what = format!("power cuts on {kind}");
        let lab = match Lab::new() {
            Ok(lab) => lab,
            Err(why) => {
                rows.push(Row::skipped(PART, what, why));
                continue;
            }
        };
        let mut row = Row::new(PART, &what, 0);
        let mut cut = Row::new(PART, format!("pulls cut once after {what}"), 0);
        let random = fastrand::Rng::with_seed(arguments.seed);
        match Cuts::new(&lab, kind, random).await {
            Ok(mut cuts) => {
                for round in 0..rounds {
                    row.count += 1;
                    if let Err(why) = cuts.round(round).await {
                        row.defects.push(format!("round {round}: {why}"));
                    }
                }
                cut.count = cuts.cut;
            }
            Err(why) => row.skipped.push(why),
        }
        rows.extend([row, cut]);
    }
    rows
}

struct Cuts {
    hub: ScriptedRegistry,
    larder: Process,
    volume: Volume,
    random: fastrand::Rng,
    /// All that was pulled in the last rounds.
    blobs: Vec<Blob>,
    /// Pulls after a cut that ended before their end.
    cut: u64,
}

impl Cuts {
    async fn new(lab: &Lab, kind: &'static str, random: fastrand::Rng) -> Result<Self, String> {
        let volume = Volume::new(lab, kind)?;
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[1000]);
        hub.put_image(REPOSITORY, "moving", &image);
        let upstream = hub.listen().await;
        let larder = Process::with_keys_in(&volume.cache(), upstream, [CACHE_KEYS, KEYS]).await;
        Ok(Self { hub, larder, volume, random, blobs: Vec::new(), cut: 0 })
    }

    async fn round(&mut self, round: u64) -> Result<(), String> {
        let fresh =
            (0..12).map(|seed| Blob::random(round * 100 + seed, self.random.usize(..3 << 20)));
        let fresh: Vec<_> = fresh.collect();
        for blob in &fresh {
            self.hub.put_blob(REPOSITORY, blob);
        }
        self.blobs.extend(fresh);
        self.blobs.drain(..self.blobs.len().saturating_sub(24));
        let mut clients = self.clients(round);
        tokio::time::sleep(Duration::from_millis(self.random.u64(..800))).await;
        let snapshot = self.volume.snapshot()?;
        self.larder.kill();
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        self.volume.cut(snapshot)?;
        self.larder.run_under(after_a_boot(round));
        self.larder.try_start_again().await?;
        self.check().await
    }

    /// Readers of all blobs, and a client that pushes a tag again and again.
    fn clients(&mut self, round: u64) -> JoinSet<Result<Vec<Blob>, String>> {
        let mut clients = JoinSet::new();
        self.random.shuffle(&mut self.blobs);
        for blobs in self.blobs.chunks(6) {
            clients.spawn(read_all(self.larder.client(), blobs.to_vec()));
        }
        let client = self.larder.client();
        clients.spawn(async move {
            for number in 0.. {
                let manifest = Image::random(1, &[1000]).retagged(round * 1000 + number);
                let put = (Version::Http11, Method::PUT);
                let headers = [("content-type", OCI_IMAGE)];
                let Ok(reply) = client.try_send(put, TAG, &headers, manifest).await else { break };
                if reply.status != 201 {
                    return Err(format!("the push of a tag: {}", reply.status));
                }
            }
            Ok(Vec::new())
        });
        clients
    }

    async fn check(&mut self) -> Result<(), String> {
        let client = self.larder.client();
        let tagged = self.hub.tagged(REPOSITORY, "moving");
        let reply = client.try_get(Version::Http11, TAG).await?;
        let digest = reply.header("docker-content-digest").map(str::to_owned);
        if digest != tagged {
            return Err(format!("the tag is {digest:?} and was pushed as {tagged:?}"));
        }
        // A download that the cut left with bytes that had not reached the disk is gone on with,
        // found wrong and fetched anew, and its first reader is cut before the end.
        let cut = read_all(client.clone(), self.blobs.clone()).await?;
        self.cut += cut.len() as u64;
        let again = read_all(client, cut).await?;
        if !again.is_empty() {
            return Err(format!("cut twice: {again:?}"));
        }
        at_rest(&self.larder).await
    }
}

/// Pulls until the program is killed. Answers that end well must be right; gives the others.
async fn read_all(client: Client, blobs: Vec<Blob>) -> Result<Vec<Blob>, String> {
    let mut cut = Vec::new();
    for blob in blobs {
        let path = blob.path(REPOSITORY);
        match client.try_get(Version::Http11, &path).await {
            Ok(reply) if reply.is_complete() && reply.body == blob.bytes => {}
            Ok(reply) if reply.is_complete() => {
                let (status, len) = (reply.status, reply.body.len());
                return Err(format!("WRONG BYTES: {status} {len} of {blob:?}"));
            }
            _ => cut.push(blob),
        }
    }
    Ok(cut)
}

/// Runs a program in another boot of the machine, as far as it can tell.
fn after_a_boot(round: u64) -> Vec<String> {
    let bind = "echo 00000000-0000-4000-8000-$1 > $2; \
                mount --bind $2 /proc/sys/kernel/random/boot_id && shift 2 && exec \"$@\"";
    let file = std::env::temp_dir().join(format!("larder-boot-{}", std::process::id()));
    let id = format!("{:012x}", round + 1);
    let words = ["unshare", "-m", "sh", "-c", bind, "sh", &id];
    words.map(str::to_owned).into_iter().chain([file.display().to_string()]).collect()
}

impl Image {
    /// The bytes of the manifest with a number in it.
    fn retagged(&self, number: u64) -> Bytes {
        let text = String::from_utf8_lossy(&self.manifest.blob.bytes).into_owned();
        let marked = format!("{{\n  \"annotations\": {{ \"number\": \"{number}\" }},");
        text.replacen('{', &marked, 1).into()
    }
}
