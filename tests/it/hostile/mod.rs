//! Hostile input, by the rows of `tests/lists/hostile.tsv`. Rows of features stand with their
//! feature.

mod answers;
mod browser;
mod documents;
mod h2;
mod h2_answers;
mod headers;
mod leavers;
mod memory;
mod names;
mod portals;
mod queries;
mod quiet;
mod site;
mod slow_pushes;
mod smuggling;
mod streams;
mod tenants;
