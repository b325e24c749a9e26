//! Which right a request takes: the explicit table of method and route.
//!
//! What is not in the table is refused, whoever asks. No method is guessed to mean what another one
//! means.

use http::Method;

use crate::oci::{ApiCall, Resource};

/// What can be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Remove a manifest, a tag or a blob.
    Delete,
    /// Read.
    Pull,
    /// Write.
    Push,
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredRight {
    /// To do something in a repository.
    Do(Action),
    /// To be let in at all.
    Enter,
}

impl Action {
    /// Every action, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// What the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

impl RequiredRight {
    /// The right that a request takes; `None` for what the protocol does not have.
    pub fn of(method: &Method, call: &ApiCall) -> Option<Self> {
        let route = RouteClass::of(call);
        let is_it = |(of_method, of_route, _): &&(&str, RouteClass, Self)| {
            *of_method == method.as_str() && *of_route == route
        };
        TABLE.iter().find(is_it).map(|(_, _, right)| *right)
    }
}

/// The methods that the protocol has for a call; where nothing takes pushes, those that read.
/// Written as in `Allow` (RFC 9110, 10.2.1).
pub fn methods(call: &ApiCall, takes_pushes: bool) -> String {
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

/// Every method that every route has (distribution-spec, "Endpoints"). Cancelling an upload removes
/// nothing that anybody could have read, so it takes what beginning it took.
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

    /// A method guessed to be an action was how several registries let a push right delete. Every
    /// route of the protocol is here with every method that HTTP has, and some that it has not.
    #[test]
    fn what_is_not_in_the_table_takes_a_right_that_nobody_has() {
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
