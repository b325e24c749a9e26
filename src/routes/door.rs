//! Which registry a request names, and what it asks of it.
//!
//! A request can name its registry in several ways; nothing below this file knows which was used.
//! A name is looked up among the configured registries and means exactly one of them, or nothing.
//! In this order: `/<registry>/v2/…`, `?ns=`, the host, `/v2/<prefix>/…`, and when none is named the
//! default registry. The first way that is used decides, also where its door is closed: a request that
//! names a registry must not be answered from another one.

use std::sync::Arc;

use super::entrance::BadHost;
use crate::http::HostPort;
use crate::oci::{ApiCall, NotACall, RegistryName, RepositoryName, split_registry};
use crate::registry::{Door, OpenDoors, Registry, RegistrySet};

/// What a request asks, of whom.
#[derive(Debug)]
pub(super) struct ResolvedTarget {
    /// The registry that was meant. `None` for a ping that names none, where there is no default.
    pub(super) registry: Option<Arc<Registry>>,
    /// Whether the request named it. If not, it is only what a request means that names none.
    pub(super) is_named: bool,
    /// What is asked, with the repository's name as the registry has it.
    pub(super) call: ApiCall,
    /// The value of `ns=`, to be answered as `OCI-Namespace`.
    pub(super) namespace: Option<String>,
    /// How the client reaches the repository.
    pub(super) presented: ClientPath,
    /// The registry whose credentials are taken at the host that was called.
    pub(super) with_logins: Option<Arc<Registry>>,
}

/// How the client reaches what it asked of: for paths in answers, which must lead in by the same
/// door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientPath {
    /// From the first slash to the one before the repository's name.
    prefix: String,
    /// What the client calls the repository.
    repository: String,
    namespace: Option<String>,
}

impl ClientPath {
    /// The path of `what` in the repository, with an encoded query, which may be empty.
    pub(super) fn link(&self, what: &str, query: &str) -> String {
        let mut link = format!("{}/{what}", self.repository_path());
        let mut separator = '?';
        if !query.is_empty() {
            link.push(separator);
            link.push_str(query);
            separator = '&';
        }
        if let Some(namespace) = &self.namespace {
            link.push(separator);
            link.push_str("ns=");
            link.extend(form_urlencoded::byte_serialize(namespace.as_bytes()));
        }
        link
    }

    /// The path of the repository, which a client can neither choose nor lead elsewhere by.
    pub(super) fn repository_path(&self) -> String {
        format!("{}{}", self.prefix, self.repository)
    }
}

/// Why a request leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    /// The host that it names, or does not.
    #[error(transparent)]
    BadHost(#[from] BadHost),
    /// The listener does not let it in this way.
    #[error("registries are not named in this way on this address")]
    Closed(Door),
    /// The path is not one of the protocol's.
    #[error(transparent)]
    NotACall(#[from] NotACall),
    /// No registry was named, and none is the default.
    #[error("no registry is named, and none is the default")]
    NoDefault,
    /// `ns` stands there more than once, with different values.
    #[error("`ns` is given more than once")]
    TwoNamespaces,
    /// The named registry is not configured.
    #[error("registry `{0}` is not configured here")]
    UnknownRegistry(String),
}

/// What of a request says which registry it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorQuery<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// With its port; `None` where it cannot matter.
    pub(super) host: Option<&'a HostPort>,
}

/// Finds out.
///
/// Where a registry is asked with clients' own credentials, it is entered only by the hosts at which its
/// credentials are taken: elsewhere nobody could present one, and none may be taken for it.
pub(super) fn enter(
    table: &RegistrySet,
    doors: OpenDoors,
    asked: DoorQuery<'_>,
) -> Result<ResolvedTarget, ResolveError> {
    let entered = enter_any(table, doors, asked)?;
    let with_logins = table.with_logins(asked.host).cloned();
    let theirs = entered.registry.as_ref().filter(|registry| registry.grants().is_some());
    let Some(theirs) = theirs else { return Ok(ResolvedTarget { with_logins, ..entered }) };
    if with_logins.as_ref().is_some_and(|taken| taken.name() == theirs.name()) {
        return Ok(ResolvedTarget { with_logins, ..entered });
    }
    match entered.call {
        // Nobody asks for anything of it.
        ApiCall::Ping if !entered.is_named => {
            Ok(ResolvedTarget { registry: None, with_logins, ..entered })
        }
        _ => Err(ResolveError::UnknownRegistry(theirs.name().to_string())),
    }
}

fn enter_any(
    table: &RegistrySet,
    doors: OpenDoors,
    asked: DoorQuery<'_>,
) -> Result<ResolvedTarget, ResolveError> {
    let namespace = namespace(asked.query)?;
    let open = |door| if doors.contains(door) { Ok(()) } else { Err(ResolveError::Closed(door)) };
    if let Some((name, rest)) = split_registry(asked.path) {
        open(Door::Registry)?;
        let registry = named(table, name)?;
        let before = format!("/{name}/v2/");
        let named = finish(Some(registry), ApiCall::parse(rest)?, namespace, before, false)?;
        return Ok(ResolvedTarget { is_named: true, ..named });
    }
    let call = call(asked.path)?;
    if let Some(name) = &namespace {
        open(Door::Namespace)?;
        let registry = named(table, name)?;
        let named = finish(Some(registry), call, namespace, BEFORE.to_owned(), true)?;
        return Ok(ResolvedTarget { is_named: true, ..named });
    }
    if let Some(registry) = asked.host.and_then(|host| table.hosted(host)) {
        open(Door::Host)?;
        let named = finish(Some(Arc::clone(registry)), call, None, BEFORE.to_owned(), true)?;
        return Ok(ResolvedTarget { is_named: true, ..named });
    }
    if let ApiCall::In(repository, _) = &call {
        if let Some((first, _)) = repository.as_str().split_once('/')
            && let Some(registry) = table.prefixed(first)
        {
            open(Door::Prefix)?;
            return finish(Some(Arc::clone(registry)), call, None, BEFORE.to_owned(), true);
        }
        // A ping is for all doors.
        open(Door::Mirror)?;
    }
    finish(table.default().cloned(), call, None, BEFORE.to_owned(), false)
}

/// What stands before the repository's name where no registry does.
const BEFORE: &str = "/v2/";

/// What a path that begins with `/v2` asks.
fn call(path: &str) -> Result<ApiCall, NotACall> {
    let rest = path.strip_prefix("/v2").ok_or(NotACall::NoSuchRoute)?;
    match ApiCall::parse(rest) {
        Err(NotACall::NoSuchRoute) if !rest.starts_with('/') => Err(NotACall::NoSuchRoute),
        call => call,
    }
}

/// The value of `ns=`; an empty one is as good as none.
fn namespace(query: &str) -> Result<Option<String>, ResolveError> {
    if query.is_empty() {
        return Ok(None);
    }
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "ns")
        .map(|(_, value)| value.into_owned());
    let first = values.next();
    // containerd adds it to the location of an upload, which has it already.
    if values.any(|value| Some(&value) != first.as_ref()) {
        return Err(ResolveError::TwoNamespaces);
    }
    Ok(first.filter(|value| !value.is_empty()))
}

fn named(table: &RegistrySet, name: &str) -> Result<Arc<Registry>, ResolveError> {
    let parsed = name.parse::<RegistryName>().ok();
    let registry = parsed.and_then(|name| table.named(&name));
    // Only so much of a client's text goes into a message.
    let unknown = || ResolveError::UnknownRegistry(name.chars().take(NAME_SHOWN_MAX).collect());
    registry.cloned().ok_or_else(unknown)
}

const NAME_SHOWN_MAX: usize = 64;

/// Gives the repository the name that the registry knows it by.
fn finish(
    registry: Option<Arc<Registry>>,
    call: ApiCall,
    namespace: Option<String>,
    before: String,
    may_strip: bool,
) -> Result<ResolvedTarget, ResolveError> {
    let mut presented =
        ClientPath { prefix: before, repository: String::new(), namespace: namespace.clone() };
    let ApiCall::In(called, resource) = call else {
        return Ok(ResolvedTarget {
            registry,
            is_named: false,
            call,
            namespace,
            presented,
            with_logins: None,
        });
    };
    let registry = registry.ok_or(ResolveError::NoDefault)?;
    let repository = if may_strip { stripped(&registry, called.clone())? } else { called.clone() };
    let gone = called.as_str().len() - repository.as_str().len();
    presented.prefix.push_str(&called.as_str()[..gone]);
    repository.as_str().clone_into(&mut presented.repository);
    let call = ApiCall::In(in_full(&registry, repository)?, resource);
    Ok(ResolvedTarget {
        registry: Some(registry),
        is_named: false,
        call,
        namespace,
        presented,
        with_logins: None,
    })
}

/// Without the first component, if that names the registry and something is left.
fn stripped(
    registry: &Registry,
    repository: RepositoryName,
) -> Result<RepositoryName, ResolveError> {
    let Some((first, rest)) = repository.as_str().split_once('/') else { return Ok(repository) };
    let is_called = || first.parse().is_ok_and(|name| registry.is_called(&name));
    if registry.has_prefix(first) || is_called() {
        return rest.parse().map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}

/// Docker Hub's own images lie under `library/`, which people leave out.
fn in_full(
    registry: &Registry,
    repository: RepositoryName,
) -> Result<RepositoryName, ResolveError> {
    if registry.name().as_str() == "docker.io" && repository.components().count() == 1 {
        return repository.under("library").map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::http::{EgressRoute, InstanceId, SystemNetwork};
    use crate::registry::{AskedAs, RegistryOptions, RegistryRules, TagPolicy};
    use crate::upstream::{self, ProxyCredential};

    fn table() -> RegistrySet {
        let entry =
            |name: &str, aliases: &[&str], prefix: Option<&str>, hosts: &[&str]| RegistryOptions {
                name: name.parse().unwrap(),
                aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
                prefix: prefix.map(str::to_owned),
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                is_default: name == "docker.io",
                tags: TagPolicy { ttl: Duration::ZERO, max_stale: Duration::ZERO },
                rules: RegistryRules::default(),
                identity: AskedAs::Proxy,
                cache_status: true,
                upstream: upstream::UpstreamOptions {
                    url: Url::parse("http://registry.test").unwrap(),
                    credential: ProxyCredential::Anonymous,
                    ca_pem: None,
                    client_identity: None,
                    token_hosts: Vec::new(),
                    redirect_hosts: Vec::new(),
                    max_connections: 1,
                },
                mirrors: Vec::new(),
            };
        let entries = [
            entry("docker.io", &["index.docker.io"], Some("docker.io"), &["hub.corp"]),
            entry("ghcr.io", &[], Some("ghcr.io"), &["ghcr.corp:5443"]),
            entry("registry.corp:5000", &[], Some("corp.internal"), &[]),
        ];
        let egress = EgressRoute::direct(Arc::new(SystemNetwork), InstanceId::random());
        RegistrySet::build(&entries, &egress, None).unwrap()
    }

    fn entered(path: &str, query: &str) -> Result<(String, String), ResolveError> {
        entered_at("larder.test:5000", OpenDoors::all(), path, query)
    }

    fn entered_at(
        host: &str,
        doors: OpenDoors,
        path: &str,
        query: &str,
    ) -> Result<(String, String), ResolveError> {
        let host = host.parse().unwrap();
        let entered = enter(&table(), doors, DoorQuery { path, query, host: Some(&host) })?;
        let registry = entered.registry.map(|registry| registry.name().to_string());
        let ApiCall::In(repository, _) = entered.call else { panic!("{path} is a ping") };
        Ok((registry.unwrap_or_default(), repository.to_string()))
    }

    /// One name means one registry, by whichever door it comes in.
    #[test]
    fn every_door_leads_to_its_registry() {
        let table = [
            ("/v2/alpine/manifests/l", "", "docker.io", "library/alpine"),
            ("/v2/a/b/manifests/l", "", "docker.io", "a/b"),
            ("/v2/ghcr.io/o/a/manifests/l", "", "ghcr.io", "o/a"),
            ("/v2/docker.io/alpine/manifests/l", "", "docker.io", "library/alpine"),
            ("/v2/corp.internal/a/manifests/l", "", "registry.corp:5000", "a"),
            // Only a configured prefix names a registry; others are repositories.
            ("/v2/index.docker.io/a/manifests/l", "", "docker.io", "index.docker.io/a"),
            ("/v2/quay.io/a/manifests/l", "", "docker.io", "quay.io/a"),
            ("/v2/ghcr.io/manifests/l", "", "docker.io", "library/ghcr.io"),
            ("/ghcr.io/v2/o/a/manifests/l", "", "ghcr.io", "o/a"),
            ("/registry.corp:5000/v2/a/manifests/l", "", "registry.corp:5000", "a"),
            ("/INDEX.docker.io:443/v2/a/manifests/l", "", "docker.io", "library/a"),
            ("/v2/o/a/manifests/l", "ns=ghcr.io", "ghcr.io", "o/a"),
            ("/v2/a/manifests/l", "x=1&ns=Index.Docker.IO", "docker.io", "library/a"),
            ("/v2/a/manifests/l", "ns=registry.corp%3A5000", "registry.corp:5000", "a"),
            ("/v2/a/manifests/l", "ns=", "docker.io", "library/a"),
            // `ns` and the path name the same registry, or the path is the repository's own.
            ("/v2/ghcr.io/o/a/manifests/l", "ns=ghcr.io", "ghcr.io", "o/a"),
            ("/v2/docker.io/o/a/manifests/l", "ns=ghcr.io", "ghcr.io", "docker.io/o/a"),
            // The registry before `/v2` comes first.
            ("/ghcr.io/v2/o/a/manifests/l", "ns=docker.io", "ghcr.io", "o/a"),
            ("/ghcr.io/v2/ghcr.io/a/manifests/l", "", "ghcr.io", "ghcr.io/a"),
        ];
        for (path, query, registry, repository) in table {
            let want = Ok((registry.to_owned(), repository.to_owned()));
            assert_eq!(entered(path, query), want, "{path}?{query}");
        }
    }

    /// A host means its registry, unless what comes before it names another one.
    #[test]
    fn a_host_means_its_registry_after_ns_and_before_the_prefix() {
        let table = [
            ("hub.corp:80", "/v2/alpine/manifests/l", "", "docker.io", "library/alpine"),
            ("HUB.corp.:9", "/v2/a/b/manifests/l", "", "docker.io", "a/b"),
            ("ghcr.corp:5443", "/v2/o/a/manifests/l", "", "ghcr.io", "o/a"),
            // Another port is another host.
            ("ghcr.corp:443", "/v2/o/a/manifests/l", "", "docker.io", "o/a"),
            ("ghcr.corp.evil:5443", "/v2/o/a/manifests/l", "", "docker.io", "o/a"),
            // The path's first component is stripped only if it names the host's registry too.
            ("ghcr.corp:5443", "/v2/ghcr.io/o/a/manifests/l", "", "ghcr.io", "o/a"),
            ("hub.corp:80", "/v2/index.docker.io/o/a/manifests/l", "", "docker.io", "o/a"),
            ("ghcr.corp:5443", "/v2/docker.io/o/a/manifests/l", "", "ghcr.io", "docker.io/o/a"),
            ("ghcr.corp:5443", "/v2/ghcr.corp/a/manifests/l", "", "ghcr.io", "ghcr.corp/a"),
            // What stands before the host wins.
            ("ghcr.corp:5443", "/v2/o/a/manifests/l", "ns=docker.io", "docker.io", "o/a"),
            ("ghcr.corp:5443", "/docker.io/v2/o/a/manifests/l", "", "docker.io", "o/a"),
            ("ghcr.corp:5443", "/v2/o/a/manifests/l", "ns=", "ghcr.io", "o/a"),
        ];
        for (host, path, query, registry, repository) in table {
            let want = Ok((registry.to_owned(), repository.to_owned()));
            assert_eq!(
                entered_at(host, OpenDoors::all(), path, query),
                want,
                "{host}{path}?{query}"
            );
        }
    }

    /// What a closed door would have named must not be looked for behind another one.
    #[test]
    fn a_closed_door_leads_nowhere_and_not_to_another_registry() {
        let rows = [
            (Door::Registry, "a:80", "/ghcr.io/v2/o/a/manifests/l", ""),
            (Door::Namespace, "a:80", "/v2/o/a/manifests/l", "ns=ghcr.io"),
            (Door::Host, "ghcr.corp:5443", "/v2/o/a/manifests/l", ""),
            (Door::Prefix, "a:80", "/v2/ghcr.io/o/a/manifests/l", ""),
            (Door::Mirror, "a:80", "/v2/o/a/manifests/l", ""),
        ];
        for (closed, host, path, query) in rows {
            for door in Door::ALL {
                let others: OpenDoors =
                    Door::ALL.into_iter().filter(|other| *other != door).collect();
                let entered = entered_at(host, others, path, query);
                if door == closed {
                    assert_eq!(entered, Err(ResolveError::Closed(closed)), "{path}");
                } else {
                    assert!(entered.is_ok(), "{path} needs no {door:?}");
                }
            }
        }
        let prefix: OpenDoors = [Door::Prefix].into_iter().collect();
        let host: HostPort = "a:80".parse().unwrap();
        let ping = DoorQuery { path: "/v2/", query: "", host: Some(&host) };
        assert!(enter(&table(), prefix, ping).is_ok(), "clients of every door ping");
    }

    /// A link that led in by another door could mean another registry's repository.
    #[test]
    fn a_link_leads_in_by_the_same_door_and_to_the_same_repository() {
        let host = |text: &str| text.parse::<HostPort>().unwrap();
        let (plain, ghcr) = (host("larder.test:80"), host("ghcr.corp:5443"));
        for (host, path, query, want) in [
            (&plain, "/v2/alpine", "", "/v2/alpine/tags/list?n=1"),
            (&plain, "/v2/ghcr.io/o/a", "", "/v2/ghcr.io/o/a/tags/list?n=1"),
            (&plain, "/v2/docker.io/alpine", "", "/v2/docker.io/alpine/tags/list?n=1"),
            (&plain, "/GHCR.io/v2/o/a", "", "/GHCR.io/v2/o/a/tags/list?n=1"),
            (&plain, "/v2/o/a", "ns=ghcr.io", "/v2/o/a/tags/list?n=1&ns=ghcr.io"),
            (
                &plain,
                "/v2/ghcr.io/ghcr.io/a",
                "ns=ghcr.io",
                "/v2/ghcr.io/ghcr.io/a/tags/list?n=1&ns=ghcr.io",
            ),
            (
                &plain,
                "/v2/a",
                "ns=registry.corp:5000",
                "/v2/a/tags/list?n=1&ns=registry.corp%3A5000",
            ),
            (&ghcr, "/v2/o/a", "", "/v2/o/a/tags/list?n=1"),
            (&ghcr, "/v2/ghcr.io/ghcr.io/a", "", "/v2/ghcr.io/ghcr.io/a/tags/list?n=1"),
        ] {
            let door = |path: &str, query: &str| {
                let asked = DoorQuery { path, query, host: Some(host) };
                enter(&table(), OpenDoors::all(), asked).unwrap()
            };
            let entered = door(&format!("{path}/tags/list"), query);
            let link = entered.presented.link("tags/list", "n=1");
            assert_eq!(link, want);
            let (path, query) = link.split_once('?').unwrap();
            let again = door(path, query);
            assert_eq!(again.call, entered.call, "{want}");
            assert_eq!(again.registry.unwrap().name(), entered.registry.unwrap().name(), "{want}");
        }
    }

    #[test]
    fn a_name_that_is_not_configured_leads_nowhere() {
        let unknown = |name: &str| Err(ResolveError::UnknownRegistry(name.to_owned()));
        for name in ["evil.test", "169.254.169.254", "http://127.0.0.1:1/", "docker.io@evil"] {
            let query = format!("ns={}", name.replace(':', "%3A").replace('/', "%2F"));
            assert_eq!(entered("/v2/a/manifests/l", &query), unknown(name));
        }
        assert_eq!(entered("/evil.test/v2/a/manifests/l", ""), unknown("evil.test"));
        let twice = entered("/v2/a/manifests/l", "ns=ghcr.io&ns=docker.io");
        assert_eq!(twice, Err(ResolveError::TwoNamespaces));
        let the_same = entered("/v2/o/a/manifests/l", "ns=ghcr.io&ns=ghcr.io");
        assert_eq!(the_same, Ok(("ghcr.io".to_owned(), "o/a".to_owned())));
        for path in ["/", "/v1/a", "/V2/a/manifests/l", "/v2x/a/manifests/l", "//v2/a/manifests/l"]
        {
            assert!(entered(path, "").is_err(), "{path}");
        }
    }
}
