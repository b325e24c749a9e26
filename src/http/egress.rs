//! The way out, which all upstreams share.

use std::sync::Arc;

use super::Network;

/// The way out.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Resolves names and connects.
    pub network: Arc<dyn Network>,
}

impl Egress {
    /// Directly over this network.
    pub fn direct(network: Arc<dyn Network>) -> Self {
        Self { network }
    }
}
