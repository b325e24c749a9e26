//! `/v2/…` as a value: which repository, and what of it.
//!
//! Repository names contain slashes and may themselves be called `manifests` or `blobs/uploads`,
//! so a path is split from the right. Which registry is meant is not decided here (`routes/door`
//! does that), only where in the path one could be named.
//!
//! Paths are percent-decoded exactly once, by [`ApiCall::parse`]; an encoded slash is refused,
//! since it would mean one thing here and another upstream.

use percent_encoding::percent_decode_str;

use super::{Digest, InvalidDigest, InvalidName, InvalidReference, Reference, RepositoryName};

/// The call that a request's path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCall {
    /// `/v2/`: is there a registry, and does it want credentials.
    Ping,
    /// Something in a repository.
    In(RepositoryName, Resource),
}

/// The part of a repository that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `blobs/<digest>`
    Blob(Digest),
    /// `manifests/<reference>`
    Manifest(Reference),
    /// `referrers/<digest>`
    Referrers(Digest),
    /// `tags/list`
    Tags,
    /// `blobs/uploads/`, and with what stands behind it one upload
    Upload(Option<Box<str>>),
}

impl Resource {
    /// Its path below the repository. An upload has that of all uploads.
    ///
    /// Tags and digests hold no character that a path would have to escape.
    pub fn path(&self) -> String {
        match self {
            Self::Blob(digest) => format!("blobs/{digest}"),
            Self::Manifest(Reference::Digest(digest)) => format!("manifests/{digest}"),
            Self::Manifest(Reference::Tag(tag)) => format!("manifests/{tag}"),
            Self::Referrers(digest) => format!("referrers/{digest}"),
            Self::Tags => "tags/list".to_owned(),
            Self::Upload(_) => "blobs/uploads/".to_owned(),
        }
    }

    /// The reference of a manifest, if it is one.
    pub fn manifest(&self) -> Option<&Reference> {
        match self {
            Self::Manifest(reference) => Some(reference),
            Self::Blob(_) | Self::Referrers(_) | Self::Tags | Self::Upload(_) => None,
        }
    }
}

impl ApiCall {
    /// The longest path that is looked at, in bytes: prefix, name, and a sha512 digest fit in a
    /// quarter of it.
    pub const PATH_LEN_MAX: usize = 2048;

    /// The longest path of an upload, in bytes: it holds its sealed session.
    pub const UPLOAD_PATH_LEN_MAX: usize = 8192;

    /// Reads the part of a path after `/v2`: the empty string, `/`, or `/<repository>/…`.
    ///
    /// # Errors
    ///
    /// [`NotACall`] tells what is wrong, and so which error code the client gets.
    pub fn parse(rest: &str) -> Result<Self, NotACall> {
        if rest.len() > Self::PATH_LEN_MAX {
            let name = rest.rfind(UPLOADS).map_or(rest, |at| &rest[..at]);
            if name.len() > Self::PATH_LEN_MAX || rest.len() > Self::UPLOAD_PATH_LEN_MAX {
                return Err(NotACall::TooLong);
            }
        }
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Ping);
        }
        let path = decode(rest.strip_prefix('/').ok_or(NotACall::NoSuchRoute)?)?;
        let (name, resource) = split_resource(&path)?;
        Ok(Self::In(name.parse().map_err(NotACall::Name)?, resource))
    }
}

const UPLOADS: &str = "/blobs/uploads";

/// Splits `/<registry>/v2/…` into the registry's text and the part after `/v2`.
///
/// Gives `None` for what begins with `/v2` itself, and for anything else.
pub fn split_registry(path: &str) -> Option<(&str, &str)> {
    let (registry, rest) = path.strip_prefix('/')?.split_once('/')?;
    let rest = rest.strip_prefix("v2")?;
    let is_end = rest.is_empty() || rest.starts_with('/');
    (is_end && registry != "v2").then_some((registry, rest))
}

/// Why a path is not a [`ApiCall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotACall {
    /// The list of all repositories. It is not served: a client may be allowed to pull from only
    /// some.
    #[error("the catalogue is not served here")]
    Catalogue,
    /// The digest in it is malformed.
    #[error("the digest is invalid: {0}")]
    Digest(InvalidDigest),
    /// It is percent-encoded wrongly, or hides a slash or a control character.
    #[error("the path is not plainly encoded")]
    Encoding,
    /// The repository name in it is malformed.
    #[error("the repository name is invalid: {0}")]
    Name(InvalidName),
    /// The protocol has no such route.
    #[error("the protocol has no such route")]
    NoSuchRoute,
    /// The tag or digest in it is malformed.
    #[error("the reference is invalid: {0}")]
    Reference(InvalidReference),
    /// It is longer than [`ApiCall::PATH_LEN_MAX`], or [`ApiCall::UPLOAD_PATH_LEN_MAX`].
    #[error("the path is too long")]
    TooLong,
}

fn decode(path: &str) -> Result<String, NotACall> {
    if !path.contains('%') {
        return if path.bytes().all(is_plain) {
            Ok(path.to_owned())
        } else {
            Err(NotACall::Encoding)
        };
    }
    let slashes = path.matches('/').count();
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| NotACall::Encoding)?;
    if decoded.matches('/').count() != slashes || !decoded.bytes().all(is_plain) {
        return Err(NotACall::Encoding);
    }
    Ok(decoded.into_owned())
}

/// Printable ASCII without the two characters that a path could be misread by.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\' && byte != b'%'
}

fn split_resource(path: &str) -> Result<(&str, Resource), NotACall> {
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Ok((name, Resource::Tags));
    }
    let (head, last) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(name) = head.strip_suffix("/manifests") {
        return Ok((name, Resource::Manifest(last.parse().map_err(not_a_reference)?)));
    }
    if let Some(name) = head.strip_suffix("/referrers") {
        return Ok((name, Resource::Referrers(last.parse().map_err(NotACall::Digest)?)));
    }
    if let Some((name, session)) = split_upload(path) {
        return Ok((name, Resource::Upload(session.map(Box::from))));
    }
    if let Some(name) = head.strip_suffix("/blobs") {
        return Ok((name, Resource::Blob(last.parse().map_err(NotACall::Digest)?)));
    }
    Err(if last == "_catalog" { NotACall::Catalogue } else { NotACall::NoSuchRoute })
}

/// Splits `<name>/blobs/uploads` and `<name>/blobs/uploads/<session>`. A session is one component:
/// a longer rest is content of a repository that is itself called `<name>/blobs/uploads`.
fn split_upload(path: &str) -> Option<(&str, Option<&str>)> {
    let (name, rest) = path.rsplit_once(UPLOADS)?;
    match rest.strip_prefix('/') {
        None => rest.is_empty().then_some((name, None)),
        Some("") => Some((name, None)),
        Some(session) => (!session.contains('/')).then_some((name, Some(session))),
    }
}

/// A reference with a colon was meant as a digest, and digests have errors of their own.
fn not_a_reference(error: InvalidReference) -> NotACall {
    match error {
        InvalidReference::Digest(error) => NotACall::Digest(error),
        InvalidReference::Tag => NotACall::Reference(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn call(rest: &str) -> Result<(String, Resource), NotACall> {
        match ApiCall::parse(rest)? {
            ApiCall::Ping => panic!("{rest:?} is a ping"),
            ApiCall::In(name, resource) => Ok((name.to_string(), resource)),
        }
    }

    #[test]
    fn a_path_is_split_from_the_right() {
        let tag = |text: &str| Resource::Manifest(text.parse().unwrap());
        let blob = Resource::Blob(D.parse().unwrap());
        let table = [
            ("/library/alpine/manifests/latest".to_owned(), "library/alpine", tag("latest")),
            (format!("/a/manifests/{D}"), "a", tag(D)),
            (format!("/a/b/c/blobs/{D}"), "a/b/c", blob.clone()),
            (format!("/a/blobs/{}", D.replace(':', "%3A")), "a", blob.clone()),
            ("/manifests/manifests/latest".to_owned(), "manifests", tag("latest")),
            ("/a/tags/list".to_owned(), "a", Resource::Tags),
            ("/a/tags/list/manifests/x".to_owned(), "a/tags/list", tag("x")),
            ("/a/blobs/uploads/".to_owned(), "a", Resource::Upload(None)),
            ("/a/blobs/uploads/0f".to_owned(), "a", Resource::Upload(Some("0f".into()))),
            ("/a/blobs/uploads".to_owned(), "a", Resource::Upload(None)),
            ("/blobs/uploads/blobs/uploads/".to_owned(), "blobs/uploads", Resource::Upload(None)),
            (format!("/x/blobs/uploads/blobs/{D}"), "x/blobs/uploads", blob.clone()),
            ("/x/blobs/uploads/manifests/t".to_owned(), "x/blobs/uploads", tag("t")),
            (format!("/a/referrers/{D}"), "a", Resource::Referrers(D.parse().unwrap())),
        ];
        for (path, name, resource) in table {
            assert_eq!(call(&path), Ok((name.to_owned(), resource)), "{path}");
        }
        assert_eq!(call("/a/manifests/_catalog"), Ok(("a".to_owned(), tag("_catalog"))));
        assert_eq!(ApiCall::parse("/_catalog"), Err(NotACall::Catalogue));
        assert_eq!(ApiCall::parse("/a/_catalog"), Err(NotACall::Catalogue));
        assert_eq!(ApiCall::parse("/catalog"), Err(NotACall::NoSuchRoute));
        assert_eq!(ApiCall::parse(""), Ok(ApiCall::Ping));
        assert_eq!(ApiCall::parse("/"), Ok(ApiCall::Ping));
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = format!("/{}/manifests/l", "a/".repeat(1 << 20));
        for bad in [
            "/../../etc/passwd/manifests/latest",
            "/%2e%2e/%2e%2e/etc/passwd/blobs/x",
            "/%252e%252e/x/manifests/l",
            "//R//manifests/latest",
            "/a%2Fb/manifests/l",
            "/a%5c..%5cb/manifests/l",
            "/a%00b/manifests/l",
            "/a%0d%0aX-Evil:1/manifests/l",
            "/A/manifests/l",
            "/a/./b/manifests/l",
            "/%c3%28/manifests/l",
            "/%ef%bc%8e/manifests/l",
            "/_catalog/manifests/x",
            "/a/manifests/",
            "//manifests/latest",
            "/manifests/latest",
            "/a/manifests/latest%20",
            "/a/blobs/sha256:../../x",
            "/a",
            "a/manifests/l",
            long.as_str(),
        ] {
            assert!(ApiCall::parse(bad).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn a_registry_may_stand_before_v2() {
        assert_eq!(split_registry("/ghcr.io/v2/a/tags/list"), Some(("ghcr.io", "/a/tags/list")));
        assert_eq!(split_registry("/ghcr.io/v2"), Some(("ghcr.io", "")));
        for none in ["/v2/", "/v2/v2/manifests/x", "/ghcr.io/v2x/a", "/ghcr.io", "v2", "", "/"] {
            assert_eq!(split_registry(none), None, "{none:?}");
        }
    }
}
