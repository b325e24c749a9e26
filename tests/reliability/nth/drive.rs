//! The requests of clients in each case, and the answers that they must get.

use http::Method;

use crate::support::{Blob, Client, Image, Reply, ScriptedRegistry, Version};

pub const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;

/// The content of the registry, and of a push.
#[derive(Clone)]
pub struct Wanted {
    /// In the cache from the start.
    pub warm: Image,
    pub cold: Image,
    pub pushed: Blob,
}

impl Wanted {
    pub fn new(hub: &ScriptedRegistry) -> Self {
        let wanted = Self {
            warm: Image::random(1, &[100_000, MIB + 1]),
            cold: Image::random(2, &[3 * MIB / 2, 70_000, 10]),
            pushed: Blob::random(3, MIB),
        };
        hub.knows_lists();
        hub.put_image(REPOSITORY, "warm", &wanted.warm);
        hub.put_image(REPOSITORY, "cold", &wanted.cold);
        wanted
    }
}

/// Everything that was not as it has to be.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Wrong bytes that a client has to take for a whole.
    pub wrong: Vec<String>,
    /// The steps that ended in an error.
    pub failed: Vec<String>,
}

impl Complaints {
    fn check(&mut self, reply: Result<Reply, String>, path: &str, right: &[u8], status: u16) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.failed.push(format!("{path}: {error}")),
        };
        if reply.status != status || !reply.is_complete() {
            let (status, broken) = (reply.status, &reply.broken);
            self.failed.push(format!("{path}: {status} {broken:?} {}", short(&reply.text())));
        }
        if (reply.status == 200 || reply.status == 206)
            && (!right.starts_with(&reply.body) || (reply.is_complete() && reply.body != right))
        {
            self.wrong.push(format!("{path}: {} bytes of {}", reply.body.len(), right.len()));
        }
    }

    async fn get(&mut self, client: &Client, path: &str, right: &[u8]) {
        let reply = client.try_get(Version::Http11, path).await;
        self.check(reply, path, right, 200);
    }

    async fn image(&mut self, client: &Client, image: &Image, tag: &str) {
        let path = format!("/v2/{REPOSITORY}/manifests/{tag}");
        self.get(client, &path, &image.manifest.blob.bytes).await;
        for blob in image.blobs() {
            self.get(client, &blob.path(REPOSITORY), &blob.bytes).await;
        }
    }

    async fn range(&mut self, client: &Client, blob: &Blob) {
        let (path, half) = (blob.path(REPOSITORY), blob.len() / 2);
        let range = format!("bytes={half}-");
        let headers = [("range", range.as_str())];
        let reply = client.try_call(Version::Http11, Method::GET, &path, &headers).await;
        self.check(reply, &path, &blob.bytes[half..], 206);
    }

    async fn push(&mut self, client: &Client, blob: &Blob) {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest);
        let post = (Version::Http11, Method::POST);
        let reply = client.try_send(post, &path, &[], blob.bytes.clone()).await;
        self.check(reply, &path, &[], 201);
    }
}

/// Hits that are verified anew, a range, cold pulls by several clients, a push, a list.
pub async fn drive(client: &Client, wanted: &Wanted) -> Complaints {
    let mut complaints = Complaints::default();
    complaints.image(client, &wanted.warm, "warm").await;
    complaints.range(client, &wanted.warm.layers[1]).await;
    let mut second = Complaints::default();
    let cold = &wanted.cold;
    tokio::join!(complaints.image(client, cold, "cold"), second.image(client, cold, "cold"));
    complaints.wrong.append(&mut second.wrong);
    complaints.failed.append(&mut second.failed);
    complaints.push(client, &wanted.pushed).await;
    complaints.get(client, &wanted.pushed.path(REPOSITORY), &wanted.pushed.bytes).await;
    let path = format!("/v2/{REPOSITORY}/tags/list");
    let reply = client.try_get(Version::Http11, &path).await;
    match reply {
        Ok(reply) if reply.status == 200 => {}
        reply => complaints.failed.push(format!("{path}: {:?}", reply.map(|it| it.status))),
    }
    complaints
}

/// All of it once more.
pub async fn pull_all(client: &Client, wanted: &Wanted) -> Complaints {
    let mut complaints = Complaints::default();
    complaints.image(client, &wanted.warm, "warm").await;
    complaints.image(client, &wanted.cold, "cold").await;
    complaints.get(client, &wanted.pushed.path(REPOSITORY), &wanted.pushed.bytes).await;
    complaints
}

fn short(text: &str) -> &str {
    text.get(..200).unwrap_or(text)
}
