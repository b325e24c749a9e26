//! From a request to one use of the cache, and from its result to an answer.

mod answer;
mod blobs;
mod door;
mod entrance;
mod lists;
mod log;
mod manifests;
mod reply;

pub use answer::Routes;
pub use entrance::Entrance;
pub use log::LoggedBody;
