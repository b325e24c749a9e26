//! The records by registry and repository, until every caller has [`Store::repository`].

use std::io;
use std::time::SystemTime;

use super::{AbsentRecord, ListRecord, MemberSizes, Store, TagRecord};
use crate::oci::{Digest, MediaType, RegistryName, RepositoryName, Tag};

macro_rules! records {
    ($($name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => { $(
        /// See the method of this name of [`super::RepositoryRecords`]. Blocks.
        pub fn $name(
            &self,
            registry: &RegistryName,
            repository: &RepositoryName,
            $($arg: $type),*
        ) -> io::Result<$output> {
            self.records(registry, repository).$name($($arg),*)
        }
    )* };
}

impl Store {
    /// See [`ListRecord::BODY_BYTES_MAX`].
    pub const LIST_BYTES_MAX: usize = ListRecord::BODY_BYTES_MAX;

    records! {
        tag(tag: &Tag, view: Option<&str>) -> Option<TagRecord>;
        put_tag(tag: &Tag, view: Option<&str>, record: &TagRecord) -> ();
        drop_tag(tag: &Tag, view: Option<&str>) -> ();
        drop_views(tag: &Tag) -> ();
        tags_naming(digest: &Digest) -> Vec<Tag>;
        manifest_type(digest: &Digest) -> Option<MediaType>;
        put_manifest_type(digest: &Digest, media_type: &MediaType) -> ();
        drop_manifest(digest: &Digest) -> ();
        put_member(digest: &Digest, at: SystemTime) -> ();
        drop_members(digests: &[Digest], at: SystemTime) -> ();
        members() -> MemberSizes;
        list(name: &str) -> Option<ListRecord>;
        put_list(name: &str, record: &ListRecord) -> ();
        drop_list(name: &str) -> ();
        drop_lists() -> ();
        absent(name: &str) -> Option<AbsentRecord>;
        put_absent(name: &str, record: &AbsentRecord) -> ();
    }
}
