//! Images that leave one cache and come into another one, which has no upstream.

mod round_trip;
mod two_sides;
