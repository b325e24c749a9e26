//! The origin of a blob: its upstreams, their order, and the credential for them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::Grant;
use crate::cache::fetch::reader_credentials::FillReaders;
use crate::cache::question::deadline;
use crate::http::Via;
use crate::oci::{Digest, RepositoryName, Resource};
use crate::upstream::{
    Answer, ClientCredential, Question, ReadMethod, UpstreamError, UpstreamGroup, UpstreamIndex,
};

/// A blob in a repository of a registry, to be asked for as often as need be.
#[derive(Clone, Debug)]
pub(crate) struct BlobOrigin {
    upstream: Arc<UpstreamGroup>,
    repository: RepositoryName,
    digest: Digest,
    via: Via,
    /// The client that began.
    asker: IpAddr,
    /// The upstreams that have failed. They are asked last.
    failed: Vec<UpstreamIndex>,
    /// The readers whose credentials are used; `None` to use Larder's own.
    readers: Option<FillReaders>,
    /// Whether readers of other repositories count too, each in its own.
    takes_any_reader: bool,
}

impl BlobOrigin {
    pub(crate) fn new(grant: &Grant, digest: &Digest, readers: Option<FillReaders>) -> Self {
        Self {
            upstream: Arc::clone(grant.registry().upstream()),
            repository: grant.repository().clone(),
            digest: digest.clone(),
            via: grant.via().clone(),
            asker: grant.address(),
            failed: Vec::new(),
            readers,
            takes_any_reader: false,
        }
    }

    /// Uses the credentials of readers of other repositories too, each in its own.
    pub(crate) fn with_any_reader(self) -> Self {
        Self { takes_any_reader: true, ..self }
    }

    /// Asks all mirrors last, as after one has sent wrong bytes.
    pub(crate) fn with_mirrors_last(self) -> Self {
        Self { failed: self.upstream.mirrors(), ..self }
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The name of an upstream in messages.
    pub(crate) fn host_of(&self, place: UpstreamIndex) -> &str {
        self.upstream.host_of(place)
    }

    /// Asks this upstream last from now on.
    pub(crate) fn fail(&mut self, place: UpstreamIndex) {
        self.failed.push(place);
    }

    pub(crate) fn has_failed(&self, place: UpstreamIndex) -> bool {
        self.failed.contains(&place)
    }

    /// Asks for the bytes from offset `from` up to `until`, or to the end.
    pub(crate) async fn ask(&self, from: u64, until: Option<u64>) -> Result<Answer, UpstreamError> {
        let ask = async |repository: &RepositoryName, client: Option<&ClientCredential>| {
            let resource = Resource::Blob(self.digest.clone());
            let question = Question {
                from,
                until,
                failed: self.failed.clone(),
                client: client.cloned(),
                via: self.via.clone(),
                asker: Some(self.asker),
                ..Question::new(ReadMethod::Get, repository.clone(), resource)
            };
            self.upstream.ask(&question, deadline()).await
        };
        let Some(readers) = &self.readers else { return ask(&self.repository, None).await };
        let only = Some(&self.repository).filter(|_| !self.takes_any_reader);
        let (host, reason) = (self.upstream.host().to_owned(), NO_READER.to_owned());
        let mut last = UpstreamError::Unreachable { host, reason };
        for reader in readers.present(only) {
            match ask(reader.repository(), reader.client()).await {
                Err(error) if error.is_about_the_asker() => {
                    reader.refuse();
                    last = error;
                }
                other => return other,
            }
        }
        Err(last)
    }
}

/// Why the upstream is not asked, where only the credentials of readers may be used.
const NO_READER: &str = "no reader with a valid credential is left";
