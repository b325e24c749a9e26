//! An archive comes into the store.
//!
//! First all of it is read, and its contents are stored as they are verified: without a membership
//! no client gets one. Then its images are found and checked, all before the first is applied.
//! Records come last: the manifests of an image, each behind those that it lists, and then its tag.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::time::SystemTime;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::BundleError;
use super::archive::{ArchiveEntry, EntryContent, each_entry};
use super::bundle_image::{BundleImage, ImportWishes, NamelessManifest};
use super::content_intake::{ContentIntake, IncomingFile};
use super::docker_archive::{DOCKER_FILE, LooseFile, LooseFiles};
use super::entry_role::EntryRole;
use super::image_check::{CheckedManifest, ImageCheck};
use super::layout_index::LayoutIndex;
use super::registry_tree::RegistryTree;
use crate::oci::{Digest, MANIFEST_BYTES_MAX};
use crate::store::{TagRecord, VerifiedContent};

/// An import under way. Its methods block, and not on a thread of the runtime.
pub(super) struct BundleImport {
    intake: ContentIntake,
    wishes: ImportWishes,
    seen: HashSet<String>,
    arrived: HashSet<Digest>,
    layout_index: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    /// Whether the index is known to be signed, or needs not be.
    is_trusted: bool,
    docker_index: Option<Vec<u8>>,
    loose: LooseFiles,
    tree: RegistryTree,
}

/// An image of a tree that is not complete.
pub(super) type LeftOut = (BundleImage, BundleError);

/// The images of which all is stored, with their manifests, and those of which it is not.
#[derive(Default)]
struct CheckedImages {
    complete: Vec<(BundleImage, Vec<CheckedManifest>)>,
    left_out: Vec<LeftOut>,
}

/// The images that were taken, and those that were not.
#[derive(Debug, Default)]
pub(super) struct ImportOutcome {
    pub(super) images: Vec<BundleImage>,
    pub(super) left_out: Vec<LeftOut>,
}

impl BundleImport {
    pub(super) fn new(intake: ContentIntake, wishes: ImportWishes) -> Self {
        Self {
            intake,
            wishes,
            seen: HashSet::new(),
            arrived: HashSet::new(),
            layout_index: None,
            signature: None,
            is_trusted: false,
            docker_index: None,
            loose: LooseFiles::default(),
            tree: RegistryTree::default(),
        }
    }

    /// Takes an archive, which may be compressed by gzip, as the upstreams had it at `at`.
    pub(super) fn run(
        mut self,
        archive: impl Read,
        at: SystemTime,
    ) -> Result<ImportOutcome, BundleError> {
        let mut archive = BufReader::with_capacity(READ_BYTES, archive);
        let start = archive.fill_buf().map_err(BundleError::Unreadable)?;
        let is_gzip = start.starts_with(&GZIP);
        let mut take = |entry: ArchiveEntry<'_>| self.take(entry);
        if is_gzip {
            each_entry(MultiGzDecoder::new(archive), &mut take)?;
        } else {
            each_entry(archive, &mut take)?;
        }
        self.check_signature()?;
        let CheckedImages { complete, left_out } = self.check(self.images()?)?;
        if complete.is_empty() && left_out.is_empty() {
            return Err(BundleError::Empty);
        }
        for (image, manifests) in &complete {
            self.apply(image, manifests, at)?;
        }
        let images = complete.into_iter().map(|(image, _)| image).collect();
        Ok(ImportOutcome { images, left_out })
    }

    fn take(&mut self, entry: ArchiveEntry<'_>) -> Result<(), BundleError> {
        let ArchiveEntry { name, content } = entry;
        let role = EntryRole::of(&name)?;
        if self.seen.len() == ENTRIES_MAX {
            return Err(BundleError::TooMany(ENTRIES_MAX));
        }
        if role != EntryRole::Ignored && !self.seen.insert(name.clone()) {
            return Err(BundleError::Duplicate(name));
        }
        if role.is_taken() {
            self.check_signature()?;
        }
        match content {
            EntryContent::File(len, bytes) => {
                self.take_file(role, IncomingFile { name: &name, len, bytes })
            }
            EntryContent::Link(target) => self.loose.add_link(&name, &target),
        }
    }

    /// With keys, nothing of an archive is stored before its signature is verified.
    fn check_signature(&mut self) -> Result<(), BundleError> {
        let keys = &self.wishes.keys;
        if self.is_trusted || keys.is_empty() {
            return Ok(());
        }
        let (Some(index), Some(signature)) = (&self.layout_index, &self.signature) else {
            return Err(BundleError::Unsigned);
        };
        if !keys.iter().any(|key| key.has_signed(index, signature)) {
            return Err(BundleError::WrongSignature);
        }
        self.is_trusted = true;
        Ok(())
    }

    fn take_file(&mut self, role: EntryRole, file: IncomingFile<'_>) -> Result<(), BundleError> {
        match role {
            EntryRole::LayoutIndex => self.layout_index = Some(whole(file, INDEX_BYTES_MAX)?),
            EntryRole::IndexSignature => {
                self.signature = Some(whole(file, SIGNATURE_BYTES_MAX)?);
            }
            EntryRole::DockerIndex => self.docker_index = Some(whole(file, INDEX_BYTES_MAX)?),
            EntryRole::Content(digest) => {
                self.intake.put(file, &digest)?;
                self.arrived.insert(digest);
            }
            EntryRole::Loose => {
                let name = file.name.to_owned();
                let len = file.len;
                let digest = self.intake.put_unnamed(file)?;
                self.arrived.insert(digest.clone());
                self.loose.add(&name, LooseFile { digest, len });
            }
            EntryRole::TreeTag(repository, tag) => {
                let name = file.name.to_owned();
                let bytes = whole(file, LINK_BYTES_MAX)?;
                self.tree.add_tag(&name, repository, tag, &bytes)?;
            }
            EntryRole::TreeManifest(repository, digest) => {
                self.tree.add_manifest(repository, digest);
            }
            EntryRole::LayoutVersion | EntryRole::Ignored => {}
        }
        Ok(())
    }

    /// The images that the archive lists.
    fn images(&self) -> Result<Vec<BundleImage>, BundleError> {
        if let Some(index) = &self.layout_index {
            return LayoutIndex::read(index)?.images(&self.wishes);
        }
        if !self.tree.is_empty() {
            return self.tree.images(&self.wishes);
        }
        let Some(index) = &self.docker_index else { return Err(BundleError::Unknown) };
        let made = self.loose.manifests(index, &|digest| self.config(digest))?;
        let mut images = Vec::new();
        for manifest in &made {
            let bytes = &mut manifest.bytes.as_slice();
            let len = bytes.len() as u64;
            let file = IncomingFile { name: DOCKER_FILE, len, bytes };
            let digest = self.intake.put_unnamed(file)?;
            images.extend(manifest.images(&digest, &self.wishes, made.len())?);
        }
        Ok(images)
    }

    /// The images of which all is stored. Other images of a tree are left out, for a mirror holds
    /// what was pulled; in another archive they are an error.
    fn check(&self, images: Vec<BundleImage>) -> Result<CheckedImages, BundleError> {
        let ContentIntake { store, runtime, .. } = &self.intake;
        let may_be_bare = self.docker_index.is_some();
        let check = ImageCheck { store, runtime, arrived: &self.arrived, may_be_bare };
        let mut found = CheckedImages::default();
        for image in images {
            match check.manifests(&image) {
                Ok(manifests) => found.complete.push((image, manifests)),
                Err(error @ BundleError::Store(_)) => return Err(error),
                Err(error) if self.tree.is_empty() => return Err(error),
                Err(error) => found.left_out.push((image, error)),
            }
        }
        self.attach(&check, &mut found)?;
        Ok(found)
    }

    /// Adds the manifests without a name, each to the repositories of what it refers to.
    fn attach(&self, check: &ImageCheck<'_>, found: &mut CheckedImages) -> Result<(), BundleError> {
        let nameless = self.nameless(check)?;
        let (mut at, mut placed, mut seen) = (0, HashSet::new(), HashSet::new());
        // Those that are added may be referred to in turn.
        while let Some((owner, manifests)) = found.complete.get(at) {
            let subjects = manifests.iter().filter_map(|(digest, _)| nameless.get(digest));
            let attached = subjects.flatten().map(|manifest| manifest.placed_beside(owner));
            for image in attached.collect::<Vec<_>>() {
                placed.insert(image.digest.clone());
                if seen.insert(image.to_string()) && !check.is_bare(&image.digest)? {
                    let manifests = check.manifests(&image)?;
                    found.complete.push((image, manifests));
                }
            }
            at += 1;
        }
        let lost = nameless.values().flatten().find(|manifest| !placed.contains(&manifest.digest));
        match lost {
            // It refers to a platform that was left out.
            Some(_) if check.may_be_bare && !found.complete.is_empty() => Ok(()),
            Some(manifest) => Err(BundleError::Unnamed(manifest.digest.to_string())),
            None => Ok(()),
        }
    }

    /// The manifests without a name, by what they refer to.
    fn nameless(
        &self,
        check: &ImageCheck<'_>,
    ) -> Result<HashMap<Digest, Vec<NamelessManifest>>, BundleError> {
        let Some(index) = &self.layout_index else { return Ok(HashMap::new()) };
        let mut by_subject: HashMap<_, Vec<_>> = HashMap::new();
        for manifest in LayoutIndex::read(index)?.nameless(&self.wishes)? {
            let subject = check.subject(&manifest.digest)?;
            let subject = subject.ok_or_else(|| BundleError::Unnamed(manifest.digest.to_string()));
            by_subject.entry(subject?).or_default().push(manifest);
        }
        Ok(by_subject)
    }

    fn apply(
        &self,
        image: &BundleImage,
        manifests: &[CheckedManifest],
        checked_at: SystemTime,
    ) -> Result<(), BundleError> {
        let ContentIntake { store, runtime, .. } = &self.intake;
        let records = store.repository(&image.registry, &image.repository);
        for (digest, media_type) in manifests {
            let body = self.manifest(image, digest)?;
            let media_type = media_type.clone();
            let put = records.blocking(move |records| records.put_manifest(&media_type, &body));
            runtime.block_on(put).map_err(BundleError::Store)?;
        }
        let tag = image.tag.clone();
        let record =
            TagRecord { digest: Some(image.digest.clone()), checked_at, is_doubtful: false };
        let name = records.blocking(move |records| {
            // Pages that do not have the tag, or the referrer, yet.
            records.drop_lists()?;
            let Some(tag) = tag else { return Ok(()) };
            records.drop_views(&tag)?;
            records.put_tag(&tag, None, &record)
        });
        runtime.block_on(name).map_err(BundleError::Store)
    }

    fn manifest(
        &self,
        image: &BundleImage,
        digest: &Digest,
    ) -> Result<VerifiedContent<Bytes>, BundleError> {
        let ContentIntake { store, runtime, .. } = &self.intake;
        let read = runtime.block_on(store.content().small(digest, MANIFEST_BYTES_MAX as u64));
        let (image, digest) = (image.to_string(), digest.clone());
        read.map_err(BundleError::Store)?.ok_or(BundleError::Evicted { image, digest })
    }

    /// The bytes of a stored configuration.
    fn config(&self, digest: &Digest) -> Result<Vec<u8>, BundleError> {
        let ContentIntake { store, runtime, .. } = &self.intake;
        let read = runtime.block_on(store.content().small(digest, MANIFEST_BYTES_MAX as u64));
        let body = read.map_err(BundleError::Store)?.ok_or_else(|| BundleError::BadIndex {
            name: DOCKER_FILE.to_owned(),
            why: format!("the configuration {digest} is too long, or was evicted"),
        })?;
        Ok(body.content().to_vec())
    }
}

/// A file of at most `max` bytes.
fn whole(file: IncomingFile<'_>, max: u64) -> Result<Vec<u8>, BundleError> {
    let IncomingFile { name, len, bytes } = file;
    if len > max {
        return Err(BundleError::TooLong { name: name.to_owned(), bytes: len, max });
    }
    let mut whole = Vec::new();
    bytes.take(len).read_to_end(&mut whole).map_err(BundleError::Unreadable)?;
    if whole.len() as u64 == len { Ok(whole) } else { Err(BundleError::Cut(name.to_owned())) }
}

/// The files and links of an archive that mean something: their names are held to find doubles.
const ENTRIES_MAX: usize = 1_000_000;

/// A signature has 72 bytes, and in base64 a third more.
const SIGNATURE_BYTES_MAX: u64 = 1024;

/// The list of images: 100,000 of them.
const INDEX_BYTES_MAX: u64 = 32 << 20;

/// A digest and the end of its line.
const LINK_BYTES_MAX: u64 = 1024;

/// Bytes that are read from the archive at once.
const READ_BYTES: usize = 256 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
