//! The records of one repository: tags, manifests held, memberships, lists, and what is absent.
//!
//! Which fact is which record, and in which order records change so that a process that is killed
//! in between knows nothing rather than something wrong. Their form is told in `records.rs`.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::blob_store::BlobStore;
use super::index::IndexRow;
use super::member_log::MemberLog;
use super::record_store::{
    ABSENT_BYTES_MAX, ABSENT_MAX, AppendCondition, LIST_BYTES_MAX, LISTS_MAX, MANIFESTS, MEMBERS,
    PutCondition, RecordName, RecordStore, RecordVersion, TAGS, UNHELD_BYTES_MAX, UNHELD_MAX,
};
use super::records::{
    AbsentRecord, ListRecord, MemberSizes, RECORD_BYTES_MAX, TagRecord, absent_tag,
    media_type_from_bytes, media_type_to_bytes, tag_from_bytes, tag_to_bytes,
};
use super::repository_members::MemberRecord;
use super::vanished_tags;
use super::verify::VerifiedContent;
use crate::clock::BootId;
use crate::oci::{
    Algorithm, Descriptor, Digest, MANIFEST_BYTES_MAX, ManifestFacts, MediaType, Reference,
    RegistryName, RepositoryName, Tag,
};

/// The records of a repository, for work that may block: see [`RepositoryStore::blocking`].
///
/// [`RepositoryStore::blocking`]: super::RepositoryStore::blocking
#[derive(Clone, Debug)]
pub struct RepositoryRecords {
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) registry: RegistryName,
    pub(super) repository: RepositoryName,
    /// The run of the machine.
    pub(super) boot: BootId,
}

/// All methods block. Errors are those of the disk: a record that is damaged is absent.
impl RepositoryRecords {
    /// The registry of the repository.
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// The repository.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The record of a tag, under the full `Accept` list or under a client's own `view`.
    pub fn tag(&self, tag: &Tag, view: Option<&str>) -> io::Result<Option<TagRecord>> {
        let record = self.records.get(&self.folder().tag(tag, view), RECORD_BYTES_MAX)?;
        if let Some(named) = record.and_then(|record| tag_from_bytes(&record.bytes, self.boot)) {
            return Ok(Some(named));
        }
        let absent = self.absent(&absent_tag(tag, view))?;
        Ok(absent.map(|AbsentRecord { checked_at, is_doubtful, .. }| TagRecord {
            digest: None,
            checked_at,
            is_doubtful,
        }))
    }

    /// Keeps what a tag was heard to be, or that there is none.
    pub fn put_tag(&self, tag: &Tag, view: Option<&str>, record: &TagRecord) -> io::Result<()> {
        let absent = absent_tag(tag, view);
        // The outdated record goes first.
        let Some(digest) = &record.digest else {
            self.retire_tag(tag, view)?;
            let TagRecord { checked_at, is_doubtful, .. } = *record;
            let record = AbsentRecord { checked_at, said: None, is_doubtful };
            return self.put_absent(&absent, &record);
        };
        self.drop_absent(&absent)?;
        let bytes = tag_to_bytes(digest, record.checked_at, self.boot)?;
        let name = self.folder().tag(tag, view);
        let is_kept = self.records.put(&name, &bytes, PutCondition::Always)?;
        if is_kept && view.is_none() {
            self.blobs.index().kept(self.tag_row(tag), 0);
        }
        let pins = self.blobs.budget().catalog().pins();
        pins.note_image(&self.registry, &self.repository, &Reference::Tag(tag.clone()));
        self.forget_vanished(tag, view)
    }

    /// Forgets a tag and what it named.
    pub fn drop_tag(&self, tag: &Tag, view: Option<&str>) -> io::Result<()> {
        self.remove_tag(tag, view)?;
        self.forget_vanished(tag, view)?;
        self.drop_absent(&absent_tag(tag, view))
    }

    /// Forgets a tag that the upstream no longer has or shows us; its last digest stays recorded.
    pub fn retire_tag(&self, tag: &Tag, view: Option<&str>) -> io::Result<()> {
        let kept = view.is_none() && vanished_tags::keep(&*self.records, &self.folder(), tag)?;
        self.remove_tag(tag, view)?;
        if kept {
            self.blobs.budget().catalog().note_tag(&self.registry, &self.repository, tag);
        }
        self.drop_absent(&absent_tag(tag, view))
    }

    fn forget_vanished(&self, tag: &Tag, view: Option<&str>) -> io::Result<()> {
        if view.is_none() && vanished_tags::forget(&*self.records, &self.folder(), tag)? {
            self.blobs.budget().catalog().note_tag(&self.registry, &self.repository, tag);
        }
        Ok(())
    }

    /// Forgets what a tag was heard to be under clients' own views.
    pub fn drop_views(&self, tag: &Tag) -> io::Result<()> {
        let folders = self.records.list(&self.folder())?;
        let views = folders.iter().filter_map(|folder| folder.strip_prefix("_tags-"));
        views
            .map(|view| self.folder().tag(tag, Some(view)))
            .try_for_each(|name| self.records.delete(&name))
    }

    /// The tags of the repository that name this manifest, under any view.
    pub fn tags_naming(&self, digest: &Digest) -> io::Result<Vec<Tag>> {
        let mut found = Vec::new();
        for folder in self.records.list(&self.folder())? {
            let is_of_tags = folder == TAGS || folder.starts_with("_tags-");
            if !is_of_tags {
                continue;
            }
            let folder = self.folder().part(&folder);
            for text in self.records.list(&folder)? {
                let record = self.records.get(&folder.part(&text), RECORD_BYTES_MAX)?;
                let read = record.and_then(|record| tag_from_bytes(&record.bytes, self.boot));
                let named = read.and_then(|record| record.digest);
                if named.as_ref() == Some(digest) {
                    found.extend(text.parse::<Tag>().ok());
                }
            }
        }
        Ok(found)
    }

    /// The tags that name a manifest, sorted.
    pub fn tags(&self) -> io::Result<Vec<Tag>> {
        let names = self.records.list(&self.folder().part(TAGS))?;
        let mut tags: Vec<Tag> = names.iter().filter_map(|name| name.parse().ok()).collect();
        tags.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        Ok(tags)
    }

    /// As what a manifest is held for the repository; `None` when it is not.
    pub fn manifest_type(&self, digest: &Digest) -> io::Result<Option<MediaType>> {
        let record = self.records.get(&self.folder().manifest(digest), RECORD_BYTES_MAX)?;
        Ok(record.and_then(|record| media_type_from_bytes(&record.bytes)))
    }

    /// A manifest that is held for the repository, of at most `max` bytes, and its type.
    pub fn manifest(
        &self,
        digest: &Digest,
        max: u64,
    ) -> io::Result<Option<(MediaType, VerifiedContent<Bytes>)>> {
        let Some(media_type) = self.manifest_type(digest)? else { return Ok(None) };
        Ok(self.blobs.small(digest, max)?.map(|body| (media_type, body)))
    }

    /// Holds a manifest for the repository, as what the upstream calls it.
    pub fn put_manifest(
        &self,
        media_type: &MediaType,
        manifest: &VerifiedContent<Bytes>,
    ) -> io::Result<()> {
        // Content before its record: a record without content would be asked for.
        let catalog = self.blobs.budget().catalog();
        let group = catalog.group(&self.registry);
        self.blobs.put_small(manifest, group)?;
        let digest = manifest.digest();
        catalog.note_manifest(digest, manifest.content(), group);
        self.put_manifest_type(digest, media_type)?;
        let reference = Reference::Digest(digest.clone());
        catalog.pins().note_image(&self.registry, &self.repository, &reference);
        Ok(())
    }

    /// Notes that the repository has this manifest, as what the upstream calls it.
    pub fn put_manifest_type(&self, digest: &Digest, media_type: &MediaType) -> io::Result<()> {
        let bytes = media_type_to_bytes(media_type)?;
        if self.records.put(&self.folder().manifest(digest), &bytes, PutCondition::Always)? {
            let row = IndexRow::Manifest(&self.registry, &self.repository, digest);
            self.blobs.index().kept(row, 0);
        }
        Ok(())
    }

    /// Forgets that the repository has this manifest.
    pub fn drop_manifest(&self, digest: &Digest) -> io::Result<()> {
        self.records.delete(&self.folder().manifest(digest))?;
        let row = IndexRow::Manifest(&self.registry, &self.repository, digest);
        self.blobs.index().gone(row);
        Ok(())
    }

    /// Notes that the upstream itself said that the repository has this blob.
    pub fn put_member(&self, digest: &Digest, at: SystemTime) -> io::Result<()> {
        self.append_members(&MemberLog::present_line(digest, at), AppendCondition::IfRoom)
    }

    /// Notes that the upstream itself said that the repository does not have these any more,
    /// whatever its manifests name.
    pub fn drop_members(&self, digests: &[Digest], at: SystemTime) -> io::Result<()> {
        let lines: String = digests.iter().map(|digest| MemberLog::gone_line(digest, at)).collect();
        self.append_members(&lines, AppendCondition::Always)
    }

    fn append_members(&self, lines: &str, condition: AppendCondition) -> io::Result<()> {
        if !self.member_log().append(lines, condition)? {
            return Ok(());
        }
        let named = self.named()?.into_iter().map(|it| it.digest).collect();
        if self.member_log().compact(&named)? {
            return Ok(());
        }
        // Manifests name more that is gone than can be said. Without them nothing has to be.
        self.manifests_held()?.iter().try_for_each(|manifest| self.drop_manifest(manifest))?;
        self.records.delete(&self.member_log().name)
    }

    /// Everything that the repository is known to have: the blobs that the upstream confirmed, and
    /// what its manifests name.
    pub fn members(&self) -> io::Result<MemberSizes> {
        let log = self.member_log().read()?;
        let named = self.named()?.into_iter().filter(|named| !log.gone.contains(&named.digest));
        let confirmed = log.present.iter().map(|digest| (digest.clone(), None));
        Ok(confirmed.chain(named.map(|named| (named.digest, named.size))).collect())
    }

    /// Everything that its manifests name.
    fn named(&self) -> io::Result<Vec<Descriptor>> {
        let held = self.manifests_held()?;
        let named: Vec<_> = held.iter().map(|it| self.descriptors(it)).collect::<Result<_, _>>()?;
        Ok(named.concat())
    }

    /// A manifest that is held for the repository and names the digest.
    pub fn manifest_naming(&self, digest: &Digest) -> io::Result<Option<Digest>> {
        for manifest in self.manifests_held()? {
            if self.descriptors(&manifest)?.iter().any(|named| named.digest == *digest) {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// Everything that a stored manifest names; nothing if it is not stored.
    fn descriptors(&self, manifest: &Digest) -> io::Result<Vec<Descriptor>> {
        let body = self.blobs.small(manifest, MANIFEST_BYTES_MAX as u64)?;
        let facts = body.and_then(|body| ManifestFacts::read(body.content()).ok());
        Ok(facts.map(|facts| facts.descriptors).unwrap_or_default())
    }

    /// The manifests that are held for the repository.
    pub fn manifests_held(&self) -> io::Result<Vec<Digest>> {
        let mut held = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = self.folder().part(MANIFESTS).part(algorithm.as_str());
            let names = self.records.list(&folder)?;
            let digests = names.iter().map(|hex| format!("{}:{hex}", algorithm.as_str()));
            held.extend(digests.filter_map(|digest| digest.parse::<Digest>().ok()));
        }
        Ok(held)
    }

    /// The page of a list. `name` is the list's path in the repository and the page's query.
    pub fn list(&self, name: &str) -> io::Result<Option<ListRecord>> {
        let unheld = (self.unheld_list(name), self.absent_text(name));
        for (record, text) in [(self.lists_name().hashed(name), name.to_owned()), unheld] {
            let record = self.records.get(&record, LIST_BYTES_MAX)?;
            let read = record.and_then(|it| ListRecord::from_bytes(&text, &it.bytes, self.boot));
            if read.is_some() {
                return Ok(read);
            }
        }
        Ok(None)
    }

    /// Keeps a page, over whatever was known by its name.
    pub fn put_list(&self, name: &str, record: &ListRecord) -> io::Result<()> {
        self.drop_absent(name)?;
        self.records.delete(&self.unheld_list(name))?;
        if record.body.len() <= UNHELD_BYTES_MAX && !self.is_held()? {
            let folder = RecordName::unheld_lists(&self.registry);
            let bytes = record.to_bytes(&self.absent_text(name), self.boot)?;
            return self.put_bounded(&folder, &self.unheld_list(name), &bytes, UNHELD_MAX);
        }
        // Fewer remain when a long one is added: about 1 GiB.
        let max = LISTS_MAX / (1 + record.body.len() / (4 << 20));
        let (folder, bytes) = (self.lists_name(), record.to_bytes(name, self.boot)?);
        self.put_bounded(&folder, &folder.hashed(name), &bytes, max)
    }

    /// Whether anything but lists is kept of the repository.
    fn is_held(&self) -> io::Result<bool> {
        let parts = self.records.list(&self.folder())?;
        Ok(parts.iter().any(|part| [TAGS, MANIFESTS, MEMBERS].contains(&part.as_str())))
    }

    /// Forgets a page, and that it was absent.
    pub fn drop_list(&self, name: &str) -> io::Result<()> {
        self.records.delete(&self.lists_name().hashed(name))?;
        self.records.delete(&self.unheld_list(name))?;
        self.drop_absent(name)
    }

    /// Forgets every page of every list of the repository. The only absent page that it finds is
    /// the first page of tags.
    pub fn drop_lists(&self) -> io::Result<()> {
        let folder = self.lists_name();
        for part in self.records.list(&folder)? {
            self.records.delete(&folder.part(&part))?;
        }
        let mut unheld = RecordName::unheld_lists_of(&self.registry, &self.repository);
        unheld.try_for_each(|name| self.records.delete(&name))?;
        self.drop_absent("tags/list")
    }

    /// Whether a tag or list of the repository is known to be absent.
    pub fn absent(&self, what: &str) -> io::Result<Option<AbsentRecord>> {
        let text = self.absent_text(what);
        let name = RecordName::absences(&self.registry).hashed(&text);
        let record = self.records.get(&name, ABSENT_BYTES_MAX)?;
        Ok(record.and_then(|record| AbsentRecord::from_bytes(&text, &record.bytes, self.boot)))
    }

    /// Notes that the repository does not have a tag or list.
    pub fn put_absent(&self, what: &str, record: &AbsentRecord) -> io::Result<()> {
        let text = self.absent_text(what);
        let folder = RecordName::absences(&self.registry);
        let bytes = record.to_bytes(&text, self.boot)?;
        self.put_bounded(&folder, &folder.hashed(&text), &bytes, ABSENT_MAX)
    }

    /// Forgets that a tag or list was absent.
    pub fn drop_absent(&self, what: &str) -> io::Result<()> {
        let folder = RecordName::absences(&self.registry);
        self.records.delete(&folder.hashed(&self.absent_text(what)))
    }

    fn remove_tag(&self, tag: &Tag, view: Option<&str>) -> io::Result<()> {
        self.records.delete(&self.folder().tag(tag, view))?;
        if view.is_none() {
            self.blobs.index().gone(self.tag_row(tag));
        }
        Ok(())
    }

    /// Keeps a record whose name clients choose, in a folder of at most `max`.
    fn put_bounded(
        &self,
        folder: &RecordName,
        name: &RecordName,
        bytes: &[u8],
        max: usize,
    ) -> io::Result<()> {
        let if_new = PutCondition::IfVersion(RecordVersion::ABSENT);
        if self.records.put(name, bytes, if_new)? {
            self.records.trim(folder, max)
        } else {
            self.records.put(name, bytes, PutCondition::Always).map(drop)
        }
    }

    fn folder(&self) -> RecordName {
        RecordName::repository(&self.registry, &self.repository)
    }

    fn lists_name(&self) -> RecordName {
        self.folder().part("_lists")
    }

    fn unheld_list(&self, name: &str) -> RecordName {
        RecordName::unheld_list(&self.registry, &self.repository, name)
    }

    /// The log of the blobs that the upstream said the repository has.
    pub(super) fn member_log(&self) -> MemberRecord<'_> {
        MemberRecord { records: &*self.records, name: self.folder().part(MEMBERS) }
    }

    fn absent_text(&self, what: &str) -> String {
        format!("{} {what}", self.repository)
    }

    fn tag_row<'r>(&'r self, tag: &'r Tag) -> IndexRow<'r> {
        IndexRow::Tag(&self.registry, &self.repository, tag)
    }
}
