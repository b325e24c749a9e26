//! Images that real clients push through Larder arrive in real registries, and are in the cache at
//! once.

mod azure_registry;
mod claims;
mod clouds;
mod every_client;
mod more;
mod regions;
mod sessions;
mod tags;
mod tenants;
mod thrift;

use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::client::Client as _;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{Guard, Registry};
use crate::support::way::Way;
use crate::support::work::Work;

/// A registry with nothing in it, which takes what it is sent.
fn empty(work: &Work, guard: &Guard<'_>) -> Registry {
    Registry::guarded(&work.new_dir("storage"), work, guard)
}

/// Docker Hub's mirror by all doors, which takes pushes; `keys` are further lines of the
/// registry's.
fn open(work: &Work, upstream: &Registry, keys: &str) -> Larder {
    Setup { pushes: true, registry_keys: keys, ..Setup::new(work, &upstream.url()) }.start()
}

fn crane(work: &Work) -> OneShot {
    OneShot::new(work, one_shot::crane).pushing(one_shot::crane_push)
}

fn push_with_crane(work: &Work, way: &Way<'_>, built: &Built, repository: &str) {
    crane(work).push(way, built, repository).expect("crane pushes");
}

/// The image as it is in a registry that wants no login; panics unless it is complete.
fn arrived(work: &Work, upstream: &Registry, built: &Built, repository: &str) -> Image {
    let url = upstream.url();
    Reader { work, registry: &url, login: None }.image(repository, built)
}

/// The repository of the images.
const REPOSITORY: &str = "library/app";
