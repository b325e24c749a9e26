//! A value that is replaced as a whole while others use it.

use parking_lot::RwLock;
use std::sync::Arc;

/// The latest of several values. A reader keeps the value that it took when a later one is set.
#[derive(Debug)]
pub(super) struct LatestValue<T> {
    value: RwLock<Arc<T>>,
}

impl<T: Default> Default for LatestValue<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> LatestValue<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: RwLock::new(Arc::new(value)) }
    }

    /// The one that holds now.
    pub(super) fn take(&self) -> Arc<T> {
        Arc::clone(&self.value.read())
    }

    /// Lets this one hold from now on.
    pub(super) fn put(&self, value: T) {
        *self.value.write() = Arc::new(value);
    }
}
