//! A source of credentials: a file, a program or a cloud's service.

use std::pin::Pin;
use std::sync::Arc;

use super::error::CredentialError;
use super::issued::IssuedCredential;

/// The credential that a source is about to give.
pub(super) type PendingCredential =
    Pin<Box<dyn Future<Output = Result<IssuedCredential, CredentialError>> + Send>>;

/// Gives the credential of one upstream.
pub(super) trait CredentialSource: Send + Sync {
    /// Its `type` in the configuration.
    fn kind(&self) -> &'static str;

    /// The repositories that share a credential with this one, as a key. Most sources have one
    /// credential for all.
    fn key(&self, _repository: Option<&str>) -> String {
        String::new()
    }

    /// Gets the credential for `repository`, named as the upstream names it, or for none.
    fn fetch(self: Arc<Self>, repository: Option<String>) -> PendingCredential;
}
