//! The defaults of keys that are left out. `config.example.toml` shows them to operators, and a
//! test compares the two.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::diagnostics::ValueFault;
use super::environment::Environment;

/// Only this machine: the admin port shows no secrets, but it is not meant for others.
pub const ADMIN_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

/// Only this machine: the page names what is pulled.
pub const DASHBOARD_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5002);

/// This program, as it runs, whatever lies at its path by now. It checks the index.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// The registry that a request means when it names none, unless the configuration says otherwise.
pub(super) const DEFAULT_REGISTRY: &str = "docker.io";

/// A registry that is reached without being configured.
pub(super) struct WellKnown {
    pub name: &'static str,
    pub upstream: &'static str,
    pub aliases: &'static [&'static str],
}

/// The registries that exist when none is configured, and what a configured one of the same name
/// leaves out.
pub(super) const WELL_KNOWN: &[WellKnown] = &[
    WellKnown {
        name: DEFAULT_REGISTRY,
        upstream: "https://registry-1.docker.io",
        aliases: &["index.docker.io", "registry-1.docker.io"],
    },
    WellKnown { name: "ghcr.io", upstream: "https://ghcr.io", aliases: &[] },
    WellKnown { name: "quay.io", upstream: "https://quay.io", aliases: &[] },
    WellKnown { name: "gcr.io", upstream: "https://gcr.io", aliases: &[] },
    WellKnown { name: "registry.k8s.io", upstream: "https://registry.k8s.io", aliases: &[] },
    WellKnown { name: "mcr.microsoft.com", upstream: "https://mcr.microsoft.com", aliases: &[] },
    WellKnown { name: "public.ecr.aws", upstream: "https://public.ecr.aws", aliases: &[] },
];

/// The cache directory: `$XDG_CACHE_HOME/larder`, else `~/.cache/larder`.
pub(super) fn cache_dir(environment: &Environment) -> Result<PathBuf, ValueFault> {
    // The XDG base directory specification has relative paths ignored.
    let absolute = |name| environment.path(name).filter(|path| path.is_absolute());
    if let Some(dir) = absolute("XDG_CACHE_HOME") {
        return Ok(dir.join("larder"));
    }
    let home = absolute("HOME").ok_or_else(|| {
        ValueFault::new("there is no default for `cache.dir`: `HOME` is not set")
            .hint("set `dir` in `[cache]`, or the environment variable `LARDER_CACHE_DIR`")
    })?;
    Ok(home.join(".cache").join("larder"))
}
