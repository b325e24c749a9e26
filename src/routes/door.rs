//! The registry that a request names, and the call that it makes there.
//!
//! A request can name its registry in several ways (doors); no other file knows which one was used.
//! A name is looked up among the configured registries and means exactly one of them, or none. The
//! doors are tried in this order: `/<registry>/v2/…`, `?ns=`, the host, `/v2/<prefix>/…`, and the
//! default registry. The first door that the request uses decides, even if it is closed at this
//! listener: a request that names one registry must not be answered from another.
//!
//! Whether the client may make the call is decided in `answer.rs`.

use std::sync::Arc;

use super::error::RequestError;
use crate::http::HostPort;
use crate::oci::{ApiCall, NotACall, RegistryName, RepositoryName, split_registry};
use crate::registry::{Door, OpenDoors, Registry, RegistrySet};

/// The registry and the call that a request means.
#[derive(Debug)]
pub(super) struct ResolvedTarget {
    /// The registry; `None` for a ping that names none, where there is no default.
    pub(super) registry: Option<Arc<Registry>>,
    /// Whether the request named the registry, rather than meaning the default one.
    pub(super) is_named: bool,
    /// The call, with the repository's name as the registry has it.
    pub(super) call: ApiCall,
    /// The path by which the client reaches the repository.
    pub(super) client_path: ClientPath,
    /// The registry that clients log in to at the host they called.
    pub(super) login_registry: Option<Arc<Registry>>,
}

impl ResolvedTarget {
    /// The registry that the request is about. A ping that names none is about every one at its
    /// host.
    pub(super) fn subject(&self) -> Option<&Registry> {
        self.registry.as_deref().filter(|_| self.is_named || self.call != ApiCall::Ping)
    }
}

/// The path by which a client reaches a repository. Paths in answers are built from it, so that
/// they lead through the same door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientPath {
    /// From the first slash to the one before the repository's name.
    prefix: String,
    /// The repository's name in the client's path.
    repository: String,
    /// The value of `ns=`, also sent back as `OCI-Namespace`.
    pub(super) namespace: Option<String>,
}

impl ClientPath {
    /// The path of `resource` in the repository, with an encoded query, which may be empty.
    pub(super) fn link(&self, resource: &str, query: &str) -> String {
        let mut link = format!("{}/{resource}", self.repository_path());
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

    /// The path of the repository. It is made of parsed names, so a client can lead it nowhere
    /// else.
    pub(super) fn repository_path(&self) -> String {
        format!("{}{}", self.prefix, self.repository)
    }
}

/// The parts of a request that name a registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorQuery<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// With its port; `None` if no listener or registry has hosts of its own.
    pub(super) host: Option<&'a HostPort>,
}

/// Resolves the registry and the call.
///
/// A registry that is asked with clients' own credentials is found only at the hosts where clients
/// log in to it: at another host no credential may be taken for it.
pub(super) fn resolve(
    registries: &RegistrySet,
    doors: OpenDoors,
    query: DoorQuery<'_>,
) -> Result<ResolvedTarget, RequestError> {
    let target = resolve_door(registries, doors, query)?;
    let login_registry = registries.login_registry(query.host);
    let theirs = target.registry.as_ref().filter(|registry| registry.grants().is_some());
    let Some(theirs) = theirs else { return Ok(ResolvedTarget { login_registry, ..target }) };
    if login_registry.as_ref().is_some_and(|login| login.name() == theirs.name()) {
        return Ok(ResolvedTarget { login_registry, ..target });
    }
    match target.call {
        // A ping that names no registry is about none.
        ApiCall::Ping if !target.is_named => {
            Ok(ResolvedTarget { registry: None, login_registry, ..target })
        }
        _ => Err(RequestError::UnknownRegistry(theirs.name().to_string())),
    }
}

fn resolve_door(
    registries: &RegistrySet,
    doors: OpenDoors,
    query: DoorQuery<'_>,
) -> Result<ResolvedTarget, RequestError> {
    let namespace = namespace(query.query)?;
    let open =
        |door| if doors.contains(door) { Ok(()) } else { Err(RequestError::ClosedDoor(door)) };
    if let Some((name, rest)) = split_registry(query.path) {
        open(Door::Registry)?;
        let registry = by_name(registries, name)?;
        let prefix = format!("/{name}/v2/");
        let named = DoorMatch { namespace, may_strip: false, prefix, ..DoorMatch::named(registry) };
        return named.target(ApiCall::parse(rest)?);
    }
    let rest = query.path.strip_prefix("/v2").ok_or(NotACall::NoSuchRoute)?;
    let call = ApiCall::parse(rest).map_err(|error| not_a_call(registries, rest, error))?;
    if let Some(name) = &namespace {
        open(Door::Namespace)?;
        let registry = by_name(registries, name)?;
        return DoorMatch { namespace, ..DoorMatch::named(registry) }.target(call);
    }
    if let Some(registry) = query.host.and_then(|host| registries.by_host(host)) {
        open(Door::Host)?;
        return DoorMatch::named(registry).target(call);
    }
    if let ApiCall::In(repository, _) = &call {
        if let Some(registry) = by_prefix(registries, repository)? {
            open(Door::Prefix)?;
            return DoorMatch::named(registry).target(call);
        }
        // A ping passes whichever doors are open.
        open(Door::Mirror)?;
    }
    DoorMatch::default_registry(registries).target(call)
}

/// The value of `ns=`; an empty one counts as none.
fn namespace(query: &str) -> Result<Option<String>, RequestError> {
    if query.is_empty() {
        return Ok(None);
    }
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "ns")
        .map(|(_, value)| value.into_owned());
    let first = values.next();
    // containerd adds `ns` to the location of an upload, which has it already.
    if values.any(|value| Some(&value) != first.as_ref()) {
        return Err(RequestError::ConflictingNamespaces);
    }
    Ok(first.filter(|value| !value.is_empty()))
}

fn by_name(registries: &RegistrySet, name: &str) -> Result<Arc<Registry>, RequestError> {
    let parsed = name.parse::<RegistryName>().ok();
    let registry = parsed.and_then(|name| registries.by_name(&name));
    // The message repeats only the beginning of a client's text.
    let unknown = || RequestError::UnknownRegistry(name.chars().take(NAME_SHOWN_MAX).collect());
    registry.ok_or_else(unknown)
}

const NAME_SHOWN_MAX: usize = 64;

/// The registry that the first of several components names.
///
/// Docker Hub has no namespace with a dot: where it is the default, such an image is another
/// registry's, and its name must not reach the Hub. Others have some, as gcr.io has `google.com/…`.
fn by_prefix(
    registries: &RegistrySet,
    repository: &RepositoryName,
) -> Result<Option<Arc<Registry>>, RequestError> {
    let Some((first, _)) = repository.as_str().split_once('/') else { return Ok(None) };
    let registry = registries.by_prefix(first);
    let is_foreign =
        first.contains('.') && registries.default_registry().is_none_or(|it| is_hub(it));
    if registry.is_none() && is_foreign {
        return Err(unknown_prefix(registries, first));
    }
    Ok(registry)
}

/// The error of a path that begins with a registry that has no such prefix.
fn unknown_prefix(registries: &RegistrySet, name: &str) -> RequestError {
    let known = by_name(registries, name);
    known.map_or_else(|error| error, |_| RequestError::UnknownPrefix(name.to_owned()))
}

/// The error of a path that is no call. No repository's name has a port, but a registry's has.
fn not_a_call(registries: &RegistrySet, rest: &str, error: NotACall) -> RequestError {
    match (error, rest.split('/').nth(1)) {
        (NotACall::Name(_), Some(first)) if first.contains(':') => {
            unknown_prefix(registries, first)
        }
        _ => error.into(),
    }
}

/// The registry that a door led to, and the path that led there.
struct DoorMatch {
    registry: Option<Arc<Registry>>,
    is_named: bool,
    namespace: Option<String>,
    /// From the first slash to the one before the repository's name.
    prefix: String,
    /// Whether the first component of the path may name the registry once more.
    may_strip: bool,
}

impl DoorMatch {
    /// A registry that the request names, at `/v2/`.
    fn named(registry: Arc<Registry>) -> Self {
        let prefix = "/v2/".to_owned();
        let registry = Some(registry);
        Self { registry, is_named: true, namespace: None, prefix, may_strip: true }
    }

    /// The registry of requests that name none.
    fn default_registry(registries: &RegistrySet) -> Self {
        let prefix = "/v2/".to_owned();
        let registry = registries.default_registry().cloned();
        Self { registry, is_named: false, namespace: None, prefix, may_strip: false }
    }

    /// The target of a call, with the repository's name as the registry has it.
    fn target(self, call: ApiCall) -> Result<ResolvedTarget, RequestError> {
        let Self { registry, is_named, namespace, prefix, may_strip } = self;
        let login_registry = None;
        let mut client_path = ClientPath { prefix, repository: String::new(), namespace };
        let ApiCall::In(asked, resource) = call else {
            return Ok(ResolvedTarget { registry, is_named, call, client_path, login_registry });
        };
        let found = registry.as_deref().ok_or(RequestError::NoDefaultRegistry)?;
        let repository = if may_strip { stripped(found, asked.clone())? } else { asked.clone() };
        let stripped_len = asked.as_str().len() - repository.as_str().len();
        client_path.prefix.push_str(&asked.as_str()[..stripped_len]);
        repository.as_str().clone_into(&mut client_path.repository);
        let call = ApiCall::In(official(found, repository)?, resource);
        Ok(ResolvedTarget { registry, is_named, call, client_path, login_registry })
    }
}

/// The name without its first component, if that names the registry and another one follows.
fn stripped(
    registry: &Registry,
    repository: RepositoryName,
) -> Result<RepositoryName, RequestError> {
    let Some((first, rest)) = repository.as_str().split_once('/') else { return Ok(repository) };
    let is_name = || first.parse().is_ok_and(|name| registry.is_named(&name));
    if registry.has_prefix(first) || is_name() {
        return rest.parse().map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}

/// The full name of Docker Hub's official images, which lie under `library/`.
fn official(
    registry: &Registry,
    repository: RepositoryName,
) -> Result<RepositoryName, RequestError> {
    if is_hub(registry) && repository.components().count() == 1 {
        return repository.under("library").map_err(|error| NotACall::Name(error).into());
    }
    Ok(repository)
}

fn is_hub(registry: &Registry) -> bool {
    registry.name().as_str() == "docker.io"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::http::{EgressRoute, InstanceId, SystemNetwork};
    use crate::registry::{AskedAs, RegistryOptions, RegistryRules, TagPolicy};
    use crate::upstream::UpstreamOptions;

    fn registries() -> RegistrySet {
        let entry =
            |name: &str, aliases: &[&str], prefix: Option<&str>, hosts: &[&str]| RegistryOptions {
                name: name.parse().unwrap(),
                pattern: None,
                aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
                prefix: prefix.map(str::to_owned),
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                is_default: name == "docker.io",
                tags: TagPolicy { ttl: Duration::ZERO, max_stale: Duration::ZERO },
                rules: RegistryRules::default(),
                identity: AskedAs::Proxy,
                cache_status: true,
                upstream: UpstreamOptions::for_test(Url::parse("http://registry.test").unwrap()),
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

    fn refused(error: &RequestError) -> String {
        format!("{error:?}")
    }

    fn resolve_by(path: &str, query: &str) -> Result<(String, String), String> {
        resolve_at("larder.test:5000", OpenDoors::all(), path, query)
    }

    fn resolve_at(
        host: &str,
        doors: OpenDoors,
        path: &str,
        query: &str,
    ) -> Result<(String, String), String> {
        let host = host.parse().unwrap();
        let query = DoorQuery { path, query, host: Some(&host) };
        let target = resolve(&registries(), doors, query).map_err(|error| refused(&error))?;
        let registry = target.registry.map(|registry| registry.name().to_string());
        let ApiCall::In(repository, _) = target.call else { panic!("{path} is a ping") };
        Ok((registry.unwrap_or_default(), repository.to_string()))
    }

    /// One name means one registry, whichever door the request uses.
    #[test]
    fn every_door_leads_to_the_registry_it_names() {
        let table = [
            ("/v2/alpine/manifests/l", "", "docker.io", "library/alpine"),
            ("/v2/a/b/manifests/l", "", "docker.io", "a/b"),
            ("/v2/ghcr.io/o/a/manifests/l", "", "ghcr.io", "o/a"),
            ("/v2/docker.io/alpine/manifests/l", "", "docker.io", "library/alpine"),
            ("/v2/corp.internal/a/manifests/l", "", "registry.corp:5000", "a"),
            // One component is a repository.
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
            assert_eq!(resolve_by(path, query), want, "{path}?{query}");
        }
    }

    /// A host means its registry, unless an earlier door names another one.
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
            // A name before the host wins.
            ("ghcr.corp:5443", "/v2/o/a/manifests/l", "ns=docker.io", "docker.io", "o/a"),
            ("ghcr.corp:5443", "/docker.io/v2/o/a/manifests/l", "", "docker.io", "o/a"),
            ("ghcr.corp:5443", "/v2/o/a/manifests/l", "ns=", "ghcr.io", "o/a"),
        ];
        for (host, path, query, registry, repository) in table {
            let want = Ok((registry.to_owned(), repository.to_owned()));
            assert_eq!(
                resolve_at(host, OpenDoors::all(), path, query),
                want,
                "{host}{path}?{query}"
            );
        }
    }

    /// A request through a closed door must not be answered from another registry.
    #[test]
    fn a_request_through_a_closed_door_reaches_no_registry() {
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
                let entered = resolve_at(host, others, path, query);
                if door == closed {
                    assert_eq!(entered, Err(refused(&RequestError::ClosedDoor(closed))), "{path}");
                } else {
                    assert!(entered.is_ok(), "{path} needs no {door:?}");
                }
            }
        }
        let prefix: OpenDoors = [Door::Prefix].into_iter().collect();
        let host: HostPort = "a:80".parse().unwrap();
        let ping = DoorQuery { path: "/v2/", query: "", host: Some(&host) };
        assert!(resolve(&registries(), prefix, ping).is_ok(), "clients of every door ping");
    }

    /// A link through another door could mean a repository of another registry.
    #[test]
    fn a_link_uses_the_same_door_and_leads_to_the_same_repository() {
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
                let query = DoorQuery { path, query, host: Some(host) };
                resolve(&registries(), OpenDoors::all(), query).unwrap()
            };
            let target = door(&format!("{path}/tags/list"), query);
            let link = target.client_path.link("tags/list", "n=1");
            assert_eq!(link, want);
            let (path, query) = link.split_once('?').unwrap();
            let again = door(path, query);
            assert_eq!(again.call, target.call, "{want}");
            assert_eq!(again.registry.unwrap().name(), target.registry.unwrap().name(), "{want}");
        }
    }

    /// A pattern matches by every door, and never more than its names.
    #[test]
    fn a_name_that_a_pattern_matches_means_its_registry() {
        let url = Url::parse("https://x.azurecr.io").unwrap();
        let entry = RegistryOptions {
            pattern: Some("*.azurecr.io".parse().unwrap()),
            ..RegistryOptions::for_test("x.azurecr.io", url)
        };
        let egress = EgressRoute::direct(Arc::new(SystemNetwork), InstanceId::random());
        let registries = RegistrySet::build(&[entry], &egress, None).unwrap();
        let host_of = |host: &str, path: &str, query: &str| {
            let host = host.parse().unwrap();
            let query = DoorQuery { path, query, host: Some(&host) };
            let target = resolve(&registries, OpenDoors::all(), query).ok()?;
            Some(target.registry?.name().to_string())
        };
        let manifest = "t/a/manifests/l";
        for (host, path, query) in [
            ("a.test:80", format!("/v2/one.azurecr.io/{manifest}"), ""),
            ("a.test:80", format!("/v2/{manifest}"), "ns=One.azurecr.io"),
            ("a.test:80", format!("/one.azurecr.io/v2/{manifest}"), ""),
            ("one.azurecr.io:443", format!("/v2/{manifest}"), ""),
            ("ONE.azurecr.io:8080", format!("/v2/{manifest}"), ""),
            ("two.azurecr.io:443", format!("/v2/{manifest}"), "ns=one.azurecr.io"),
        ] {
            let found = host_of(host, &path, query);
            assert_eq!(found.as_deref(), Some("one.azurecr.io"), "{host}{path}?{query}");
        }
        for name in ["azurecr.io", "a.b.azurecr.io", "a.azurecr.io.evil.test", "*.azurecr.io"] {
            let path = format!("/v2/{manifest}");
            assert_eq!(host_of("a.test", &path, &format!("ns={name}")), None, "{name}");
            assert_eq!(host_of("a.test", &format!("/v2/{name}/{manifest}"), ""), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_is_not_configured_means_no_registry() {
        let unknown = |name: &str| Err(refused(&RequestError::UnknownRegistry(name.to_owned())));
        for name in ["evil.test", "169.254.169.254", "http://127.0.0.1:1/", "docker.io@evil"] {
            let query = format!("ns={}", name.replace(':', "%3A").replace('/', "%2F"));
            assert_eq!(resolve_by("/v2/a/manifests/l", &query), unknown(name));
        }
        for path in ["/evil.test/v2/a/manifests/l", "/v2/evil.test/a/manifests/l"] {
            assert_eq!(resolve_by(path, ""), unknown("evil.test"));
        }
        let twice = resolve_by("/v2/a/manifests/l", "ns=ghcr.io&ns=docker.io");
        assert_eq!(twice, Err(refused(&RequestError::ConflictingNamespaces)));
        let the_same = resolve_by("/v2/o/a/manifests/l", "ns=ghcr.io&ns=ghcr.io");
        assert_eq!(the_same, Ok(("ghcr.io".to_owned(), "o/a".to_owned())));
        for path in ["/", "/v1/a", "/V2/a/manifests/l", "/v2x/a/manifests/l", "//v2/a/manifests/l"]
        {
            assert!(resolve_by(path, "").is_err(), "{path}");
        }
    }
}
