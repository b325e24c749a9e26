//! Pushes to an honest registry.
//!
//! The location of an upload changes with every answer, and only the last one is good.

use std::collections::HashMap;

use bytes::Bytes;
use larder::oci::{Algorithm, Digest};
use serde_json::Value;

use super::answer::Answer;
use super::asked::Asked;
use super::content::{Content, Entity};

/// The uploads under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    under_way: HashMap<String, Upload>,
    begun: usize,
    /// The begin of locations: empty for relative ones.
    pub(super) base: String,
    /// Whether `OCI-Subject` is answered.
    pub(super) has_referrers: bool,
    /// Whether a mount that names no source is looked for in every repository.
    pub(super) searches: bool,
}

#[derive(Debug, Default)]
struct Upload {
    repository: String,
    bytes: Vec<u8>,
    /// Part of its location.
    state: usize,
}

impl Uploads {
    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn post(
        &mut self,
        content: &mut Content,
        repository: &str,
        asked: &Asked,
    ) -> Answer {
        if let Some(mount) = first(asked, "mount")
            && let Some(blob) = self.source(content, &mount, first(asked, "from"))
        {
            content.put_blob(repository, &mount, blob.bytes);
            return created(&format!("/v2/{repository}/blobs/{mount}"), &mount);
        }
        if let Some(digest) = first(asked, "digest") {
            return commit(content, repository, &digest, asked.body.clone().into());
        }
        self.begun += 1;
        let id = format!("upload-{}", self.begun);
        let repository = repository.to_owned();
        self.under_way.insert(id.clone(), Upload { repository, ..Upload::default() });
        self.goes_on(&id, 202)
    }

    fn source(&self, content: &Content, mount: &str, from: Option<String>) -> Option<Entity> {
        match from {
            Some(from) => content.blob(&from, mount),
            None if self.searches => {
                content.repositories.keys().find_map(|repository| content.blob(repository, mount))
            }
            None => None,
        }
    }

    pub(super) fn with(&mut self, content: &mut Content, id: &str, asked: &Asked) -> Answer {
        let Some(upload) = self.under_way.get_mut(id) else { return unknown() };
        if first(asked, "state") != Some(upload.state.to_string()) {
            return unknown();
        }
        let begins = asked.header("content-range").and_then(|range| range.split_once('-'));
        if begins.is_some_and(|(first, _)| first.parse() != Ok(upload.bytes.len())) {
            let mut answer = self.goes_on(id, 416);
            answer.header("Content-Type", "application/json".to_owned());
            return answer;
        }
        match asked.method.as_str() {
            "GET" => self.goes_on(id, 204),
            "PATCH" => {
                upload.bytes.extend_from_slice(&asked.body);
                self.goes_on(id, 202)
            }
            "PUT" => {
                let Some(digest) = first(asked, "digest") else {
                    return Answer::error(400, "DIGEST_INVALID");
                };
                let Upload { repository, mut bytes, .. } =
                    self.under_way.remove(id).expect("it is there");
                bytes.extend_from_slice(&asked.body);
                commit(content, &repository, &digest, bytes.into())
            }
            "DELETE" => {
                self.under_way.remove(id);
                Answer::empty(204)
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    pub(super) fn put_manifest(
        &self,
        content: &mut Content,
        (repository, reference): (&str, &str),
        asked: &Asked,
    ) -> Answer {
        let bytes = Bytes::from(asked.body.clone());
        let Ok(json) = serde_json::from_slice::<Value>(&bytes) else {
            return Answer::error(400, "MANIFEST_INVALID");
        };
        if let Some(missing) = missing(content, repository, &json) {
            return Answer::error(400, missing);
        }
        let digest = match reference.parse::<Digest>() {
            Ok(claimed) if Digest::of(claimed.algorithm(), &bytes) != claimed => {
                return Answer::error(400, "DIGEST_INVALID");
            }
            Ok(claimed) => claimed.to_string(),
            Err(_) => Digest::of(Algorithm::Sha256, &bytes).to_string(),
        };
        let media_type = asked.header("content-type").unwrap_or("application/json").to_owned();
        let entity = Entity { bytes, digest: digest.clone(), media_type };
        let held = content.repositories.entry(repository.to_owned()).or_default();
        held.manifests.insert(digest.clone(), entity);
        let mut tags = asked.query("tag");
        let mut answer = created(&format!("/v2/{repository}/manifests/{digest}"), &digest);
        if !reference.contains(':') {
            tags.push(reference.to_owned());
        } else if !tags.is_empty() {
            answer.header("OCI-Tag", tags.join(", "));
        }
        for tag in tags {
            held.tags.insert(tag, vec![digest.clone()]);
        }
        if let Some(subject) = json["subject"]["digest"].as_str().filter(|_| self.has_referrers) {
            answer.header("OCI-Subject", subject.to_owned());
        }
        answer
    }

    /// The answer to what has not ended.
    fn goes_on(&mut self, id: &str, status: u16) -> Answer {
        let base = self.base.clone();
        let upload = self.under_way.get_mut(id).expect("it is under way");
        upload.state += 1;
        let mut answer = Answer::empty(status);
        let (repository, state) = (&upload.repository, upload.state);
        let location = format!("{base}/v2/{repository}/blobs/uploads/{id}?state={state}");
        answer.header("Location", location);
        answer.header("Range", format!("0-{}", upload.bytes.len().saturating_sub(1)));
        answer.header("Docker-Upload-UUID", id.to_owned());
        answer.header("Set-Cookie", "upload=s3cr3t".to_owned());
        answer
    }
}

/// DELETE of a blob or a manifest.
pub(super) fn delete(content: &mut Content, repository: &str, what: &str) -> Answer {
    let Some(repository) = content.repositories.get_mut(repository) else {
        return Answer::error(404, "NAME_UNKNOWN");
    };
    let blob = repository.blobs.remove(what).is_some();
    let manifest = repository.manifests.remove(what).is_some();
    let tag = repository.tags.remove(what).is_some();
    repository.tags.retain(|_, meanings| !meanings.iter().any(|digest| digest == what));
    if blob || manifest || tag { Answer::empty(202) } else { Answer::error(404, "BLOB_UNKNOWN") }
}

fn commit(content: &mut Content, repository: &str, digest: &str, bytes: Bytes) -> Answer {
    let claimed = digest.parse::<Digest>().ok();
    if claimed.is_none_or(|claimed| Digest::of(claimed.algorithm(), &bytes) != claimed) {
        return Answer::error(400, "DIGEST_INVALID");
    }
    content.put_blob(repository, digest, bytes);
    created(&format!("/v2/{repository}/blobs/{digest}"), digest)
}

fn created(location: &str, digest: &str) -> Answer {
    let mut answer = Answer::empty(201);
    answer.header("Location", location.to_owned());
    answer.header("Docker-Content-Digest", digest.to_owned());
    answer
}

fn unknown() -> Answer {
    Answer::error(404, "BLOB_UPLOAD_UNKNOWN")
}

/// The error's code if the repository lacks something that a manifest lists.
fn missing(content: &Content, repository: &str, json: &Value) -> Option<&'static str> {
    let held = content.repositories.get(repository);
    let digests = |key: &str| {
        let listed = json[key].as_array().cloned().unwrap_or_default();
        listed.into_iter().filter_map(|it| Some(it["digest"].as_str()?.to_owned()))
    };
    let config = json["config"]["digest"].as_str().map(str::to_owned);
    let mut blobs = config.into_iter().chain(digests("layers"));
    if !blobs.all(|blob| held.is_some_and(|held| held.blobs.contains_key(&blob))) {
        return Some("MANIFEST_BLOB_UNKNOWN");
    }
    let has = |child| held.is_some_and(|held| held.manifests.contains_key(&child));
    if digests("manifests").all(has) { None } else { Some("MANIFEST_UNKNOWN") }
}

fn first(asked: &Asked, name: &str) -> Option<String> {
    asked.query(name).into_iter().next()
}
