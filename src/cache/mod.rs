//! Pull-through: hit, miss, stale, revalidate; one fetch per missing thing.

mod options;

pub use options::Options;
