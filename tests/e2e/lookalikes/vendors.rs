//! The table of the registries: in which words and with which oddities each answers what the
//! specification leaves open, as their public documentation and their users' reports have it.

use super::content::{DOCKER, ManifestTypes, OCI};
use crate::support::client::Login;

/// One of them.
pub(crate) struct VendorTraits {
    pub(crate) name: &'static str,
    pub(crate) repository: &'static str,
    pub(crate) types: &'static ManifestTypes,
    pub(crate) auth: VendorAuth,
    pub(crate) lists: ListHabit,
    pub(crate) blobs: BlobHabit,
    pub(crate) referrers: ReferrersHabit,
    /// With every answer of the registry itself.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// Whether header names are in lower case, as of a registry behind HTTP/2.
    pub(crate) is_lower_case: bool,
}

/// How a client shows that it may read.
pub(crate) enum VendorAuth {
    /// The login with every request.
    Basic { login: Login },
    /// A token, from this path.
    Token {
        path: &'static str,
        service: &'static str,
        /// The name of the token in the answer.
        field: &'static str,
        /// The login that a token takes, if it takes one.
        login: Option<Login>,
        /// The status for the POST that containerd tries first.
        post: u16,
    },
}

/// How lists of tags are given.
pub(crate) struct ListHabit {
    /// At most so many tags on a page, however many are asked for.
    pub(crate) page: usize,
    /// The largest `n` that is taken.
    pub(crate) n_max: Option<usize>,
    pub(crate) link: NextLink,
    /// Whether the body has more than the specification's members.
    pub(crate) has_more_members: bool,
}

/// The link to the next page.
pub(crate) enum NextLink {
    /// With `n` and `last`, as a path.
    Path,
    /// The same as a URL.
    Url,
    /// `n=0`, whatever was asked for.
    Zero,
    /// A cursor in place of `last`.
    Cursor(&'static str),
    /// None: all tags are on one page.
    Never,
}

/// The source of the bytes of blobs.
pub(crate) enum BlobHabit {
    /// The registry.
    Here,
    /// A storage that a redirect of this status leads to, which refuses credentials.
    Storage { status: u16, head: HeadHabit },
}

/// The answer to a HEAD whose GET is redirected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadHabit {
    /// The registry answers.
    Answered,
    /// It is redirected, and the storage answers.
    Redirected,
    /// It is redirected, and the storage refuses it: the URL is signed for GET.
    Refused,
}

/// The answer at `/referrers/`.
pub(crate) enum ReferrersHabit {
    Served,
    /// 404 with the page of a router that knows no such path.
    NoSuchPath,
    /// 404 with the specification's error.
    NotFound,
    /// A redirect to a page of another host, which then answers 429.
    Elsewhere,
}

impl VendorAuth {
    pub(crate) fn login(&self) -> Option<Login> {
        match self {
            Self::Basic { login } => Some(*login),
            Self::Token { login, .. } => *login,
        }
    }
}

const LIST: ListHabit =
    ListHabit { page: 100, n_max: None, link: NextLink::Path, has_more_members: false };

const API_VERSION: (&str, &str) = ("Docker-Distribution-Api-Version", "registry/2.0");

pub(crate) const VENDORS: [&VendorTraits; 7] = [
    &VendorTraits {
        name: "ghcr",
        repository: "owner/app",
        types: &OCI,
        auth: VendorAuth::Token {
            path: "/token",
            service: "ghcr.io",
            field: "token",
            login: None,
            post: 405,
        },
        lists: ListHabit { link: NextLink::Zero, ..LIST },
        blobs: BlobHabit::Storage { status: 307, head: HeadHabit::Answered },
        referrers: ReferrersHabit::Elsewhere,
        headers: &[API_VERSION, ("X-GitHub-Request-Id", "0E5A:1B2C")],
        is_lower_case: true,
    },
    &VendorTraits {
        name: "quay",
        repository: "org/app",
        types: &DOCKER,
        auth: VendorAuth::Token {
            path: "/v2/auth",
            service: "quay.io",
            field: "token",
            login: Some(Login { user: "org+robot", password: "R0B0T" }),
            post: 405,
        },
        lists: ListHabit { page: 50, link: NextLink::Cursor("next_page"), ..LIST },
        blobs: BlobHabit::Storage { status: 302, head: HeadHabit::Redirected },
        referrers: ReferrersHabit::Served,
        headers: &[API_VERSION, ("Cache-Control", "max-age=31536000"), ("Server", "nginx")],
        is_lower_case: false,
    },
    &VendorTraits {
        name: "harbor",
        repository: "project/app",
        types: &OCI,
        auth: VendorAuth::Token {
            path: "/service/token",
            service: "harbor-registry",
            field: "token",
            login: Some(Login { user: "robot$ci", password: "H4rb0r" }),
            post: 405,
        },
        lists: LIST,
        blobs: BlobHabit::Here,
        referrers: ReferrersHabit::Served,
        headers: &[
            API_VERSION,
            ("Set-Cookie", "sid=0123456789abcdef; Path=/; HttpOnly"),
            ("X-Request-Id", "7f1c"),
        ],
        is_lower_case: false,
    },
    &VendorTraits {
        name: "ecr",
        repository: "team/app",
        types: &DOCKER,
        auth: VendorAuth::Basic { login: Login { user: "AWS", password: "eyJwYXlsb2Fk" } },
        lists: ListHabit { n_max: Some(1_000), link: NextLink::Cursor("last"), ..LIST },
        blobs: BlobHabit::Storage { status: 307, head: HeadHabit::Answered },
        referrers: ReferrersHabit::Served,
        headers: &[API_VERSION, ("Sizes", "")],
        is_lower_case: false,
    },
    &VendorTraits {
        name: "gar",
        repository: "project-1/images/app",
        types: &OCI,
        auth: VendorAuth::Token {
            path: "/v2/token",
            service: "127.0.0.1",
            field: "token",
            login: Some(Login { user: "oauth2accesstoken", password: "ya29.canary" }),
            post: 404,
        },
        lists: ListHabit { page: 10_000, link: NextLink::Never, has_more_members: true, ..LIST },
        blobs: BlobHabit::Storage { status: 302, head: HeadHabit::Answered },
        referrers: ReferrersHabit::Served,
        headers: &[API_VERSION, ("X-XSS-Protection", "0")],
        is_lower_case: true,
    },
    &VendorTraits {
        name: "gitlab",
        repository: "group/project/app",
        types: &DOCKER,
        auth: VendorAuth::Token {
            path: "/jwt/auth",
            service: "container_registry",
            field: "token",
            login: Some(Login { user: "deploy-token", password: "gldt-canary" }),
            post: 404,
        },
        lists: ListHabit { n_max: Some(1_000), link: NextLink::Url, ..LIST },
        blobs: BlobHabit::Storage { status: 307, head: HeadHabit::Refused },
        referrers: ReferrersHabit::NoSuchPath,
        headers: &[API_VERSION, ("Gitlab-Container-Registry-Version", "4.15.2-gitlab")],
        is_lower_case: false,
    },
    &VendorTraits {
        name: "artifactory",
        repository: "docker-local/app",
        types: &DOCKER,
        auth: VendorAuth::Token {
            path: "/artifactory/api/docker/docker-local/v2/token",
            service: "127.0.0.1",
            field: "access_token",
            login: Some(Login { user: "ci", password: "AKCp8canary" }),
            post: 401,
        },
        lists: ListHabit { page: 1_000, ..LIST },
        blobs: BlobHabit::Storage { status: 302, head: HeadHabit::Redirected },
        referrers: ReferrersHabit::NotFound,
        headers: &[
            API_VERSION,
            ("X-Artifactory-Id", "a1b2c3"),
            ("X-JFrog-Version", "Artifactory/7.90.1 79001900"),
        ],
        is_lower_case: false,
    },
];
