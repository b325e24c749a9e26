//! Which addresses belong to the public internet.
//!
//! An upstream may point anywhere: a redirect or a token server chosen by it must not become a way
//! into the network this process stands in (loopback, private nets, cloud metadata). This file
//! decides about one address. The connector knows which hosts are exempt, and dials the very
//! address that was checked.
//!
//! Source: the IANA special-purpose address registries (RFC 6890 and later entries). For IPv6
//! only `2000::/3` has been given out as global unicast, so everything outside it is refused
//! without being listed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use url::Host;

/// Whether `address` is a public unicast address, looked at through the forms in which an IPv6
/// address carries an IPv4 one.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether `host` can be on the public internet, as far as can be said without looking its name
/// up: for where a proxy will do that.
pub(super) fn may_be_public(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            // A name of one label is looked up in whatever domain the proxy stands in.
            name.contains('.')
                && !INTERNAL
                    .iter()
                    .any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
        }
        Host::Ipv4(address) => is_public_v4(*address),
        Host::Ipv6(address) => is_public_v6(*address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    if SIX_TO_FOUR.contains(&address) {
        let [_, _, a, b, c, d, ..] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // NAT64 (64:ff9b::/96, 64:ff9b:1::/48), loopback, link-local, ULA and multicast all lie
    // outside of global unicast.
    GLOBAL_UNICAST.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

const fn v6(a: u16, b: u16, len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), len)
}

/// Domains that exist inside of networks only: RFC 6761 (6.3), RFC 6762, RFC 8375, and what ICANN
/// has reserved for private use, below which clouds keep their metadata.
const INTERNAL: [&str; 4] = ["localhost", "local", "home.arpa", "internal"];

const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network
    v4(10, 0, 0, 0, 8),       // private, RFC 1918
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    v4(127, 0, 0, 0, 8),      // loopback
    v4(169, 254, 0, 0, 16),   // link-local, cloud metadata
    v4(172, 16, 0, 0, 12),    // private, RFC 1918
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private, RFC 1918
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(168, 63, 129, 16, 32), // Azure's wire server, a public number that answers inside only
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, and broadcast
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 3);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 16);

const NOT_PUBLIC_V6: [Ipv6Net; 3] = [
    v6(0x2001, 0, 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x3fff, 0, 20),     // documentation
];

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 128.0.0.1 169.253.255.255 \
        172.15.255.255 172.32.0.0 192.0.1.0 192.169.0.1 198.17.255.255 198.20.0.0 223.255.255.255 \
        ::ffff:1.1.1.1 2606:4700::6810:84e5 2a00:1450::1 2002:0101:0101::1 2001:200::1";

    const NOT_PUBLIC: &str = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.9 168.63.129.16 \
        169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.170 192.0.2.1 192.88.99.1 \
        192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 \
        240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 \
        ::ffff:0:10.0.0.1 64:ff9b::1.1.1.1 64:ff9b::169.254.169.254 64:ff9b:1::10.0.0.1 100::1 \
        2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 \
        2002:7f00:1:: 2002:a9fe:a9fe::1 2002:a00:1::1 3fff::1 4000::1 5f00::1 fc00::1 \
        fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1";

    #[test]
    fn only_public_unicast_addresses_are_public() {
        for text in PUBLIC.split(' ') {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in NOT_PUBLIC.split(' ') {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn names_that_exist_inside_only_are_not_public() {
        let host = |text: &str| Host::parse(text).unwrap();
        for text in ["cdn.test", "local.example", "xinternal.example", "1.1.1.1", "[2a00::1]"] {
            assert!(may_be_public(&host(text)), "{text}");
        }
        let inside = "minio localhost x.LOCALHOST metadata.google.internal a.svc.cluster.local. \
            nas.home.arpa 10.0.0.1 [::1] 0x7f.1";
        for text in inside.split(' ').filter(|text| !text.is_empty()) {
            assert!(!may_be_public(&host(text)), "{text}");
        }
    }
}
