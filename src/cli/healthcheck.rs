//! `larder healthcheck`: whether the server of a configuration is ready, for the health checks of
//! container engines.
//!
//! Without an admin port, its control socket is asked: a server that answers there serves clients.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::command_cache::{CommandCache, CommandError};
use super::exit::ExitStatus;
use super::output::say;
use crate::config::{ConfigArgs, Environment};
use crate::control::ControlFailure;

/// Prints what `/readyz` says; fails unless the server is ready or degraded.
pub(super) fn run(
    source: impl Into<ConfigArgs>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    CommandCache::command(source, environment, err, |cache| ask(cache, out))
}

fn ask(cache: &CommandCache, out: &mut dyn Write) -> Result<(), CommandError> {
    let Some(address) = cache.settings.admin.map(from_here) else {
        cache.ask_alive()?;
        say(out, "ready\n");
        return Ok(());
    };
    let (is_ready, report) = cache.ask_ready(address).map_err(|error| refused(address, &error))?;
    say(out, &report);
    if is_ready { Ok(()) } else { Err(failure("the server is not ready".to_owned()).into()) }
}

/// The address of a port on this machine, where a wildcard stands for all of its addresses.
pub(super) fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn refused(address: SocketAddr, error: &std::io::Error) -> CommandError {
    failure(format!("no answer from the admin port at {address}: {error}")).into()
}

fn failure(error: String) -> ControlFailure {
    ControlFailure { error, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_over_loopback() {
        for (address, asked) in [
            ("0.0.0.0:5001", "127.0.0.1:5001"),
            ("[::]:5001", "[::1]:5001"),
            ("192.0.2.7:81", "192.0.2.7:81"),
        ] {
            assert_eq!(from_here(address.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
