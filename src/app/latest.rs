//! A value that is replaced as a whole while others use it.

use std::sync::{Arc, PoisonError, RwLock};

/// The latest of several values. Who has taken one keeps it, whatever comes after.
#[derive(Debug)]
pub(super) struct Latest<T> {
    value: RwLock<Arc<T>>,
}

impl<T> Latest<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: RwLock::new(Arc::new(value)) }
    }

    /// The one that holds now.
    pub(super) fn take(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets this one hold from now on.
    pub(super) fn put(&self, value: T) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}
