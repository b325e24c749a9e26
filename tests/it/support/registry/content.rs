//! The content of a registry, and honest answers about it.

use std::collections::HashMap;

use bytes::Bytes;

use super::asked::Asked;

/// Repositories by name.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) repositories: HashMap<String, Repository>,
    /// The target of redirects of blobs: a base URL of a host that this registry also answers for.
    pub(super) cdn: Option<String>,
    /// Whether a manifest by digest is refused to an `Accept` that does not name its type.
    pub(super) is_strict_about_accept: bool,
    /// Whether lists of tags are answered.
    pub(super) knows_lists: bool,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: HashMap<String, Bytes>,
    /// By digest.
    pub(super) manifests: HashMap<String, Entity>,
    /// The digests that a tag may mean; the first that the `Accept` takes is meant.
    pub(super) tags: HashMap<String, Vec<String>>,
    /// The status that every request for it is answered with.
    pub(super) refuses: Option<u16>,
}

/// Something that can be served.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) bytes: Bytes,
    pub(super) digest: String,
    pub(super) media_type: String,
}

/// The target of a path.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Blob {
        repository: &'a str,
        digest: &'a str,
    },
    Cdn {
        repository: &'a str,
        digest: &'a str,
    },
    Manifest {
        repository: &'a str,
        reference: &'a str,
    },
    Ping,
    Tags {
        repository: &'a str,
    },
    Token,
    Unknown,
    /// Without an id, where uploads begin.
    Upload {
        repository: &'a str,
        id: &'a str,
    },
}

impl<'a> Target<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        if path == "/v2/" || path == "/v2" {
            return Self::Ping;
        }
        if path == "/token" {
            return Self::Token;
        }
        let parts = |rest: &'a str, kind| rest.rsplit_once(kind);
        if let Some((repository, digest)) =
            path.strip_prefix("/cdn/").and_then(|rest| parts(rest, "/"))
        {
            return Self::Cdn { repository, digest };
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Unknown };
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags { repository };
        }
        if let Some((repository, id)) = parts(rest, "/blobs/uploads/") {
            return Self::Upload { repository, id };
        }
        if let Some((repository, digest)) = parts(rest, "/blobs/") {
            return Self::Blob { repository, digest };
        }
        if let Some((repository, reference)) = parts(rest, "/manifests/") {
            return Self::Manifest { repository, reference };
        }
        Self::Unknown
    }

    pub(super) fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Blob { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Tags { repository }
            | Self::Upload { repository, .. } => Some(repository),
            Self::Cdn { .. } | Self::Ping | Self::Token | Self::Unknown => None,
        }
    }
}

impl Content {
    /// The tags of a repository; `None` if there is none, or lists are off.
    pub(super) fn tags(&self, repository: &str) -> Option<String> {
        let tags = &self.repositories.get(repository).filter(|_| self.knows_lists)?.tags;
        let mut tags: Vec<_> = tags.keys().map(|tag| format!("\"{tag}\"")).collect();
        tags.sort();
        Some(format!(r#"{{"name":"{repository}","tags":[{}]}}"#, tags.join(",")))
    }

    pub(super) fn put_blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.insert(digest.to_owned(), bytes);
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Entity> {
        let bytes = self.repositories.get(repository)?.blobs.get(digest)?.clone();
        let media_type = "application/octet-stream".to_owned();
        Some(Entity { bytes, digest: digest.to_owned(), media_type })
    }

    pub(super) fn manifest(
        &self,
        repository: &str,
        reference: &str,
        asked: &Asked,
    ) -> Option<Entity> {
        let repository = self.repositories.get(repository)?;
        if reference.contains(':') {
            let entity = repository.manifests.get(reference)?;
            let is_refused = self.is_strict_about_accept && !takes(asked, &entity.media_type);
            return (!is_refused).then(|| entity.clone());
        }
        let meanings = repository.tags.get(reference)?;
        let mut manifests = meanings.iter().filter_map(|digest| repository.manifests.get(digest));
        // If there is nothing to choose from, registries do not look at the `Accept`.
        let is_taken = |entity: &&Entity| meanings.len() == 1 || takes(asked, &entity.media_type);
        manifests.find(is_taken).cloned()
    }
}

/// Whether the request's `Accept` takes this type.
fn takes(asked: &Asked, media_type: &str) -> bool {
    let mut lines = asked.headers.iter().filter(|(name, _)| name == "accept").peekable();
    if lines.peek().is_none() {
        return true;
    }
    lines.flat_map(|(_, line)| line.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        range == "*/*" || range == "application/*" || range.eq_ignore_ascii_case(media_type)
    })
}
