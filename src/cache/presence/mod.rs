//! Which digests a repository has, as far as the cache knows.
//!
//! Knowing a digest is no right to it. Content is served in a repository only if the upstream put
//! it there: by naming it in a manifest that is held for the repository, or by answering 200 for
//! it.
//!
//! To report existence to a client that may push takes more. A client that is told that a
//! repository has a blob does not upload it, and its manifest is refused if that was wrong. So the
//! registry itself, not a mirror of it, must have said so within `membership_ttl`.

mod holders;
mod lookup;
mod table;

pub(super) use lookup::BlobLookup;
pub(super) use table::{Presence, PresenceTable};
