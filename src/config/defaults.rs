//! What holds where nothing is written. `config.example.toml` shows the same to people, and a test
//! holds the two together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::ValueFault;
use super::environment::Environment;

/// Only this machine: opening Larder to a network is a decision.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// Only this machine: there are no secrets there, but what there is is nobody else's business.
pub const ADMIN_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

/// Longer than any network is away without its connections being lost.
pub(super) const CLIENT_STALL: Duration = Duration::from_secs(600);

/// More than a builder with hundreds of jobs behind one address needs, and a sixteenth of what an
/// address of ours takes.
pub(super) const CONNECTIONS_PER_CLIENT: usize = 1024;

/// Long enough for a layer on a fast line, short enough for an orchestrator's kill.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// Some ten thousand manifests.
pub(super) const MEMORY: u64 = 64 << 20;

/// Room for what else writes to the file system to notice.
pub(super) const MIN_FREE: u64 = 1 << 30;

/// Whoever wanted the rest of a download has asked again within a day.
pub(super) const FILL_KEEP: Duration = Duration::from_secs(24 * 3600);

/// Bits on a disk rot over years. Of a busy cache, this reads no more than a few percent a day again.
pub(super) const VERIFY_EVERY: Duration = Duration::from_secs(30 * 24 * 3600);

/// This program, as it runs, whatever lies at its path by now. It checks the index.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// Less than a person notices in a pull, more than a healthy registry needs.
pub(super) const STALE_WAIT: Duration = Duration::from_secs(2);

/// A burst of jobs sees one answer; a moved tag is seen a minute later.
pub(super) const TAG_TTL: Duration = Duration::from_secs(60);

/// Outlasts any outage, but not for ever: what nobody confirms for a month may be gone on purpose.
pub(super) const MAX_STALE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Well under what registries and NAT tables allow one address.
pub(super) const MAX_CONNECTIONS: usize = 64;

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

/// Where the cache is: `$XDG_CACHE_HOME/larder`, else `~/.cache/larder`.
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
