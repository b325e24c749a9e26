//! Who is measured, and with which configuration?
//!
//! The configurations are the files in `peers/`, with `{{…}}` for ports and directories.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::lab::Lab;
use crate::process::{self, Launch, Server};

pub(crate) const NGINX: &str = "nginx";
pub(crate) const REGISTRY: &str = "docker-registry";

/// A server, or none: the upstream asked directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Larder,
    /// Larder with little in its store.
    LarderEmpty,
    NginxStatic,
    NginxOpenFiles,
    NginxProxy,
    Registry,
    Direct,
    LarderTls,
    NginxTls,
    LarderPush,
    NginxPush,
    DirectPush,
    /// `tar` and `sha256sum`, which are no server.
    Tools,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Larder => "Larder",
            Self::LarderEmpty => "Larder, small store",
            Self::NginxStatic => "nginx sendfile",
            Self::NginxOpenFiles => "nginx open_file_cache",
            Self::NginxProxy => "nginx proxy_cache",
            Self::Registry => "distribution",
            Self::Direct | Self::DirectPush => "direct",
            Self::LarderTls => "Larder over TLS",
            Self::NginxTls => "nginx over TLS",
            Self::LarderPush => "Larder taking pushes",
            Self::NginxPush => "nginx unbuffered",
            Self::Tools => "tar and sha256sum",
        }
    }

    /// Starts it with its state in `state`, before the upstream at port `upstream`.
    pub(crate) fn start(self, lab: &Lab, state: &Path, upstream: u16) -> Result<Server> {
        let (port, admin) = (free_port()?, free_port()?);
        let (template, file) = self.configuration();
        let file = state.join(file);
        let values = [
            ("DIR", state.display().to_string()),
            ("ROOT", lab.root().display().to_string()),
            ("CERT", lab.tls.cert.display().to_string()),
            ("KEY", lab.tls.key.display().to_string()),
            ("PORT", port.to_string()),
            ("ADMIN", admin.to_string()),
            ("UPSTREAM", upstream.to_string()),
            ("FILES", process::file_limit().to_string()),
        ];
        fs::write(&file, fill_in(template, &values))?;
        let mut command = process::measured(&self.program(lab), lab.is_pinned);
        match self {
            Self::Larder | Self::LarderEmpty | Self::LarderTls | Self::LarderPush => {
                let listen = format!("127.0.0.1:{port}");
                command.arg("serve").arg("--config").arg(file).args(["--listen", &listen]);
                command.env("LARDER_LOG", "warn");
            }
            Self::Registry => _ = command.arg("serve").arg(file),
            _ => _ = command.args(["-e", "stderr", "-c"]).arg(file),
        }
        Server::start(Launch { command, port, admin, log: &state.join("said.log") })
    }

    fn program(self, lab: &Lab) -> PathBuf {
        match self {
            Self::Larder | Self::LarderEmpty | Self::LarderTls | Self::LarderPush => {
                lab.larder.clone()
            }
            Self::Registry => REGISTRY.into(),
            _ => NGINX.into(),
        }
    }

    /// The file of its configuration; the upstream's own where it is asked directly, if it has one.
    pub(crate) fn configured_by(self) -> Option<&'static str> {
        match self {
            Self::Direct => Some("upstream.conf"),
            Self::DirectPush | Self::Tools => None,
            _ => Some(self.configuration().1),
        }
    }

    fn configuration(self) -> (&'static str, &'static str) {
        match self {
            Self::Larder | Self::LarderEmpty => (include_str!("peers/larder.toml"), "larder.toml"),
            Self::LarderTls => (include_str!("peers/larder-tls.toml"), "larder-tls.toml"),
            Self::LarderPush => (include_str!("peers/larder-push.toml"), "larder-push.toml"),
            Self::NginxPush => (include_str!("peers/nginx-push.conf"), "nginx-push.conf"),
            Self::NginxTls => (include_str!("peers/nginx-tls.conf"), "nginx-tls.conf"),
            Self::NginxOpenFiles => {
                (include_str!("peers/nginx-open-file-cache.conf"), "nginx-open-file-cache.conf")
            }
            Self::NginxProxy => (include_str!("peers/nginx-proxy.conf"), "nginx-proxy.conf"),
            Self::Registry => (include_str!("peers/registry.yml"), "registry.yml"),
            Self::NginxStatic | Self::Direct | Self::DirectPush | Self::Tools => {
                (include_str!("peers/nginx-static.conf"), "nginx-static.conf")
            }
        }
    }
}

/// The registry before which all are put.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As fast as it goes.
    pub(crate) port: u16,
    /// 10 MB/s for each connection, and logged.
    pub(crate) slow_port: u16,
    /// 100 MB/s for each connection.
    pub(crate) limited_port: u16,
    /// Lines of status, body bytes and path, of what the slow port sent.
    pub(crate) slow_log: PathBuf,
    _server: Server,
}

impl Upstream {
    pub(crate) fn start(dir: &Path, root: &Path, manifest: &str) -> Result<Self> {
        let (port, slow_port, limited_port) = (free_port()?, free_port()?, free_port()?);
        let values = [
            ("DIR", dir.display().to_string()),
            ("ROOT", root.display().to_string()),
            ("MANIFEST", manifest.to_owned()),
            ("PORT", port.to_string()),
            ("SLOW_PORT", slow_port.to_string()),
            ("LIMITED_PORT", limited_port.to_string()),
            ("FILES", process::file_limit().to_string()),
        ];
        let write = |file: &str, template| fs::write(dir.join(file), fill_in(template, &values));
        write("registry.inc", include_str!("peers/registry.inc"))?;
        write("upstream.conf", include_str!("peers/upstream.conf"))?;
        let mut command = Command::new(NGINX);
        command.args(["-e", "stderr", "-c"]).arg(dir.join("upstream.conf"));
        let log = dir.join("upstream.said.log");
        let server = Server::start(Launch { command, port, admin: port, log: &log })?;
        let slow_log = dir.join("slow.log");
        Ok(Self { port, slow_port, limited_port, slow_log, _server: server })
    }
}

/// All configurations, word for word.
pub(crate) fn appendix() -> String {
    let files = [
        ("larder.toml", include_str!("peers/larder.toml")),
        ("larder-tls.toml", include_str!("peers/larder-tls.toml")),
        ("nginx-static.conf", include_str!("peers/nginx-static.conf")),
        ("nginx-open-file-cache.conf", include_str!("peers/nginx-open-file-cache.conf")),
        ("nginx-tls.conf", include_str!("peers/nginx-tls.conf")),
        ("larder-push.toml", include_str!("peers/larder-push.toml")),
        ("nginx-push.conf", include_str!("peers/nginx-push.conf")),
        ("registry-push.yml", include_str!("peers/registry-push.yml")),
        ("nginx-proxy.conf", include_str!("peers/nginx-proxy.conf")),
        ("registry.yml", include_str!("peers/registry.yml")),
        ("upstream.conf", include_str!("peers/upstream.conf")),
        ("registry.inc", include_str!("peers/registry.inc")),
    ];
    let section =
        |(name, text): (&str, &str)| format!("\n### {name}\n\n```\n{}\n```\n", text.trim_end());
    let begin = "\n## Configurations\n\nPorts and directories are filled in by the command.\n";
    [begin.to_owned()].into_iter().chain(files.map(section)).collect()
}

/// distribution as a registry of its own, with its state in `state`.
pub(crate) fn registry_for_pushes(state: &Path) -> Result<Server> {
    let port = free_port()?;
    let values = [("DIR", state.display().to_string()), ("PORT", port.to_string())];
    let file = state.join("registry-push.yml");
    fs::write(&file, fill_in(include_str!("peers/registry-push.yml"), &values))?;
    let mut command = Command::new(REGISTRY);
    command.arg("serve").arg(file);
    Server::start(Launch { command, port, admin: port, log: &state.join("registry.said.log") })
}

fn fill_in(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| {
        text.replace(&format!("{{{{{key}}}}}"), value)
    })
}

/// A port that is free at the moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
