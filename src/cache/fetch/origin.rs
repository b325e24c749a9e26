//! Where a blob can be had: which upstreams, which of them last, and on whose behalf.

use std::sync::Arc;

use crate::access::Grant;
use crate::cache::fetch::reader_credentials::FillReaders;
use crate::cache::question::deadline;
use crate::http::Via;
use crate::oci::{Digest, RepositoryName, Resource};
use crate::upstream::{
    self, Answer, ClientCredential, Question, ReadMethod, UpstreamGroup, UpstreamIndex,
};

/// Where a blob can be had.
#[derive(Clone, Debug)]
pub(crate) struct BlobOrigin {
    upstream: Arc<UpstreamGroup>,
    repository: RepositoryName,
    digest: Digest,
    via: Via,
    /// Which upstreams have failed, and are asked last.
    failed: Vec<UpstreamIndex>,
    /// With whose credentials; `None` for Larder's own.
    readers: Option<FillReaders>,
    /// Whether readers of other repositories will do, too.
    is_of_any_reader: bool,
}

impl BlobOrigin {
    pub(crate) fn new(grant: &Grant, digest: &Digest, readers: Option<FillReaders>) -> Self {
        Self {
            upstream: Arc::clone(grant.registry().upstream()),
            repository: grant.repository().clone(),
            digest: digest.clone(),
            via: grant.via().clone(),
            failed: Vec::new(),
            readers,
            is_of_any_reader: false,
        }
    }

    /// The same, with the credentials of readers of other repositories, too: each in its own.
    pub(crate) fn of_any_reader(self) -> Self {
        Self { is_of_any_reader: true, ..self }
    }

    /// From now on like that.
    pub(crate) fn take_any_reader(&mut self) {
        self.is_of_any_reader = true;
    }

    /// The same, after a mirror gave wrong bytes: all of them are asked last.
    pub(crate) fn without_mirrors(&self) -> Self {
        Self { failed: self.upstream.mirrors(), ..self.clone() }
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What messages call one of its upstreams.
    pub(crate) fn host_of(&self, place: UpstreamIndex) -> &str {
        self.upstream.host_of(place)
    }

    /// Asks this one last from now on.
    pub(crate) fn fail(&mut self, place: UpstreamIndex) {
        self.failed.push(place);
    }

    pub(crate) fn has_failed(&self, place: UpstreamIndex) -> bool {
        self.failed.contains(&place)
    }

    /// Asks for the bytes from `from` on, and up to `until` if nothing behind it is wanted.
    pub(crate) async fn ask(
        &self,
        from: u64,
        until: Option<u64>,
    ) -> Result<Answer, upstream::UpstreamError> {
        let part = (from, until);
        let Some(readers) = &self.readers else {
            return self.ask_as(&self.repository, None, part).await;
        };
        let only = Some(&self.repository).filter(|_| !self.is_of_any_reader);
        let (host, reason) = (self.upstream.host().to_owned(), DESERTED.to_owned());
        let mut last = upstream::UpstreamError::Unreachable { host, reason };
        for reader in readers.present(only) {
            match self.ask_as(reader.repository(), reader.client(), part).await {
                Err(error) if error.is_about_the_asker() => {
                    reader.refuse();
                    last = error;
                }
                other => return other,
            }
        }
        Err(last)
    }

    async fn ask_as(
        &self,
        repository: &RepositoryName,
        client: Option<&ClientCredential>,
        (from, until): (u64, Option<u64>),
    ) -> Result<Answer, upstream::UpstreamError> {
        let resource = Resource::Blob(self.digest.clone());
        let question = Question {
            from,
            until,
            failed: self.failed.clone(),
            client: client.cloned(),
            via: self.via.clone(),
            ..Question::new(ReadMethod::Get, repository.clone(), resource)
        };
        self.upstream.ask(&question, deadline()).await
    }
}

/// Why nothing is asked where only readers' own credentials may be used.
const DESERTED: &str = "nobody who may ask for it reads it any more";
