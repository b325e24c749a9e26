//! Which action a request is: the explicit table of method and route.

use http::Method;

use crate::oci::Resource;

/// What can be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove a manifest, a tag or a blob.
    Delete,
    /// Read.
    Pull,
    /// Write.
    Push,
}

impl Action {
    /// The action of a request; `None` for what the protocol does not have.
    pub fn of(method: &Method, resource: &Resource) -> Option<Self> {
        let route = match resource {
            Resource::Blob(_) => Route::Blob,
            Resource::Manifest(_) => Route::Manifest,
            Resource::Referrers(_) => Route::Referrers,
            Resource::Tags => Route::Tags,
            Resource::Upload => Route::Upload,
        };
        TABLE
            .iter()
            .find(|(method_name, of_route, _)| {
                *method_name == method.as_str() && *of_route == route
            })
            .map(|(_, _, action)| *action)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Blob,
    Manifest,
    Referrers,
    Tags,
    Upload,
}

/// Every method that every route has (distribution-spec, "Endpoints").
const TABLE: &[(&str, Route, Action)] = &[
    ("GET", Route::Blob, Action::Pull),
    ("HEAD", Route::Blob, Action::Pull),
    ("DELETE", Route::Blob, Action::Delete),
    ("GET", Route::Manifest, Action::Pull),
    ("HEAD", Route::Manifest, Action::Pull),
    ("PUT", Route::Manifest, Action::Push),
    ("DELETE", Route::Manifest, Action::Delete),
    ("GET", Route::Referrers, Action::Pull),
    ("GET", Route::Tags, Action::Pull),
    ("DELETE", Route::Upload, Action::Push),
    ("GET", Route::Upload, Action::Push),
    ("PATCH", Route::Upload, Action::Push),
    ("POST", Route::Upload, Action::Push),
    ("PUT", Route::Upload, Action::Push),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A method guessed to be an action was how several registries let a push right delete.
    #[test]
    fn what_is_not_in_the_table_is_no_action() {
        let methods =
            ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"];
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let tag = Resource::Manifest("latest".parse().unwrap());
        let blob = Resource::Blob(digest);
        let actions = |resource: &Resource| {
            let action = |name: &&str| {
                let method = Method::from_bytes(name.as_bytes()).unwrap();
                Action::of(&method, resource).map(|action| format!("{name}={action:?}"))
            };
            methods.iter().filter_map(action).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(actions(&blob), "GET=Pull HEAD=Pull DELETE=Delete");
        assert_eq!(actions(&tag), "GET=Pull HEAD=Pull PUT=Push DELETE=Delete");
        assert_eq!(actions(&Resource::Tags), "GET=Pull");
        assert_eq!(
            actions(&Resource::Upload),
            "GET=Push PUT=Push POST=Push PATCH=Push DELETE=Push"
        );
    }
}
