//! Requests that cost an anonymous client nothing but a number.

use http::Method;
use larder::oci::{Algorithm, Digest};

use crate::support::Image;
use crate::support::registry::basic;

/// The part of a request that the client makes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeUp {
    Tags,
    Repositories,
    Digests,
    Accepts,
    Queries,
    Pages,
    Ranges,
    Uploads,
    Credentials,
}

/// A request.
pub struct MadeUpRequest {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// The repository that an honest client uses meanwhile.
pub const REPOSITORY: &str = "library/alpine";

impl MadeUp {
    pub const ALL: [Self; 9] = [
        Self::Tags,
        Self::Repositories,
        Self::Digests,
        Self::Accepts,
        Self::Queries,
        Self::Pages,
        Self::Ranges,
        Self::Uploads,
        Self::Credentials,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Repositories => "repositories",
            Self::Digests => "digests",
            Self::Accepts => "Accept sets",
            Self::Queries => "queries",
            Self::Pages => "pages",
            Self::Ranges => "ranges",
            Self::Uploads => "uploads",
            Self::Credentials => "credentials",
        }
    }

    /// The request of this number; no two are the same.
    pub fn request(self, n: u64, image: &Image) -> MadeUpRequest {
        let own = format!("/v2/{REPOSITORY}");
        let digest = Digest::of(Algorithm::Sha256, &n.to_le_bytes());
        let deep = format!("/v2/a{n}/b{n}/c{n}/d{n}/e{n}");
        let one_of = |paths: &[String]| paths[usize::try_from(n).unwrap() % paths.len()].clone();
        let blob = &image.layers[0];
        match self {
            Self::Tags => get(format!("{own}/manifests/t{n}"), &[]),
            Self::Repositories => get(
                one_of(&[
                    format!("{deep}/manifests/latest"),
                    format!("{deep}/referrers/{digest}"),
                    format!("{deep}/tags/list"),
                    format!("{deep}/blobs/{}", blob.digest),
                ]),
                &[],
            ),
            Self::Digests => get(
                one_of(&[
                    format!("{own}/manifests/{digest}"),
                    format!("{own}/blobs/{digest}"),
                    format!("{own}/referrers/{digest}"),
                ]),
                &[],
            ),
            Self::Accepts => {
                let accept = format!("application/vnd.x{n}.v1+json, text/x{n};q=0.{}", n % 10);
                get(
                    one_of(&[format!("{own}/manifests/new"), deep + "/manifests/l"]),
                    &[("accept", &accept)],
                )
            }
            Self::Queries => get(
                one_of(&[
                    format!("{own}/manifests/other?x{n}={n}"),
                    format!("{own}/tags/list?y{n}=1"),
                    format!("{own}/referrers/{}?artifactType=a/t{n}", blob.digest),
                    format!("{own}/manifests/latest?ns=r{n}.test"),
                ]),
                &[],
            ),
            Self::Pages => get(format!("{own}/tags/list?n={}&last=t{n}", n % 10_000 + 1), &[]),
            Self::Ranges => {
                let path = one_of(&[blob.path(REPOSITORY), format!("{own}/blobs/{digest}")]);
                let many = (0..20).map(|at| format!("{}-{}", at * 50 + n % 7, at * 50 + 20));
                let many = many.collect::<Vec<_>>().join(",");
                let range = one_of(&[
                    format!("{}-{}", n % 900, n % 900 + 9),
                    many,
                    format!("-{}", n % 800),
                ]);
                get(path, &[("range", &format!("bytes={range}"))])
            }
            Self::Uploads => change(n, &one_of(&[own, deep])),
            Self::Credentials => {
                let path = one_of(&[
                    "/v2/c.test/a/b/manifests/latest".to_owned(),
                    "/v2/c.test/".to_owned(),
                ]);
                get(path, &[("authorization", &basic(&format!("u{n}"), &format!("p{n}")))])
            }
        }
    }
}

fn get(path: String, headers: &[(&'static str, &str)]) -> MadeUpRequest {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    MadeUpRequest { method: Method::GET, path, headers, body: String::new() }
}

/// An upload that never ends, parts of ones that there are not, and manifests under any name.
fn change(n: u64, repository: &str) -> MadeUpRequest {
    let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let manifest = r#"{"schemaVersion":2,"mediaType":"TYPE","config":{"mediaType":"a/b","size":2,
        "digest":"CONFIG"},"layers":[],"annotations":{"n":"NUMBER"}}"#;
    let manifest = manifest.replace("CONFIG", config);
    let manifest = manifest.replace("TYPE", MANIFEST).replace("NUMBER", &n.to_string());
    let (method, path, body) = match n % 4 {
        0 => (Method::POST, format!("{repository}/blobs/uploads/"), String::new()),
        1 => (Method::PATCH, format!("{repository}/blobs/uploads/id{n}"), "part".to_owned()),
        2 => (Method::DELETE, format!("{repository}/manifests/t{n}"), String::new()),
        _ => (Method::PUT, format!("{repository}/manifests/p{n}"), manifest),
    };
    MadeUpRequest { method, path, headers: vec![("content-type", MANIFEST.to_owned())], body }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
