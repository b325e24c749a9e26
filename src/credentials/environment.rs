//! The environment variables that sources of credentials look at, as they were when the
//! configuration was read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Variables by name. Their values may be secrets: nothing prints them. Clones share them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CredentialEnvironment {
    variables: Arc<BTreeMap<String, String>>,
}

/// The beginnings of the names that sources look at.
const PREFIXES: [&str; 12] = [
    "AWS_",
    "AZURE_",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CONFIG",
    "GCE_METADATA_",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HOME",
    "IDENTITY_",
    "IMDS_ENDPOINT",
    "REGISTRY_AUTH_FILE",
    "USER",
    "XDG_",
];

impl CredentialEnvironment {
    /// Those of `variables` that a source may look at, and that are not empty.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_known = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let known =
            variables.into_iter().filter(|(name, value)| is_known(name) && !value.is_empty());
        Self { variables: Arc::new(known.collect()) }
    }

    /// The value of a variable.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// All of them.
    pub(super) fn all(&self) -> HashMap<String, String> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The value of a variable as a path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }
}

impl fmt::Debug for CredentialEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
