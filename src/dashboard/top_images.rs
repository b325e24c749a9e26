//! The images at the top of two lists: by size, and by pulls.
//!
//! A list of all images reads many files, so it is made on the blocking pool, only while a viewer
//! is there, and in pauses that are long for what it takes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::figures::{ByteAmount, TopImage, TopImages};
use crate::inventory::{ImagePattern, ImageRow, list_images};
use crate::store::{Store, blocking};

/// The lists, as they were made last. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct TopImageLists {
    state: Arc<Mutex<ListState>>,
}

#[derive(Debug, Default)]
struct ListState {
    lists: TopImages,
    /// When they are made anew; `None` if they never were.
    due: Option<Instant>,
}

impl TopImageLists {
    /// The lists, and the begin of new ones if these are old. `is_named` says whose images may be
    /// shown.
    pub(super) fn get(
        &self,
        store: &Arc<Store>,
        is_named: impl Fn(&str) -> bool + Clone + Send + 'static,
    ) -> TopImages {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.due.is_none_or(|due| due <= now) {
            // Until these are there.
            state.due = Some(now + LISTING_MAX);
            let (lists, store, is_named) = (self.clone(), Arc::clone(store), is_named.clone());
            tokio::spawn(async move {
                let read = blocking(move || read(&store, is_named)).await;
                let read = read.inspect_err(|error| {
                    tracing::debug!(%error, "cannot list the images for the page");
                });
                lists.put(read.unwrap_or_default(), now.elapsed());
            });
        }
        // The configuration may be another one since.
        let mut lists = state.lists.clone();
        lists.biggest.retain(|image| is_named(&image.registry));
        lists.most_pulled.retain(|image| is_named(&image.registry));
        lists
    }

    fn put(&self, lists: TopImages, took: Duration) {
        let due = Some(Instant::now() + LISTS_KEPT_MIN.max(took * PAUSE_TIMES));
        *self.state.lock() = ListState { lists, due };
    }
}

fn read(store: &Store, is_named: impl Fn(&str) -> bool) -> std::io::Result<TopImages> {
    let mut lists = TopImages::default();
    list_images(&store.view()?, &ImagePattern::default(), &mut |row| {
        if is_named(&row.registry) {
            lists.listed += 1;
            add(&mut lists.biggest, &row, |image| image.size.0);
            add(&mut lists.most_pulled, &row, |image| image.pulls);
        }
        lists.listed < LISTED_MAX
    })?;
    lists.most_pulled.retain(|image| image.pulls > 0);
    Ok(lists)
}

/// Puts an image into a list that is ordered by `key`, if it belongs to its top.
fn add(list: &mut Vec<TopImage>, row: &ImageRow, key: impl Fn(&TopImage) -> u64) {
    let image = TopImage {
        registry: row.registry.clone(),
        name: row.name.clone(),
        size: ByteAmount(row.stored),
        pulls: row.pulls,
        is_complete: row.is_complete,
        last_pull: row.last_pull,
    };
    let place = list.partition_point(|other| key(other) >= key(&image));
    if place < TOP_MAX {
        list.insert(place, image);
        list.truncate(TOP_MAX);
    }
}

/// Images of one list.
const TOP_MAX: usize = 10;

/// Images that are looked at for the lists.
const LISTED_MAX: u64 = 10_000;

/// The time for which lists are kept, at least.
const LISTS_KEPT_MIN: Duration = Duration::from_secs(10);

/// Lists are kept at least so many times as long as it took to make them: the disk has other work.
const PAUSE_TIMES: u32 = 50;

/// The time after which lists that never came are given up.
const LISTING_MAX: Duration = Duration::from_secs(3600);
