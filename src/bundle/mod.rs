//! Images on their way out of a cache directory and into another one, as an archive.
//!
//! An export is an OCI image layout, which other tools read. An import takes that, an archive of
//! `docker save`, or the storage tree of a registry. Contents are verified on both ways. Images are
//! named only when all that they list is stored, so that an archive that is refused changes nothing
//! that a client can see.

mod archive;
mod bundle_image;
mod content_intake;
mod docker_archive;
mod entry_role;
mod error;
mod export;
mod image_check;
mod import;
mod import_job;
mod layout_index;
mod packed_dir;
mod registry_tree;
mod signature;

pub use bundle_image::ImportWishes;
pub use error::BundleError;
pub use export::{ExportPlan, ExportedImage, HeldContents};
pub use import_job::{ImportJob, ImportUpdate, LeftOutImage};
pub use packed_dir::PackedDir;
pub use signature::{BundleKey, BundleKeyError, BundleSigner};
