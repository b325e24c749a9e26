//! `larder setup CLIENT --check`: whether a client's pull comes through this Larder.
//!
//! The client pulls an image with its own command, and the server's count of requests says whether
//! it was asked. Another client that asks the same registry meanwhile is taken for this one.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::command_cache::{CommandCache, CommandError};
use super::output::say;
use crate::control::{CacheStats, ControlFailure, ControlRequest};
use crate::setup::ClientProgram;

/// A check.
pub(super) struct SetupCheck<'c> {
    pub(super) cache: &'c CommandCache,
    pub(super) image: &'c str,
    /// The time that the pull may take.
    pub(super) limit: Duration,
}

impl SetupCheck<'_> {
    /// Has the client pull, and tells what came of it.
    pub(super) fn run(
        &self,
        client: ClientProgram,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let name = self.cache.image_name(self.image)?;
        let registry = name.registry.to_string();
        let before = self.requests(&registry)?;
        let pulled = pull_command(client).map(|command| self.pull(command));
        let after = self.requests(&registry)?;
        let unasked = self.unasked()?;
        if !unasked.is_empty() {
            let list = unasked.join(", ");
            say(out, &format!("no client has asked for {list} since the server's start\n"));
        }
        match pulled {
            None => {
                say(
                    out,
                    "this client has no command for a pull: use it, then see `larder pulls`\n",
                );
                Ok(())
            }
            Some(Err(failure)) => Err(failure.into()),
            Some(Ok(())) if after > before => {
                let asked = after - before;
                say(out, &format!("{} came through Larder: {asked} requests\n", self.image));
                Ok(())
            }
            Some(Ok(())) => Err(bypassed(self.image).into()),
        }
    }

    /// The requests of a registry since the server's start.
    fn requests(&self, registry: &str) -> Result<u64, CommandError> {
        let stats = self.stats()?;
        let server = stats.server.unwrap_or_default();
        Ok(server.registries.get(registry).map_or(0, |traffic| traffic.requests))
    }

    /// The configured registries that had no request.
    fn unasked(&self) -> Result<Vec<String>, CommandError> {
        let asked = self.stats()?.server.unwrap_or_default().registries;
        let exact = self.cache.settings.registries.iter().filter(|it| it.pattern.is_none());
        let names = exact.map(|it| it.name.to_string());
        Ok(names.filter(|name| !asked.contains_key(name)).collect())
    }

    fn stats(&self) -> Result<CacheStats, CommandError> {
        self.cache.ask(&ControlRequest::Stats)
    }

    /// Runs the client's command, which is killed when its time is over.
    fn pull(&self, command: &[&str]) -> Result<(), ControlFailure> {
        let failed = |why: String, hint: Option<&str>| {
            let error = format!("`{} {}` {why}", command.join(" "), self.image);
            ControlFailure { error, hint: hint.map(str::to_owned) }
        };
        let (program, arguments) = command.split_first().unwrap_or((&"", &[]));
        let mut command = Command::new(program);
        command.args(arguments).arg(self.image).stdin(Stdio::null()).kill_on_drop(true);
        let run = self.cache.block_on(async { timeout(self.limit, command.output()).await });
        let Ok(run) = run else {
            let limit = humantime::format_duration(self.limit);
            let why = format!("takes longer than {limit}");
            return Err(failed(why, Some("give it more time with `--timeout`")));
        };
        let output = run.map_err(|error| failed(format!("cannot be run: {error}"), None))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("failed: {}", said.trim()), None))
    }
}

/// The command by which a client pulls an image, whose name is its last argument.
fn pull_command(client: ClientProgram) -> Option<&'static [&'static str]> {
    Some(match client {
        ClientProgram::Buildkit | ClientProgram::Kubernetes => return None,
        ClientProgram::Containerd => {
            &["ctr", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d"]
        }
        ClientProgram::CriO => &["crictl", "pull"],
        ClientProgram::Docker => &["docker", "pull"],
        ClientProgram::K3s => &["k3s", "crictl", "pull"],
        ClientProgram::Podman => &["podman", "pull"],
    })
}

fn bypassed(image: &str) -> ControlFailure {
    ControlFailure {
        error: format!("{image} was pulled, and this server was not asked for it"),
        hint: Some("write the client's files (`--write`), and restart it".to_owned()),
    }
}
