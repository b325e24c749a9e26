//! Hostile input, row by row.

mod answers;
mod headers;
mod names;
mod queries;
mod smuggling;
