//! Which registry a request names, and what it asks of it.
//!
//! A request can name its registry in several ways; nothing below this file knows which was used.
//! A name is looked up among the configured registries and means exactly one of them, or nothing.
//! In this order: `/<registry>/v2/…`, `?ns=`, `/v2/<prefix>/…`, and when none is named the default
//! registry.

use std::sync::Arc;

use crate::oci::{Call, NotACall, RegistryName, RepositoryName, split_registry};
use crate::registry::{Registry, Table};

/// What a request asks, of whom.
#[derive(Debug)]
pub(super) struct Entered {
    /// The registry that was meant. `None` for a ping that names none, where there is no default.
    pub(super) registry: Option<Arc<Registry>>,
    /// What is asked, with the repository's name as the registry has it.
    pub(super) call: Call,
    /// The value of `ns=`, to be answered as `OCI-Namespace`.
    pub(super) namespace: Option<String>,
}

/// Why a request leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotEntered {
    /// The path is not one of the protocol's.
    #[error(transparent)]
    NotACall(#[from] NotACall),
    /// No registry was named, and none is the default.
    #[error("no registry is named, and none is the default")]
    NoDefault,
    /// `ns` stands there more than once.
    #[error("`ns` is given more than once")]
    TwoNamespaces,
    /// The named registry is not configured.
    #[error("registry `{0}` is not configured here")]
    UnknownRegistry(String),
}

/// Finds out.
pub(super) fn enter(table: &Table, path: &str, query: &str) -> Result<Entered, NotEntered> {
    let namespace = namespace(query)?;
    if let Some((name, rest)) = split_registry(path) {
        let registry = named(table, name)?;
        return finish(Some(registry), Call::parse(rest)?, namespace, false);
    }
    let rest = path.strip_prefix("/v2").ok_or(NotACall::NoSuchRoute)?;
    let call = match Call::parse(rest) {
        Err(NotACall::NoSuchRoute) if !rest.starts_with('/') => {
            return Err(NotACall::NoSuchRoute.into());
        }
        call => call?,
    };
    if let Some(name) = &namespace {
        let registry = named(table, name)?;
        return finish(Some(registry), call, namespace, true);
    }
    if let Call::In(repository, _) = &call {
        let first = repository.components().next().unwrap_or_default();
        if let Some(registry) = table.prefixed(first) {
            return finish(Some(Arc::clone(registry)), call, None, true);
        }
    }
    finish(table.default().cloned(), call, None, false)
}

/// The value of `ns=`; an empty one is as good as none.
fn namespace(query: &str) -> Result<Option<String>, NotEntered> {
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "ns")
        .map(|(_, value)| value.into_owned());
    let first = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() { Err(NotEntered::TwoNamespaces) } else { Ok(first) }
}

fn named(table: &Table, name: &str) -> Result<Arc<Registry>, NotEntered> {
    let parsed = name.parse::<RegistryName>().ok();
    let registry = parsed.and_then(|name| table.named(&name));
    // Only so much of a client's text goes into a message.
    let unknown = || NotEntered::UnknownRegistry(name.chars().take(NAME_SHOWN_MAX).collect());
    registry.cloned().ok_or_else(unknown)
}

const NAME_SHOWN_MAX: usize = 64;

/// Gives the repository the name that the registry knows it by.
fn finish(
    registry: Option<Arc<Registry>>,
    call: Call,
    namespace: Option<String>,
    may_strip: bool,
) -> Result<Entered, NotEntered> {
    let Call::In(repository, resource) = call else {
        return Ok(Entered { registry, call, namespace });
    };
    let registry = registry.ok_or(NotEntered::NoDefault)?;
    let repository = if may_strip { stripped(&registry, repository)? } else { repository };
    let repository = in_full(&registry, repository)?;
    let call = Call::In(repository, resource);
    Ok(Entered { registry: Some(registry), call, namespace })
}

/// Without the first component, if that names the registry and something is left.
fn stripped(registry: &Registry, repository: RepositoryName) -> Result<RepositoryName, NotEntered> {
    let Some((first, rest)) = repository.as_str().split_once('/') else { return Ok(repository) };
    let is_called = || first.parse().is_ok_and(|name| registry.is_called(&name));
    if registry.has_prefix(first) || is_called() {
        return rest.parse().map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}

/// Docker Hub's own images lie under `library/`, which people leave out.
fn in_full(registry: &Registry, repository: RepositoryName) -> Result<RepositoryName, NotEntered> {
    if registry.name().as_str() == "docker.io" && repository.components().count() == 1 {
        return repository.under("library").map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}
