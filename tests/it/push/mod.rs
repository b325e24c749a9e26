//! Pushes: what a client pushes to Larder lands in the upstream registry, and nowhere else first.

mod cached;
mod claims;
mod clients;
mod deletes;
mod early;
mod faults;
mod locations;
mod midway;
mod mounts;
mod odd;
mod refusals;
mod sessions;
mod statuses;
mod tokens;
mod uploads;

use bytes::Bytes;
use http::Method;

use crate::support::proxy::files_under;
use crate::support::{Blob, Image, Manifest, Proxy, Reply, ScriptedRegistry, Setup};

/// A proxy before docker.io that takes pushes.
async fn open(hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub).rules.push = true;
    setup.start().await
}

/// The copies of uploads under way that are on disk.
fn copies(proxy: &Proxy) -> usize {
    files_under(&proxy.cache_dir().join("uploads")).len()
}

/// Begins an upload; where it goes on.
async fn begin(proxy: &Proxy, repository: &str) -> String {
    let reply = post(proxy, &format!("/v2/{repository}/blobs/uploads/")).await;
    reply.assert_status(202);
    location(&reply)
}

async fn post(proxy: &Proxy, path: &str) -> Reply {
    proxy.client.send(Method::POST, path, &[], Bytes::new()).await
}

async fn patch(proxy: &Proxy, location: &str, bytes: &[u8]) -> Reply {
    proxy.client.send(Method::PATCH, location, &[], Bytes::copy_from_slice(bytes)).await
}

async fn put(proxy: &Proxy, location: &str, blob: &Blob, bytes: &[u8]) -> Reply {
    let path = with_digest(location, blob);
    proxy.client.send(Method::PUT, &path, &[], Bytes::copy_from_slice(bytes)).await
}

async fn put_manifest(proxy: &Proxy, repository: &str, tag: &str, manifest: &Manifest) -> Reply {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let media_type = [("content-type", manifest.media_type.as_str())];
    proxy.client.send(Method::PUT, &path, &media_type, manifest.blob.bytes.clone()).await
}

/// Pushes a blob as most clients do: all of it in one PATCH, and then an empty PUT.
async fn push_blob(proxy: &Proxy, repository: &str, blob: &Blob) -> Reply {
    let begun = begin(proxy, repository).await;
    let appended = patch(proxy, &begun, &blob.bytes).await;
    appended.assert_status(202);
    put(proxy, &location(&appended), blob, &[]).await
}

/// Pushes an image: its blobs first, as the protocol has it.
async fn push_image(proxy: &Proxy, repository: &str, tag: &str, image: &Image) {
    for blob in image.blobs() {
        push_blob(proxy, repository, blob).await.assert_status(201);
    }
    put_manifest(proxy, repository, tag, &image.manifest).await.assert_status(201);
}

/// The `Location` of an answer: a path, since clients differ in what they make of anything else.
#[track_caller]
fn location(reply: &Reply) -> String {
    let location = reply.header("location").expect("the answer leads on");
    assert!(location.starts_with('/'), "{location}");
    location.to_owned()
}

fn with_digest(location: &str, blob: &Blob) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={}", blob.digest)
}
