//! The ways by which a client can be sent to Larder: by which door, and with or without TLS.

use super::certificates::Certificates;
use super::image::Image;

/// How a request says which registry it means; the README has the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// It does not: the default registry is meant.
    Mirror,
    /// `/v2/docker.io/…`
    Prefix,
    /// `?ns=docker.io`
    Ns,
    /// `localhost` instead of `127.0.0.1`, which here means docker.io; any other registry by its
    /// own name, to which an egress proxy has to lead.
    Host,
    /// `/docker.io/v2/…`
    Registry,
}

/// One way to a registry, which is Larder or, for comparison, the upstream.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) door: Door,
    pub(crate) port: u16,
    /// Over TLS, by this certificate.
    pub(crate) tls: Option<&'a Certificates>,
    /// The registry that is meant.
    pub(crate) registry: &'a str,
}

/// The image to pull.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) image: &'a Image,
    pub(crate) by: By,
}

/// By which reference of its index.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Tag,
    Digest,
}

impl Door {
    /// As the key `doors` of a listener has it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Prefix => "prefix",
            Self::Ns => "ns",
            Self::Host => "host",
            Self::Registry => "registry",
        }
    }
}

impl<'a> Way<'a> {
    /// To docker.io, over plain HTTP.
    pub(crate) fn plain(door: Door, port: u16) -> Self {
        Self { door, port, tls: None, registry: DOCKER_HUB }
    }

    /// The same way to docker.io over TLS.
    pub(crate) fn over_tls(self, tls: &'a Certificates) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same way to another registry.
    pub(crate) fn to(self, registry: &'a str) -> Self {
        Self { registry, ..self }
    }

    /// The host and port that a client is to call.
    pub(crate) fn authority(&self) -> String {
        if self.door == Door::Host && self.registry != DOCKER_HUB {
            return self.registry.to_owned();
        }
        let host = if self.door == Door::Host { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// The text before the repository, for clients that are given Larder's address with every name.
    pub(crate) fn place(&self) -> String {
        let authority = self.authority();
        if self.door == Door::Prefix { format!("{authority}/{}", self.registry) } else { authority }
    }
}

impl std::fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.door.key(), if self.tls.is_some() { " over TLS" } else { "" })
    }
}

/// The registry that is meant where none is named.
const DOCKER_HUB: &str = "docker.io";

impl<'a> Wanted<'a> {
    pub(crate) fn by_tag(image: &'a Image) -> Self {
        Self { image, by: By::Tag }
    }

    pub(crate) fn by_digest(image: &'a Image) -> Self {
        Self { image, by: By::Digest }
    }

    /// `<place>/<repository>:<tag>` or `…@<digest>`
    pub(crate) fn at(&self, place: &str) -> String {
        let Image { repository, tag, index, .. } = self.image;
        match self.by {
            By::Tag => format!("{place}/{repository}:{tag}"),
            By::Digest => format!("{place}/{repository}@{index}"),
        }
    }
}

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for {}", self.at("…"), self.image.platform)
    }
}
