//! The few facts that are kept beside the bytes: tags, manifests held, memberships.
//!
//! Each is a small file of its own, replaced whole by a rename, so a reader sees the old or the
//! new. A record that cannot be read is as good as absent: what it said can be asked again.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::blob_store::make_parent;
use super::{AbsentRecord, IndexRow, Store};
use crate::clock::unix_seconds;
use crate::oci::{Digest, ManifestFacts, MediaType, RegistryName, RepositoryName, Tag};

/// What a tag was last heard to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest it named; `None` when there was no such tag.
    pub digest: Option<Digest>,
    /// When the upstream last said so.
    pub checked_at: SystemTime,
}

/// What a repository is known to have: digests, and sizes where a manifest states them.
pub type MemberSizes = HashMap<Digest, Option<u64>>;

/// All methods block and belong on the blocking pool.
impl Store {
    /// The record of a tag, under the full `Accept` list or under a client's own `view`.
    pub fn tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
        view: Option<&str>,
    ) -> io::Result<Option<TagRecord>> {
        let path = self.layout.tag(registry, repository, tag, view);
        let named = read_json::<TagFile>(&path)?.and_then(|file| {
            let digest = Some(file.digest.parse().ok()?);
            Some(TagRecord { digest, checked_at: from_unix_seconds(file.checked_at)? })
        });
        if named.is_some() {
            return Ok(named);
        }
        let absent = self.absent(registry, repository, &absent_tag(tag, view))?;
        Ok(absent.map(|absent| TagRecord { digest: None, checked_at: absent.checked_at }))
    }

    /// Keeps what a tag was heard to be, or that there is none.
    ///
    /// What is no longer so goes first: whoever is stopped in between knows nothing, rather than
    /// something wrong.
    pub fn put_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
        view: Option<&str>,
        record: &TagRecord,
    ) -> io::Result<()> {
        let path = self.layout.tag(registry, repository, tag, view);
        let absent = absent_tag(tag, view);
        let Some(digest) = &record.digest else {
            self.remove_tag(registry, repository, tag, view)?;
            let record = AbsentRecord { checked_at: record.checked_at, said: None };
            return self.put_absent(registry, repository, &absent, &record);
        };
        self.drop_absent(registry, repository, &absent)?;
        let checked_at = unix_seconds(record.checked_at);
        self.write_json(&path, &TagFile { digest: digest.to_string(), checked_at })?;
        if view.is_none() {
            self.shelf.index().kept(IndexRow::Tag(registry, repository, tag), 0);
        }
        Ok(())
    }

    /// Forgets a tag that the upstream no longer has, or no longer shows us.
    pub fn drop_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
        view: Option<&str>,
    ) -> io::Result<()> {
        self.remove_tag(registry, repository, tag, view)?;
        self.drop_absent(registry, repository, &absent_tag(tag, view))
    }

    /// Forgets what a tag was heard to be under clients' own views.
    pub fn drop_views(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> io::Result<()> {
        self.layout
            .views(registry, repository, tag)
            .try_for_each(|path| absent_is_fine(fs::remove_file(path)))
    }

    fn remove_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
        view: Option<&str>,
    ) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.layout.tag(registry, repository, tag, view)))?;
        if view.is_none() {
            self.shelf.index().gone(IndexRow::Tag(registry, repository, tag));
        }
        Ok(())
    }

    /// As what a manifest is held for a repository; `None` when it is not.
    pub fn manifest_type(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<MediaType>> {
        let path = self.layout.manifest(registry, repository, digest);
        Ok(read_json::<ManifestFile>(&path)?.and_then(|file| file.media_type.parse().ok()))
    }

    /// Notes that the repository has this manifest, as what the upstream calls it.
    pub fn put_manifest_type(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
        media_type: &MediaType,
    ) -> io::Result<()> {
        let path = self.layout.manifest(registry, repository, digest);
        self.write_json(&path, &ManifestFile { media_type: media_type.to_string() })?;
        self.shelf.index().kept(IndexRow::Manifest(registry, repository, digest), 0);
        Ok(())
    }

    /// Forgets that the repository has this manifest.
    pub fn drop_manifest(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.layout.manifest(registry, repository, digest)))
    }

    /// The tags of the repository that mean this manifest, to whatever clients.
    pub fn tags_naming(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Vec<Tag>> {
        let mut found = Vec::new();
        for dir in self.layout.tag_dirs(registry, repository)? {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let tag = entry.file_name().to_str().and_then(|name| name.parse().ok());
                let file = read_json::<TagFile>(&entry.path())?;
                if let (Some(tag), Some(file)) = (tag, file)
                    && file.digest == digest.as_str()
                {
                    found.push(tag);
                }
            }
        }
        Ok(found)
    }

    /// Notes that the upstream itself said that the repository has this blob.
    ///
    /// Appended in one write, so that a torn line can only be the last one, which is then ignored.
    pub fn put_member(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
        at: SystemTime,
    ) -> io::Result<()> {
        let line = format!("{digest} {}\n", unix_seconds(at));
        self.append_to_members(registry, repository, &line)
    }

    /// Notes that the upstream itself said that the repository does not have these any more, whatever
    /// its manifests name.
    pub fn drop_members(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digests: &[Digest],
        at: SystemTime,
    ) -> io::Result<()> {
        let at = unix_seconds(at);
        let lines: Vec<_> = digests.iter().map(|digest| format!("!{digest} {at}\n")).collect();
        self.append_to_members(registry, repository, &lines.concat())
    }

    fn append_to_members(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        lines: &str,
    ) -> io::Result<()> {
        let path = self.layout.members(registry, repository);
        make_parent(&path)?;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(path)?;
        file.write_all(lines.as_bytes())
    }

    /// Everything that the repository is known to have: what its manifests name, its manifests
    /// themselves, and what the upstream confirmed otherwise.
    pub fn members(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> io::Result<MemberSizes> {
        let mut members = MemberSizes::new();
        let list = read_small(&self.layout.members(registry, repository), MEMBERS_BYTES_MAX)?;
        let list = String::from_utf8_lossy(list.as_deref().unwrap_or_default()).into_owned();
        let mut gone = HashSet::new();
        for line in list.lines() {
            let text = line.split(' ').next().unwrap_or_default();
            let (is_gone, text) = text.strip_prefix('!').map_or((false, text), |it| (true, it));
            let Ok(digest) = text.parse::<Digest>() else { continue };
            if is_gone {
                members.remove(&digest);
                gone.insert(digest);
            } else {
                gone.remove(&digest);
                members.insert(digest, None);
            }
        }
        for digest in self.manifests_held(registry, repository)? {
            let body = self.small(&digest, MANIFEST_BYTES_MAX)?;
            let facts = body.and_then(|body| ManifestFacts::read(body.content()).ok());
            let named = facts.into_iter().flat_map(|facts| facts.descriptors);
            for descriptor in named.filter(|descriptor| !gone.contains(&descriptor.digest)) {
                members.insert(descriptor.digest, descriptor.size);
            }
        }
        Ok(members)
    }

    fn manifests_held(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> io::Result<Vec<Digest>> {
        let mut held = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.layout.manifests(registry, repository).join(algorithm);
            let entries = match fs::read_dir(dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let name = entry?.file_name();
                let digest = format!("{algorithm}:{}", name.to_string_lossy());
                held.extend(digest.parse::<Digest>().ok());
            }
        }
        Ok(held)
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        self.write_record(path, &[&serde_json::to_vec(value)?])
    }

    /// Replaces a small file whole.
    pub(super) fn write_record(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        make_parent(path)?;
        let (mut file, draft) = self.shelf.draft()?;
        for part in parts {
            file.write_all(part)?;
        }
        // Offline nothing can be asked again, so what is kept here must survive a power cut.
        rustix::fs::fdatasync(&file)?;
        fs::rename(draft, path)
    }
}

#[derive(Serialize, Deserialize)]
struct TagFile {
    digest: String,
    /// Seconds since 1970.
    checked_at: u64,
}

#[derive(Serialize, Deserialize)]
struct ManifestFile {
    media_type: String,
}

/// A list longer than this is read up to here: half a million blobs in one repository.
const MEMBERS_BYTES_MAX: u64 = 64 << 20;

/// Manifests are refused above this size, see `cache/manifests.rs`.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Records are a few hundred bytes.
const RECORD_BYTES_MAX: u64 = 64 << 10;

#[expect(clippy::cast_possible_wrap, reason = "open flags are bits, whatever the sign")]
const NOFOLLOW: i32 = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).bits() as i32;

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    let bytes = read_small(path, RECORD_BYTES_MAX)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The file's first `max` bytes; `None` when there is no such file.
pub(super) fn read_small(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let open = OpenOptions::new().read(true).custom_flags(NOFOLLOW | NONBLOCK).open(path);
    let file: File = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// A FIFO in our place must not block us.
#[expect(clippy::cast_possible_wrap, reason = "open flags are bits, whatever the sign")]
const NONBLOCK: i32 = OFlags::NONBLOCK.bits() as i32;

/// What the absence of a tag is called, see `absent.rs`.
fn absent_tag(tag: &Tag, view: Option<&str>) -> String {
    match view {
        None => format!("manifests/{tag}"),
        Some(view) => format!("manifests/{tag} {view}"),
    }
}

pub(super) fn from_unix_seconds(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
