//! The way out, which all upstreams share.

use std::sync::Arc;

use super::{InstanceId, Network};

/// The way out.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Resolves names and connects.
    pub network: Arc<dyn Network>,
    /// Who we are to other instances of Larder.
    pub instance: InstanceId,
}

impl Egress {
    /// Directly over this network.
    pub fn direct(network: Arc<dyn Network>, instance: InstanceId) -> Self {
        Self { network, instance }
    }
}
