//! Images that are fetched ahead, leave one cache and come into another one, which has no upstream.

mod archive;
mod chosen;
mod docker;
mod formats;
mod hostile;
mod import_progress;
mod killed;
mod offline;
mod often_pulled;
mod round_trip;
mod signed;
mod two_sides;
mod warm;
mod warm_progress;
mod warm_schedule;
