//! A question as HTTP: method, URL and the headers that say what is wanted.
//!
//! What says *who* asks (`Authorization`) is added where it is known that the receiver may read
//! it; nothing in here is secret.

use http::header::{ACCEPT, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::backoff::LimitClass;
use super::question::{self, Question};
use super::{ClientCredential, CredentialId};
use crate::http::Via;
use crate::oci::{Reference, RepositoryName, Resource};

/// A request to the registry, before anybody is logged in.
pub(super) struct ReadRequest {
    /// GET or HEAD.
    pub(super) method: Method,
    /// Where the registry has it.
    pub(super) url: Url,
    /// The `Accept` header.
    pub(super) accept: Option<HeaderValue>,
    /// How much of it.
    pub(super) span: WantedBytes,
    /// As what registries count it.
    pub(super) class: LimitClass,
    /// For which client; `None` for Larder itself.
    pub(super) who: Option<CredentialId>,
    /// What made us ask came through these.
    pub(super) via: Via,
    /// Whether only the upstream itself can answer. Registries that do not know referrers may
    /// redirect to whatever they stand in front of, which says as much as a 404.
    pub(super) is_local: bool,
}

/// How much of a thing is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedBytes {
    /// Its first byte, to learn its length where HEAD does not work.
    FirstByte,
    /// From this byte on, and up to that one, without it.
    Part(u64, Option<u64>),
    /// All.
    Whole,
}

impl ReadRequest {
    /// The request that asks `question` of the registry at `base`.
    pub(super) fn of(base: &Url, question: &Question) -> Self {
        let (method, span) = match question.method {
            // A range means nothing in a HEAD (RFC 9110, 14.2).
            question::ReadMethod::Head => (Method::HEAD, WantedBytes::Whole),
            question::ReadMethod::Get if question.from == 0 && question.until.is_none() => {
                (Method::GET, WantedBytes::Whole)
            }
            question::ReadMethod::Get => {
                (Method::GET, WantedBytes::Part(question.from, question.until))
            }
        };
        let accept = question.accept.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let is_local = matches!(question.resource, Resource::Referrers(_));
        let (url, class) = (locate(base, question), class_of(question));
        let via = question.via.clone();
        let who = question.client.as_ref().and_then(ClientCredential::tag);
        Self { method, url, accept, span, class, who, via, is_local }
    }

    /// A GET of the first byte of what `question` asks for.
    pub(super) fn first_byte(base: &Url, question: &Question) -> Self {
        Self { method: Method::GET, span: WantedBytes::FirstByte, ..Self::of(base, question) }
    }

    /// `GET /v2/`: is there a registry, and does it take our credential.
    pub(super) fn ping(base: &Url, who: Option<CredentialId>) -> Self {
        let mut url = base.clone();
        url.set_path("/v2/");
        let (method, span, class) = (Method::GET, WantedBytes::Whole, LimitClass::Token);
        let (accept, via) = (None, Via::default());
        Self { method, url, accept, span, class, who, via, is_local: true }
    }

    /// The headers that say what is wanted. They go along to wherever a redirect leads.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(accept) = &self.accept {
            headers.insert(ACCEPT, accept.clone());
        }
        let range = match self.span {
            WantedBytes::FirstByte => Some("bytes=0-0".to_owned()),
            WantedBytes::Part(from, None) => Some(format!("bytes={from}-")),
            WantedBytes::Part(from, Some(until)) => {
                Some(format!("bytes={from}-{}", until.saturating_sub(1)))
            }
            WantedBytes::Whole => None,
        };
        if let Some(range) = range.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(RANGE, range);
        }
        headers
    }
}

impl WantedBytes {
    /// With which byte a 206 has to begin; `None` when there must be none.
    pub(super) fn start(self) -> Option<u64> {
        match self {
            Self::FirstByte => Some(0),
            Self::Part(from, _) => Some(from),
            Self::Whole => None,
        }
    }
}

fn class_of(question: &Question) -> LimitClass {
    match (&question.resource, question.method) {
        (Resource::Blob(_) | Resource::Upload(_), _) => LimitClass::Blob,
        (Resource::Manifest(_), question::ReadMethod::Get) => LimitClass::ManifestGet,
        (Resource::Manifest(_), question::ReadMethod::Head) => LimitClass::ManifestHead,
        (Resource::Referrers(_) | Resource::Tags, _) => LimitClass::List,
    }
}

fn locate(base: &Url, question: &Question) -> Url {
    place(base, &question.repository, &question.resource, &question.query)
}

/// Where the registry at `base` has something. Names, tags and digests hold no character that a
/// path would have to escape.
pub(super) fn place(base: &Url, name: &RepositoryName, resource: &Resource, query: &str) -> Url {
    let path = match resource {
        Resource::Blob(digest) => format!("/v2/{name}/blobs/{digest}"),
        Resource::Manifest(Reference::Digest(digest)) => format!("/v2/{name}/manifests/{digest}"),
        Resource::Manifest(Reference::Tag(tag)) => format!("/v2/{name}/manifests/{tag}"),
        Resource::Referrers(digest) => format!("/v2/{name}/referrers/{digest}"),
        Resource::Tags => format!("/v2/{name}/tags/list"),
        Resource::Upload(_) => format!("/v2/{name}/blobs/uploads/"),
    };
    let mut url = base.clone();
    url.set_path(&path);
    if !query.is_empty() {
        url.set_query(Some(query));
    }
    url
}
