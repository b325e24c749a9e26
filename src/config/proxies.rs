//! Egress proxies, from the environment variables that every program reads.
//!
//! They are no keys of the file: a machine that has a proxy says so once. If a variable is set in
//! upper case and in lower case, the upper case one counts, as it does for programs written in Go.

use super::diagnostics::ValueFault;
use super::resolver::Resolver;
use crate::http::{InvalidProxyUrl, ProxyOptions, ProxyUrl};

/// The proxies that the environment names.
pub(super) fn resolve(resolver: &mut Resolver<'_>) -> ProxyOptions {
    let http = proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"], resolver);
    let https = proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"], resolver);
    let direct = first(&["NO_PROXY", "no_proxy"], resolver);
    ProxyOptions { http, https, direct: direct.map(|(_, list)| list).unwrap_or_default() }
}

fn proxy(names: &[&'static str], resolver: &mut Resolver<'_>) -> Option<ProxyUrl> {
    let (name, url) = first(names, resolver)?;
    match url.parse() {
        Ok(url) => Some(url),
        Err(error) => {
            let hint = match error {
                InvalidProxyUrl::Scheme(_) => "Larder speaks to proxies over plain HTTP: `http://`",
                _ => "it is `http://host:port`, perhaps with `user:password@` before the host",
            };
            let fault = ValueFault::new(error.to_string()).hint(hint);
            resolver.report_variable(name, fault);
            None
        }
    }
}

/// The first of these variables that is set, and its value.
fn first(names: &[&'static str], resolver: &mut Resolver<'_>) -> Option<(&'static str, String)> {
    let environment = resolver.environment;
    let found = names.iter().find_map(|name| Some((*name, environment.text(name)?)));
    let (name, value) = found?;
    match value {
        Ok(value) => Some((name, value.to_owned())),
        Err(fault) => {
            resolver.report_variable(name, fault);
            None
        }
    }
}
