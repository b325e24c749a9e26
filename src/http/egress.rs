//! The way out, which all upstreams share: the network, and the proxies.
//!
//! [`ProxyTable`] decides by the URL alone. The connector decides what is asked of a proxy; the
//! client adds the credential for plain requests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use super::{HostPort, InstanceId, Network};
use crate::clock::{SystemClock, WallClock};

/// The way out.
#[derive(Clone, Debug)]
pub struct EgressRoute {
    /// Resolves names and connects.
    pub network: Arc<dyn Network>,
    /// The id of this process towards other instances of Larder.
    pub instance: InstanceId,
    /// The proxies on the way to upstreams.
    pub proxies: ProxyTable,
    /// The time of day, by which credentials end.
    pub clock: Arc<dyn WallClock>,
}

impl EgressRoute {
    /// Directly over this network.
    pub fn direct(network: Arc<dyn Network>, instance: InstanceId) -> Self {
        let clock = Arc::new(SystemClock);
        Self { network, instance, proxies: ProxyTable::default(), clock }
    }
}

/// Proxies on the way out, and what goes without one.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// For `http://`.
    pub http: Option<ProxyUrl>,
    /// For `https://`.
    pub https: Option<ProxyUrl>,
    /// Hosts that are reached directly, separated by commas or spaces: a name means what is below
    /// it too (with or without `.` or `*.` before it), an address or a network itself, a name with
    /// a port that host at that port, `*` all.
    pub direct: String,
}

/// The URL of a proxy, perhaps with a user and a password, which nothing prints.
#[derive(Clone)]
pub struct ProxyUrl {
    url: Url,
}

impl FromStr for ProxyUrl {
    type Err = InvalidProxyUrl;

    /// Reads `http://[user[:password]@]host[:port]`, of which many leave out the scheme.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|_| InvalidProxyUrl::NotAUrl)?;
        match url.scheme() {
            "http" => {}
            "https" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err(InvalidProxyUrl::Scheme(url.scheme().to_owned()));
            }
            _ => return Err(InvalidProxyUrl::NotAUrl),
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidProxyUrl::Excess);
        }
        // It has a parser of its own.
        let matcher = Matcher::builder().http(url.as_str()).build();
        match matcher.intercept(&Uri::from_static("http://a.test/")) {
            Some(_) => Ok(Self { url }),
            None => Err(InvalidProxyUrl::NotAUrl),
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HostPort::of(&self.url) {
            Some(host) => write!(f, "http://{host}"),
            None => f.write_str("http://"),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not where a proxy is. Shows nothing of it: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxyUrl {
    /// There is more than a host and a port.
    #[error("a proxy is a host and a port, without a path or a query")]
    Excess,
    /// It cannot be read.
    #[error("this is not the URL of a proxy")]
    NotAUrl,
    /// It is another kind of proxy.
    #[error("proxies of the kind `{0}` are not supported")]
    Scheme(String),
}

/// Which proxy a URL is reached through. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct ProxyTable {
    rules: Option<Arc<ProxyRules>>,
}

#[derive(Debug)]
struct ProxyRules {
    matcher: Matcher,
    /// Names with a port, which the matcher does not know.
    direct: Vec<HostPort>,
}

/// A proxy on the way somewhere.
#[derive(Clone, Debug)]
pub(super) struct ProxyHop {
    /// Its URL, without the credential.
    pub(super) uri: Uri,
    /// Its host and port.
    pub(super) address: HostPort,
    /// The value of `Proxy-Authorization`, which goes to the proxy alone.
    pub(super) credential: Option<HeaderValue>,
}

impl ProxyTable {
    /// The proxies that these options describe.
    pub fn new(options: &ProxyOptions) -> Self {
        if options.http.is_none() && options.https.is_none() {
            return Self::default();
        }
        let url = |proxy: &Option<ProxyUrl>| match proxy {
            Some(proxy) => proxy.url.as_str().to_owned(),
            None => String::new(),
        };
        let entries = options.direct.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
        let (ported, others): (Vec<_>, Vec<_>) = entries
            .map(|entry| (entry, entry.parse::<HostPort>().ok().filter(|it| it.port.is_some())))
            .partition(|(_, ported)| ported.is_some());
        let names: Vec<_> = others
            .into_iter()
            // As an IPv6 address is written where a port might follow.
            .map(|(entry, _)| entry.trim_start_matches('[').trim_end_matches(']'))
            .map(|entry| entry.strip_prefix("*.").unwrap_or(entry))
            .collect();
        let matcher = Matcher::builder()
            .http(url(&options.http))
            .https(url(&options.https))
            .no(names.join(","))
            .build();
        let direct = ported.into_iter().filter_map(|(_, ported)| ported).collect();
        Self { rules: Some(Arc::new(ProxyRules { matcher, direct })) }
    }

    /// The proxy through which `uri` is reached; `None` for what is reached directly, as this
    /// machine itself always is.
    pub(super) fn on_the_way_to(&self, uri: &Uri) -> Option<ProxyHop> {
        let rules = self.rules.as_ref()?;
        let target = HostPort::of(&Url::parse(&uri.to_string()).ok()?)?;
        if is_this_machine(&target.host) || rules.direct.iter().any(|it| it.covers(&target)) {
            return None;
        }
        let proxy = rules.matcher.intercept(uri)?;
        let address = HostPort::of(&Url::parse(&proxy.uri().to_string()).ok()?)?;
        let credential = proxy.basic_auth().cloned();
        Some(ProxyHop { uri: proxy.uri().clone(), address, credential })
    }
}

/// Decides by the name alone; the connector looks at the addresses of other names.
fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(http: &str, https: &str, direct: &str) -> ProxyTable {
        let url = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        ProxyTable::new(&ProxyOptions {
            http: url(http),
            https: url(https),
            direct: direct.to_owned(),
        })
    }

    fn way(proxies: &ProxyTable, url: &str) -> String {
        let proxy = proxies.on_the_way_to(&url.parse().unwrap());
        proxy.map_or("direct".to_owned(), |proxy| proxy.address.to_string())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_machine_has_none() {
        let both = proxies("plain.corp:3128", "http://secure.corp", "");
        assert_eq!(way(&both, "http://a.test/x"), "plain.corp:3128");
        assert_eq!(way(&both, "https://a.test:5000/x"), "secure.corp:80");
        for own in ["localhost", "LOCALHOST:5000", "x.localhost", "127.0.0.9", "[::1]:443"] {
            assert_eq!(way(&both, &format!("https://{own}/")), "direct", "{own}");
            assert_eq!(way(&both, &format!("http://{own}/")), "direct", "{own}");
        }
        assert_eq!(way(&proxies("", "p.corp:1", ""), "http://a.test/"), "direct");
        assert_eq!(way(&proxies("p.corp:1", "", ""), "https://a.test/"), "direct");
        assert_eq!(way(&ProxyTable::default(), "https://a.test/"), "direct");
    }

    #[test]
    fn what_is_to_be_reached_directly_is() {
        let list =
            "corp.example, .dot.example *.star.example,port.example:5000,10.0.0.0/8,[fd00::1]";
        let some = proxies("p.corp:1", "p.corp:1", list);
        let direct = "corp.example Corp.Example a.corp.example dot.example a.dot.example \
            a.star.example port.example:5000 10.1.2.3 [fd00::1]:443";
        for host in direct.split(' ').filter(|host| !host.is_empty()) {
            assert_eq!(way(&some, &format!("https://{host}/")), "direct", "{host}");
        }
        for host in
            ["notcorp.example", "corp.example.evil", "port.example", "11.0.0.1", "[fd00::2]"]
        {
            assert_eq!(way(&some, &format!("https://{host}/")), "p.corp:1", "{host}");
        }
        assert_eq!(way(&proxies("p.corp:1", "p.corp:1", "*"), "https://a.test/"), "direct");
    }

    #[test]
    fn a_password_is_for_the_proxy_and_shown_nowhere() {
        let url: ProxyUrl = "http://me:s%3Ccret@p.corp:3128/".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "http://p.corp:3128 http://p.corp:3128");
        let options = ProxyOptions { https: Some(url), ..ProxyOptions::default() };
        let proxies = ProxyTable::new(&options);
        let proxy = proxies.on_the_way_to(&Uri::from_static("https://a.test/")).unwrap();
        // `me:s<cret`
        assert_eq!(proxy.credential.clone().unwrap(), "Basic bWU6czxjcmV0");
        let shown = format!("{options:?} {proxies:?} {proxy:?}");
        for secret in ["cret", "bWU6", "me:"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        use InvalidProxyUrl::{Excess, NotAUrl, Scheme};
        for (text, want) in [
            ("", NotAUrl),
            ("http://", NotAUrl),
            ("http://p.corp:port", NotAUrl),
            ("p.corp:99999", NotAUrl),
            ("ftp://p.corp", NotAUrl),
            ("http://p.corp/path", Excess),
            ("http://p.corp?x", Excess),
            ("https://p.corp", Scheme("https".to_owned())),
            ("socks5://p.corp:1080", Scheme("socks5".to_owned())),
        ] {
            assert_eq!(text.parse::<ProxyUrl>().map(|url| url.to_string()), Err(want), "{text}");
        }
    }
}
