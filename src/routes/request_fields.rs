//! The parts of a request that are told but not counted, as its lines and its event show them.
//!
//! They are borrowed from the request while its answer begins: most requests end as a line, which
//! needs no copy of them.

use std::borrow::Cow;

use http::header::USER_AGENT;
use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

use super::door::ResolvedTarget;
use super::event::RequestDetails;
use super::event_client::EventClient;
use super::reply::ReplyFault;
use crate::oci::{ApiCall, Reference, RepositoryName, Resource};

/// The parts of a request that are not counted. [`RequestDetails`] says what each is.
#[derive(Debug)]
pub(super) struct RequestFields<'r> {
    pub(super) method: &'r Method,
    pub(super) path: Cow<'r, str>,
    pub(super) registry: Option<&'r str>,
    pub(super) repository: Option<&'r RepositoryName>,
    pub(super) manifest: Option<&'r Reference>,
    pub(super) client: &'r EventClient,
    pub(super) agent: Option<Cow<'r, str>>,
    pub(super) request_id: Option<&'r str>,
    pub(super) fault: Option<&'r str>,
}

impl<'r> RequestFields<'r> {
    pub(super) fn of(
        head: &'r http::request::Parts,
        target: Option<&'r ResolvedTarget>,
        client: &'r EventClient,
        fault: Option<&'r ReplyFault>,
    ) -> Self {
        let registry = target.and_then(|target| target.registry.as_ref());
        let called = target.and_then(|target| match &target.call {
            ApiCall::In(repository, resource) => Some((repository, resource)),
            ApiCall::Ping => None,
        });
        let agent = head.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        Self {
            method: &head.method,
            path: shown(head.uri.path(), target),
            registry: registry.map(|registry| registry.name().as_str()),
            repository: called.map(|(repository, _)| repository),
            manifest: called.and_then(|(_, resource)| resource.manifest()),
            client,
            agent: agent.map(shown_agent),
            request_id: fault.map(|fault| fault.request_id.as_str()),
            fault: fault.map(|fault| fault.message.as_str()),
        }
    }

    /// A copy of them, for an event.
    pub(super) fn to_details(&self, is_pull: bool) -> RequestDetails {
        RequestDetails {
            method: self.method.clone(),
            path: self.path.as_ref().into(),
            registry: self.registry.map(Into::into),
            repository: self.repository.cloned(),
            manifest: self.manifest.cloned(),
            client: self.client.clone(),
            agent: self.agent.as_deref().map(Into::into),
            is_pull,
            received: None,
            request_id: self.request_id.map(str::to_owned),
            fault: self.fault.map(str::to_owned),
        }
    }
}

/// The beginning of a path, with `-` in place of the id of an upload, however it is encoded. It may
/// have any bytes in it.
fn shown<'p>(path: &'p str, target: Option<&ResolvedTarget>) -> Cow<'p, str> {
    // Most paths are parsed, and of no upload.
    let has_upload = !matches!(
        target.map(|target| &target.call),
        Some(ApiCall::In(_, Resource::Blob(_) | Resource::Manifest(_)))
    );
    if !has_upload && !path.contains('%') {
        return beginning(path).into();
    }
    let mut plain = Cow::Borrowed(path);
    while plain.contains('%') {
        let decoded = percent_decode_str(&plain).decode_utf8_lossy().into_owned();
        if decoded == plain {
            break;
        }
        plain = Cow::Owned(decoded);
    }
    let mut bytes = plain.bytes().enumerate();
    let uploads = bytes.find(|(at, byte)| *byte == b'/' && is_uploads(&plain, *at));
    match uploads.map(|(at, _)| at) {
        Some(at) if plain.len() > at + UPLOADS.len() => {
            format!("{}{UPLOADS}-", beginning(&plain[..at])).into()
        }
        _ => beginning(path).into(),
    }
}

fn beginning(path: &str) -> &str {
    // Most paths are shorter in bytes already.
    let cut = (path.len() > PATH_SHOWN_MAX).then(|| path.char_indices().nth(PATH_SHOWN_MAX));
    cut.flatten().map_or(path, |(end, _)| &path[..end])
}

fn is_uploads(path: &str, at: usize) -> bool {
    let found = path.as_bytes().get(at..at + UPLOADS.len());
    found.is_some_and(|found| found.eq_ignore_ascii_case(UPLOADS.as_bytes()))
}

/// Without what stands before: a path that names nothing may have one slash or several there.
const UPLOADS: &str = "/uploads/";

/// In characters; a longer path is hostile.
const PATH_SHOWN_MAX: usize = 512;

/// The beginning of the name of a program, which may have any bytes in it. No program that reads
/// logs is to find an instruction to itself there (`${jndi:…}`).
fn shown_agent(agent: &[u8]) -> Cow<'_, str> {
    let agent = agent.get(..AGENT_SHOWN_MAX).unwrap_or(agent);
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !br#"$\'""#.contains(byte);
    if let Some(agent) = str::from_utf8(agent).ok().filter(|_| agent.iter().all(is_plain)) {
        return agent.into();
    }
    agent.escape_ascii().to_string().replace('$', r"\x24").into()
}

/// In bytes.
const AGENT_SHOWN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_shown_without_a_character_that_means_something_elsewhere() {
        for (agent, shown) in [
            ("containerd/1.7.2 (linux; a+b)", "containerd/1.7.2 (linux; a+b)"),
            ("${jndi:x}", r"\x24{jndi:x}"),
            (r#"a"b'c\d"#, r#"a\"b\'c\\d"#),
            ("tab\tline\n", r"tab\tline\n"),
            ("ü", r"\xc3\xbc"),
            ("", ""),
        ] {
            assert_eq!(&*shown_agent(agent.as_bytes()), shown);
        }
        assert_eq!(shown_agent(&[b'x'; 200]).len(), AGENT_SHOWN_MAX);
    }

    #[test]
    fn a_long_path_is_shown_to_its_512th_character() {
        let path = |count: usize| format!("/{}", "ü".repeat(count));
        assert_eq!(shown(&path(511), None).len(), 1 + 2 * 511);
        assert_eq!(shown(&path(600), None).len(), 1 + 2 * 511);
        assert_eq!(&*shown(&path(600), None), path(511));
    }

    #[test]
    fn the_id_of_an_upload_is_not_shown_under_any_encoding() {
        for path in [
            "/v2/a/blobs/uploads/SEALED",
            "/v2/a/blobs/upload%73/SEALED",
            "/v2/a/blobs/uploads%2FSEALED",
            "/v2/a/blobs/uploads%252fSEALED",
            "/v2/a/%62lobs%2f%55ploads/%53EALED",
            "/v2/a/blobs//uploads/SEALED?x",
        ] {
            let shown = shown(path, None);
            assert!(!shown.contains("EALED") && shown.ends_with("/uploads/-"), "{path}: {shown}");
        }
        for path in ["/v2/a/blobs/uploads/", "/v2/a%2fb/manifests/x", "/%", "/v2/%zz"] {
            assert_eq!(&*shown(path, None), path);
        }
    }
}
