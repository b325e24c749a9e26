//! Hostile input, row by row.

mod answers;
mod names;
