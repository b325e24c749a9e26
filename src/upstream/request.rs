//! A request as HTTP: method, URL, and the headers that describe what is wanted or sent.
//!
//! The credential (`Authorization`) is added where it is known that the receiver may read it;
//! nothing in here but the URL of an upload is secret.

use http::header::{ACCEPT, CONTENT_LENGTH, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use url::Url;

use super::backoff::LimitClass;
use super::base::RegistryBase;
use super::change::{ChangeCall, ChangeTarget};
use super::identity::CredentialId;
use super::question::{Question, ReadMethod};
use super::redirect::RedirectPolicy;
use super::scope::TokenScope;
use super::written::with_arguments;
use crate::http::Via;
use crate::oci::Resource;

/// A request to an upstream, before a credential is added. Its body travels beside it.
#[derive(Clone)]
pub(super) struct UpstreamRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The path and query as a `Location` had them, to be sent in place of the URL's.
    pub(super) target: Option<PathAndQuery>,
    /// They describe what is wanted or sent, and go along to wherever a redirect leads.
    pub(super) headers: HeaderMap,
    /// With which byte a 206 has to begin; `None` where a 206 is no answer.
    pub(super) range_start: Option<u64>,
    /// Whether a 204 is an answer: it is about the blob of no bytes.
    pub(super) is_of_nothing: bool,
    /// As what registries count it.
    pub(super) class: LimitClass,
    pub(super) purpose: CallPurpose,
    pub(super) redirects: RedirectPolicy,
    /// The scope that a token for it is asked for, and the client.
    pub(super) scope: TokenScope,
    /// The instances of Larder that a client's request came through.
    pub(super) via: Via,
}

/// Why a host is called, and so which key of the configuration would exempt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallPurpose {
    /// To find out whether the host is back, while no client asks.
    Probe,
    /// A redirect, or the location of an upload, pointed there: no credential goes along.
    Redirect,
    /// It is the upstream.
    Registry,
    /// It issues tokens.
    Token,
}

impl CallPurpose {
    /// Its name in traces.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Redirect => "redirect",
            Self::Registry => "registry",
            Self::Token => "token",
        }
    }

    /// Why an address that is not public is not called, and what would allow it.
    pub(super) fn refusal(self) -> &'static str {
        match self {
            Self::Redirect => "its address is not public; `redirect_hosts` would allow it",
            Self::Probe | Self::Registry => "its address is not public",
            Self::Token => "its address is not public; `token_hosts` would allow it",
        }
    }
}

impl UpstreamRequest {
    /// The request that asks `question` of the registry at `base`.
    pub(super) fn of_question(base: &RegistryBase, question: &Question) -> Self {
        let url = base.url_of(&question.repository, &question.resource, &question.query);
        let name = base.name_of(&question.repository);
        let scope = TokenScope::pull(&name).of(question.client.clone()).asked_by(question.asker);
        let mut request = Self {
            is_of_nothing: matches!(&question.resource, Resource::Blob(it) if it.is_of_nothing()),
            class: class_of(question),
            via: question.via.clone(),
            ..Self::get(url, scope)
        };
        request.scope.need.since = question.token_since;
        if question.method == ReadMethod::Head {
            request.method = Method::HEAD;
        }
        let accept = question.accept.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        request.headers.extend(accept.map(|accept| (ACCEPT, accept)));
        // A range means nothing in a HEAD (RFC 9110, 14.2).
        let is_part = question.from != 0 || question.until.is_some();
        if is_part && question.method == ReadMethod::Get {
            request.set_range(question.from, question.until);
        }
        if matches!(question.resource, Resource::Referrers(_)) {
            request.redirects = RedirectPolicy::SameHost;
        }
        request
    }

    /// A GET of the first byte of what `question` asks for, to learn its length where HEAD does not
    /// work.
    pub(super) fn of_first_byte(base: &RegistryBase, question: &Question) -> Self {
        let mut request = Self::of_question(base, question);
        request.method = Method::GET;
        request.set_range(0, Some(1));
        request
    }

    /// The request that makes a change at the registry at `base`.
    pub(super) fn of_change(base: &RegistryBase, change: &ChangeCall) -> Self {
        let repository = &change.repository;
        let (mut url, target) = match &change.target {
            ChangeTarget::Resource(resource) => (base.url_of(repository, resource, ""), None),
            ChangeTarget::Upload(location) => (location.url().clone(), location.target()),
        };
        let name = base.name_of(repository);
        let source = change.source.as_ref().map(|source| base.name_of(source));
        // A name holds nothing that a query must escape but the slash.
        let from = source.iter().map(|source| format!("from={}", source.replace('/', "%2F")));
        let added = Some(change.query.clone()).filter(|query| !query.is_empty());
        let added = added.into_iter().chain(from).collect::<Vec<_>>().join("&");
        let target = target.and_then(|target| with_arguments(target, &added));
        add_arguments(&mut url, added);
        let mut headers = change.headers.clone();
        // Gateways refuse a POST or PUT that does not say how long it is (RFC 9110, 8.6).
        let has_body = !matches!(change.method, Method::GET | Method::DELETE);
        if has_body && change.payload.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let scope = if change.method == Method::DELETE {
            TokenScope::delete(&name)
        } else {
            TokenScope::push(&name, source.as_deref())
        };
        let is_own = url.origin() == base.url().origin();
        Self {
            method: change.method.clone(),
            target,
            headers,
            class: LimitClass::Push,
            purpose: if is_own { CallPurpose::Registry } else { CallPurpose::Redirect },
            redirects: RedirectPolicy::Repeatable,
            via: change.via.clone(),
            ..Self::get(url, scope.of(change.client.clone()).asked_by(change.asker))
        }
    }

    /// `GET /v2/`: whether there is a registry, and whether it takes the credential.
    pub(super) fn ping(base: &RegistryBase, scope: &TokenScope) -> Self {
        let redirects = RedirectPolicy::SameHost;
        Self { redirects, ..Self::get(base.api_url(), scope.clone()) }
    }

    /// `GET url`, whose answer says that the host is there.
    pub(super) fn probe(url: Url) -> Self {
        Self { purpose: CallPurpose::Probe, ..Self::get(url, TokenScope::entry()) }
    }

    /// A GET from the token server at `url`.
    pub(super) fn of_token(url: Url, scope: &TokenScope) -> Self {
        let redirects = RedirectPolicy::SameOrigin;
        Self { purpose: CallPurpose::Token, redirects, ..Self::get(url, scope.clone()) }
    }

    fn get(url: Url, scope: TokenScope) -> Self {
        Self {
            method: Method::GET,
            url,
            target: None,
            headers: HeaderMap::new(),
            range_start: None,
            is_of_nothing: false,
            class: LimitClass::Token,
            purpose: CallPurpose::Registry,
            redirects: RedirectPolicy::Any,
            scope,
            via: Via::default(),
        }
    }

    /// Asks for the bytes from `from` on, and up to `until`, without it.
    fn set_range(&mut self, from: u64, until: Option<u64>) {
        let last = until.map(|until| until.saturating_sub(1).to_string()).unwrap_or_default();
        if let Ok(range) = HeaderValue::try_from(format!("bytes={from}-{last}")) {
            self.headers.insert(RANGE, range);
        }
        self.range_start = Some(from);
    }

    /// The URL as it is sent; `None` for one that no request can have.
    pub(super) fn uri(&self) -> Option<Uri> {
        let mut parts = self.url.as_str().parse::<Uri>().ok()?.into_parts();
        parts.path_and_query = self.target.clone().or(parts.path_and_query);
        Uri::from_parts(parts).ok()
    }

    /// For which client; `None` for Larder itself.
    pub(super) fn client(&self) -> Option<CredentialId> {
        self.scope.client_id()
    }

    /// Whether this changes something: then any answer but a redirect is handed on.
    pub(super) fn is_change(&self) -> bool {
        self.class == LimitClass::Push
    }

    /// Whether it asks for nothing but whether there is a registry.
    pub(super) fn is_ping(&self) -> bool {
        self.class == LimitClass::Token && self.purpose == CallPurpose::Registry
    }

    /// Whether the answer is to be read and understood. The digest of a blob says what it is.
    pub(super) fn is_for_document(&self) -> bool {
        self.class != LimitClass::Blob
    }

    /// Whether this asks for the bytes of a blob.
    pub(super) fn is_blob_get(&self) -> bool {
        self.method == Method::GET && self.class == LimitClass::Blob
    }
}

/// Adds encoded arguments, or nothing.
fn add_arguments(url: &mut Url, added: String) {
    if !added.is_empty() {
        let written = url.query().filter(|query| !query.is_empty());
        let query = written.map(|written| format!("{written}&{added}"));
        url.set_query(Some(&query.unwrap_or(added)));
    }
}

fn class_of(question: &Question) -> LimitClass {
    match (&question.resource, question.method) {
        (Resource::Blob(_) | Resource::Upload(_), _) => LimitClass::Blob,
        (Resource::Manifest(_), ReadMethod::Get) => LimitClass::ManifestGet,
        (Resource::Manifest(_), ReadMethod::Head) => LimitClass::ManifestHead,
        (Resource::Referrers(_) | Resource::Tags, _) => LimitClass::List,
    }
}
