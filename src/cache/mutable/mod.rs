//! Records that change: tags and lists, how long they are fresh, and what pushes do to them.

pub(super) mod changes;
mod held_lists;
pub(super) mod list;
pub(super) mod lists;
pub(super) mod revalidate;
pub(super) mod tags;
