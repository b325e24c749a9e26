//! Which right a request takes: the explicit table of method and route.
//!
//! What is not in the table is refused, whoever asks. No method is guessed to mean what another one
//! means.

use http::Method;

use crate::oci::{Call, Resource};

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
pub enum Right {
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

impl Right {
    /// The right that a request takes; `None` for what the protocol does not have.
    pub fn of(method: &Method, call: &Call) -> Option<Self> {
        let route = Route::of(call);
        let is_it = |(of_method, of_route, _): &&(&str, Route, Self)| {
            *of_method == method.as_str() && *of_route == route
        };
        TABLE.iter().find(is_it).map(|(_, _, right)| *right)
    }
}

/// The methods that the protocol has for a call; where nothing takes pushes, those that read.
/// Written as in `Allow` (RFC 9110, 10.2.1).
pub fn methods(call: &Call, takes_pushes: bool) -> String {
    let route = Route::of(call);
    let is_taken =
        |right: Right| takes_pushes || matches!(right, Right::Enter | Right::Do(Action::Pull));
    let of_route = TABLE.iter().filter(|(_, of, right)| *of == route && is_taken(*right));
    of_route.map(|(method, ..)| *method).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Base,
    Blob,
    Manifest,
    Referrers,
    Tags,
    Upload,
    Uploads,
}

impl Route {
    fn of(call: &Call) -> Self {
        match call {
            Call::Ping => Self::Base,
            Call::In(_, Resource::Blob(_)) => Self::Blob,
            Call::In(_, Resource::Manifest(_)) => Self::Manifest,
            Call::In(_, Resource::Referrers(_)) => Self::Referrers,
            Call::In(_, Resource::Tags) => Self::Tags,
            Call::In(_, Resource::Upload(None)) => Self::Uploads,
            Call::In(_, Resource::Upload(Some(_))) => Self::Upload,
        }
    }
}

/// Every method that every route has (distribution-spec, "Endpoints"). Cancelling an upload removes
/// nothing that anybody could have read, so it takes what beginning it took.
const TABLE: &[(&str, Route, Right)] = &[
    ("GET", Route::Base, Right::Enter),
    ("HEAD", Route::Base, Right::Enter),
    ("GET", Route::Blob, Right::Do(Action::Pull)),
    ("HEAD", Route::Blob, Right::Do(Action::Pull)),
    ("DELETE", Route::Blob, Right::Do(Action::Delete)),
    ("GET", Route::Manifest, Right::Do(Action::Pull)),
    ("HEAD", Route::Manifest, Right::Do(Action::Pull)),
    ("PUT", Route::Manifest, Right::Do(Action::Push)),
    ("DELETE", Route::Manifest, Right::Do(Action::Delete)),
    ("GET", Route::Referrers, Right::Do(Action::Pull)),
    ("GET", Route::Tags, Right::Do(Action::Pull)),
    ("DELETE", Route::Upload, Right::Do(Action::Push)),
    ("GET", Route::Upload, Right::Do(Action::Push)),
    ("PATCH", Route::Upload, Right::Do(Action::Push)),
    ("PUT", Route::Upload, Right::Do(Action::Push)),
    ("POST", Route::Uploads, Right::Do(Action::Push)),
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
            let call = Call::parse(path).unwrap();
            let right = |name: &&str| {
                let method = Method::from_bytes(name.as_bytes()).unwrap();
                Right::of(&method, &call).map(|right| match right {
                    Right::Do(action) => format!("{name}={}", action.as_str()),
                    Right::Enter => format!("{name}=enter"),
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
