//! The place where a registry begins: an origin, perhaps a path before `/v2/`, perhaps a project
//! behind it.
//!
//! One host may have several registries, told apart by a path (`https://host/artifactory/api/
//! docker/hub`), and a registry may keep what is mirrored in a project of its own
//! (`https://harbor.corp/v2/hub-proxy`), so that each repository's name begins with it. This file
//! turns a repository's name as clients know it into the upstream's name and URL. Tokens are asked
//! for the upstream's name. Nothing has to be turned back: where a list goes on and where an upload
//! goes on is presented by the door that the client used.

use url::Url;

use crate::oci::{RepositoryName, Resource};

/// The place of a registry, or of a project in one.
#[derive(Clone, Debug)]
pub struct RegistryBase {
    url: Url,
    /// The path of the API, which ends in `/v2/`.
    api: String,
    /// Before each repository's name: empty, or a project and a slash.
    project: String,
}

impl RegistryBase {
    /// The place that `url` describes. The first `v2` among the components of its path is the
    /// API's; what follows is a project. Without one, the API is below the whole path.
    ///
    /// `None` if the project could not be the beginning of a repository's name, or if `url` is
    /// more than `http` or `https`, a host, a port and a path.
    pub fn new(url: &Url) -> Option<Self> {
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let path = format!("{}/", url.path().trim_end_matches('/'));
        let (before, behind) = path.split_once("/v2/").unwrap_or((path.trim_end_matches('/'), ""));
        let project = behind.trim_end_matches('/');
        let is_name = project.is_empty() || project.parse::<RepositoryName>().is_ok();
        (is_plain && is_name).then(|| Self {
            url: url.clone(),
            api: format!("{before}/v2/"),
            project: behind.to_owned(),
        })
    }

    /// The URL as it was configured.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL that every registry has: `/v2/` (distribution-spec, end-1).
    pub(super) fn api_url(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path(&self.api);
        url
    }

    /// The upstream's name of a repository.
    pub(super) fn name_of(&self, repository: &RepositoryName) -> String {
        format!("{}{repository}", self.project)
    }

    /// The URL of something in a repository.
    pub(super) fn url_of(
        &self,
        repository: &RepositoryName,
        resource: &Resource,
        query: &str,
    ) -> Url {
        let Self { api, project, .. } = self;
        let mut url = self.url.clone();
        url.set_path(&format!("{api}{project}{repository}/{}", resource.path()));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> Option<RegistryBase> {
        RegistryBase::new(&url.parse().unwrap())
    }

    #[test]
    fn a_path_goes_before_the_api_and_a_project_before_the_repository() {
        for (url, api, tags, name) in [
            ("https://up.test", "/v2/", "/v2/a/b/tags/list", "a/b"),
            ("https://up.test/", "/v2/", "/v2/a/b/tags/list", "a/b"),
            ("https://up.test/v2", "/v2/", "/v2/a/b/tags/list", "a/b"),
            ("https://up.test/v2/", "/v2/", "/v2/a/b/tags/list", "a/b"),
            ("https://up.test/x/y", "/x/y/v2/", "/x/y/v2/a/b/tags/list", "a/b"),
            ("https://up.test/x/v2", "/x/v2/", "/x/v2/a/b/tags/list", "a/b"),
            ("https://up.test/x/v2/", "/x/v2/", "/x/v2/a/b/tags/list", "a/b"),
            ("https://up.test/v2/hub", "/v2/", "/v2/hub/a/b/tags/list", "hub/a/b"),
            ("https://up.test/v2/hub/", "/v2/", "/v2/hub/a/b/tags/list", "hub/a/b"),
            ("https://up.test/v2/v2/hub", "/v2/", "/v2/v2/hub/a/b/tags/list", "v2/hub/a/b"),
            ("https://up.test/x/v2/o/p", "/x/v2/", "/x/v2/o/p/a/b/tags/list", "o/p/a/b"),
            ("https://up.test/v2/ghcr.io", "/v2/", "/v2/ghcr.io/a/b/tags/list", "ghcr.io/a/b"),
            ("https://up.test/v2x", "/v2x/v2/", "/v2x/v2/a/b/tags/list", "a/b"),
        ] {
            let base = base(url).expect(url);
            let repository = "a/b".parse().unwrap();
            assert_eq!(base.api_url().path(), api, "{url}");
            assert_eq!(base.url_of(&repository, &Resource::Tags, "").path(), tags, "{url}");
            assert_eq!(base.name_of(&repository), name, "{url}");
        }
    }

    #[test]
    fn what_is_no_place_of_a_registry_is_none() {
        for url in [
            "ftp://up.test",
            "file:///x",
            "http://up.test/?x",
            "http://up.test/#x",
            "http://u@up.test/",
            "http://u:p@up.test/",
            "http://up.test/v2/Hub",
            "http://up.test/v2/a//b",
            "http://up.test/v2/-",
        ] {
            assert!(base(url).is_none(), "{url}");
        }
    }
}
