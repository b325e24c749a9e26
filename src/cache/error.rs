//! Why a pull cannot be answered.
//!
//! The status and message for the client are decided in `routes/error.rs`, in one match. The type
//! is `Clone` because one fault is often the answer to many clients.

use std::time::Duration;

use bytes::Bytes;

use super::Decision;
use crate::access::Grant;
use crate::oci::{Digest, InvalidManifest, MediaType, RegistryName, RepositoryName};
use crate::upstream;

/// Why a pull cannot be answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The upstream said, a while ago, that there is no such thing.
    #[error("{host} does not have it")]
    Absent {
        /// The registry that said so.
        host: String,
        /// The error that it said so with, where that is worth telling.
        said: Option<Bytes>,
        /// How it comes that it was not asked now.
        decision: Decision,
        /// How long ago it said so.
        age: Duration,
    },
    /// The upstream sent bytes, but not the ones that were asked for.
    #[error("{host} sent wrong bytes for {digest}: {reason}")]
    Corrupt {
        /// The registry that sent them.
        host: String,
        /// The digest that was asked for.
        digest: Digest,
        /// The fault in the bytes.
        reason: String,
    },
    /// The fault is ours.
    #[error("internal fault: {0}")]
    Internal(&'static str),
    /// The upstream's manifest is none that could be cached.
    #[error("{host} sent no usable manifest: {reason}")]
    Manifest {
        /// The registry that sent it.
        host: String,
        /// Why it is none.
        reason: ManifestFault,
    },
    /// A length is needed, the upstream states none, and there is no room to find it out.
    #[error("{host} states no `Content-Length`, and the disk has no space to find it out")]
    NoLength {
        /// The registry that states none.
        host: String,
    },
    /// It is not in the cache, and the operator has the cache alone answer.
    #[error(
        "{registry} is offline here (`offline = true`), and the cache does not have it: pull from \
         {registry}/{repository} where the registry is reached, `larder export` the image there \
         and `larder import` it here"
    )]
    Offline {
        /// The registry, by its name.
        registry: RegistryName,
        /// The repository.
        repository: RepositoryName,
    },
    /// The answer did not come in time, for whatever reason.
    #[error("{host} did not answer within {} s", waited.as_secs())]
    TimedOut {
        /// The registry that was waited for.
        host: String,
        /// For how long.
        waited: Duration,
    },
    /// The upstream gave no usable answer.
    #[error(transparent)]
    Upstream(#[from] upstream::UpstreamError),
}

/// The fault of a manifest.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// It can be read two ways, or not at all.
    #[error(transparent)]
    Invalid(#[from] InvalidManifest),
    /// It is longer than 4 MiB.
    #[error("it is longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// The header and the body name two different kinds.
    #[error("its header says {header} and its body {body}")]
    TwoTypes {
        /// `Content-Type`.
        header: MediaType,
        /// `mediaType`.
        body: MediaType,
    },
    /// Neither the header nor the body says which kind it is.
    #[error("neither its header nor its body says which kind it is")]
    Untyped,
}

impl CacheError {
    /// The error of a record that says that something is absent.
    pub(super) fn absent(
        grant: &Grant,
        said: Option<Bytes>,
        decision: Decision,
        age: Duration,
    ) -> Self {
        let host = grant.registry().upstream().host().to_owned();
        Self::Absent { host, said, decision, age }
    }

    /// Refuses to ask the upstream of a registry that is offline.
    pub(super) fn if_offline(grant: &Grant) -> Result<(), Self> {
        if grant.registry().is_offline() {
            let registry = grant.registry().name().clone();
            return Err(Self::Offline { registry, repository: grant.repository().clone() });
        }
        Ok(())
    }

    /// Whether an upstream said that it does not have what was asked for.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Upstream(upstream::UpstreamError::NotFound { .. }))
    }

    /// Whether a shared question may have failed for a reason that lies with the client that began
    /// it, and another client might get another answer.
    pub(super) fn is_of_another_client(&self, grant: &Grant) -> bool {
        grant.uses_client_credential()
            && matches!(self, Self::Upstream(error) if error.is_about_the_asker())
    }

    /// Whether the upstream refuses this very client, which asks with a credential of its own. Then
    /// nothing that is cached is for it, and nothing is said of what is cached.
    pub(super) fn refuses(&self, grant: &Grant) -> bool {
        let is_refusal = matches!(
            self,
            Self::Upstream(
                upstream::UpstreamError::CredentialRefused { .. }
                    | upstream::UpstreamError::Denied { .. }
            )
        );
        grant.uses_client_credential() && is_refusal
    }

    /// Whether this is the upstream's answer about this very repository, which is obeyed, and
    /// not an outage, which what is cached survives.
    pub fn is_an_answer(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.is_an_answer())
    }
}
