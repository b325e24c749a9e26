//! The tags that clients pull often, and the images that they name in the cache.
//!
//! It decides from the log of pulls which tags those are. A pull is defined in
//! `control/pull_recorder.rs`; their images are fetched in `control/warm_schedule.rs`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::time::SystemTime;

use super::name::ImageName;
use super::pulls::list_pulls;
use super::warm_options::{ImageSelection, PullThreshold};
use crate::oci::Digest;
use crate::store::StoreView;

/// The tags among `images` that were pulled often enough, the most pulled first, each with the
/// digest that the cache has for it. Without `images` any tag counts. Blocks.
///
/// # Errors
///
/// Those of the file system.
pub fn often_pulled(
    view: &StoreView,
    images: &[ImageSelection],
    PullThreshold { pulls, within }: PullThreshold,
    now: SystemTime,
) -> io::Result<Vec<(ImageName, Digest)>> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for pull in list_pulls(view)?.into_iter().filter(|pull| pull.at.age(now) <= within) {
        *counts.entry(pull.name).or_default() += 1;
    }
    let mut often: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= pulls).collect();
    often.sort_unstable_by(|(a, a_count), (b, b_count)| {
        (Reverse(a_count), a).cmp(&(Reverse(b_count), b))
    });
    let names = often.iter().filter_map(|(name, _)| name.parse::<ImageName>().ok());
    let is_meant = |name: &ImageName| images.is_empty() || images.iter().any(|it| it.matches(name));
    let held = |name: ImageName| digest(view, &name).map(|digest| (name, digest));
    Ok(names.filter(is_meant).filter_map(held).collect())
}

/// The digest that the cache has for a tag; `None` too for an image without a tag.
fn digest(view: &StoreView, name: &ImageName) -> Option<Digest> {
    let repository = view.repository(&name.registry, &name.repository)?;
    repository.named_tag(name.tag()?).map(|tag| tag.digest)
}
