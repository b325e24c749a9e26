//! The right that a request needs: an explicit table of method and route.
//!
//! A method that is not in the table is refused for every client. No method is guessed to mean
//! another one. Whether a client has the right is decided in `gate.rs`.

use http::Method;

use crate::oci::{ApiCall, Resource};

/// An action in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Remove a manifest, a tag or a blob.
    Delete,
    /// Read manifests, blobs and lists.
    Pull,
    /// Upload blobs and put manifests.
    Push,
}

/// The right that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredRight {
    /// This action in a repository.
    Do(Action),
    /// Access to `/v2/`, which names no repository.
    Enter,
}

impl Action {
    /// Every action, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

impl RequiredRight {
    /// The right that a request needs; `None` for a method that the route does not have.
    pub fn of(method: &Method, call: &ApiCall) -> Option<Self> {
        let route = RouteClass::of(call);
        let is_it = |(of_method, of_route, _): &&(&str, RouteClass, Self)| {
            *of_method == method.as_str() && *of_route == route
        };
        TABLE.iter().find(is_it).map(|(_, _, right)| *right)
    }
}

/// The methods of a route, as `Allow` lists them (RFC 9110, 10.2.1); without `takes_pushes` only
/// those that read.
pub fn allowed_methods(call: &ApiCall, takes_pushes: bool) -> String {
    let route = RouteClass::of(call);
    let is_taken = |right: RequiredRight| {
        takes_pushes || matches!(right, RequiredRight::Enter | RequiredRight::Do(Action::Pull))
    };
    let of_route = TABLE.iter().filter(|(_, of, right)| *of == route && is_taken(*right));
    of_route.map(|(method, ..)| *method).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteClass {
    Base,
    Blob,
    Manifest,
    Referrers,
    Tags,
    Upload,
    Uploads,
}

impl RouteClass {
    fn of(call: &ApiCall) -> Self {
        match call {
            ApiCall::Ping => Self::Base,
            ApiCall::In(_, Resource::Blob(_)) => Self::Blob,
            ApiCall::In(_, Resource::Manifest(_)) => Self::Manifest,
            ApiCall::In(_, Resource::Referrers(_)) => Self::Referrers,
            ApiCall::In(_, Resource::Tags) => Self::Tags,
            ApiCall::In(_, Resource::Upload(None)) => Self::Uploads,
            ApiCall::In(_, Resource::Upload(Some(_))) => Self::Upload,
        }
    }
}

/// Every method of every route (distribution-spec, "Endpoints"). Cancelling an upload removes
/// nothing that a client could have pulled, so it needs the right to push.
const TABLE: &[(&str, RouteClass, RequiredRight)] = &[
    ("GET", RouteClass::Base, RequiredRight::Enter),
    ("HEAD", RouteClass::Base, RequiredRight::Enter),
    ("GET", RouteClass::Blob, RequiredRight::Do(Action::Pull)),
    ("HEAD", RouteClass::Blob, RequiredRight::Do(Action::Pull)),
    ("DELETE", RouteClass::Blob, RequiredRight::Do(Action::Delete)),
    ("GET", RouteClass::Manifest, RequiredRight::Do(Action::Pull)),
    ("HEAD", RouteClass::Manifest, RequiredRight::Do(Action::Pull)),
    ("PUT", RouteClass::Manifest, RequiredRight::Do(Action::Push)),
    ("DELETE", RouteClass::Manifest, RequiredRight::Do(Action::Delete)),
    ("GET", RouteClass::Referrers, RequiredRight::Do(Action::Pull)),
    ("GET", RouteClass::Tags, RequiredRight::Do(Action::Pull)),
    ("DELETE", RouteClass::Upload, RequiredRight::Do(Action::Push)),
    ("GET", RouteClass::Upload, RequiredRight::Do(Action::Push)),
    ("PATCH", RouteClass::Upload, RequiredRight::Do(Action::Push)),
    ("PUT", RouteClass::Upload, RequiredRight::Do(Action::Push)),
    ("POST", RouteClass::Uploads, RequiredRight::Do(Action::Push)),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Several registries guessed the action from the method, and so let a right to push delete.
    /// Every route of the protocol is tried with every method of HTTP, and with some made-up ones.
    #[test]
    fn a_method_that_is_not_in_the_table_is_refused_for_every_client() {
        let methods = [
            "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get",
            "PURGE", "MOVE",
        ];
        let digest = format!("sha256:{}", "a".repeat(64));
        let rights = |path: &str| {
            let call = ApiCall::parse(path).unwrap();
            let right = |name: &&str| {
                let method = Method::from_bytes(name.as_bytes()).unwrap();
                RequiredRight::of(&method, &call).map(|right| match right {
                    RequiredRight::Do(action) => format!("{name}={}", action.as_str()),
                    RequiredRight::Enter => format!("{name}=enter"),
                })
            };
            methods.iter().filter_map(right).collect::<Vec<_>>().join(" ")
        };
        let upload = "GET=push PUT=push PATCH=push DELETE=push";
        for (path, want) in [
            (String::new(), "GET=enter HEAD=enter"),
            ("/".to_owned(), "GET=enter HEAD=enter"),
            (format!("/a/blobs/{digest}"), "GET=pull HEAD=pull DELETE=delete"),
            ("/a/manifests/latest".to_owned(), "GET=pull HEAD=pull PUT=push DELETE=delete"),
            (format!("/a/manifests/{digest}"), "GET=pull HEAD=pull PUT=push DELETE=delete"),
            (format!("/a/referrers/{digest}"), "GET=pull"),
            ("/a/tags/list".to_owned(), "GET=pull"),
            ("/a/blobs/uploads/".to_owned(), "POST=push"),
            ("/a/blobs/uploads/some-session".to_owned(), upload),
        ] {
            assert_eq!(rights(&path), want, "{path}");
        }
    }
}
