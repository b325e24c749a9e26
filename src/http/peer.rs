//! The other end of a client's connection: where it is, and what its certificate calls it.
//!
//! The certificate was verified in the handshake; here it is only read.

use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::quota::client_of;

/// A client, as its connection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPeer {
    /// Its address; over IPv6 the first address of its network of 64 bits, which one client has.
    pub address: IpAddr,
    /// The names in the certificate that it has shown: DNS names, URIs and the common name of the
    /// subject. Empty without a certificate.
    pub names: Vec<String>,
}

impl ClientPeer {
    /// A client that has shown no certificate.
    pub fn at(address: IpAddr) -> Self {
        Self { address: client_of(address), names: Vec::new() }
    }
}

impl Default for ClientPeer {
    /// This machine.
    fn default() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }
}

/// The names that a certificate gives its holder.
pub(super) fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(read) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let alternatives = read.valid_dns_names().chain(read.valid_uri_names());
    let names = alternatives.map(str::to_owned).take(NAMES_MAX);
    names.chain(common_name(read.subject())).collect()
}

/// Real certificates have a handful; further ones are not read.
const NAMES_MAX: usize = 100;

/// The first common name in a subject: `SEQUENCE OF SET OF SEQUENCE { OID, text }` (RFC 5280,
/// 4.1.2.4), of which the outermost header is taken off.
fn common_name(mut subject: &[u8]) -> Option<String> {
    while !subject.is_empty() {
        let (mut set, rest) = read_value(subject, SET)?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = read_value(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = read_value(attribute, OBJECT_IDENTIFIER)?;
            if kind != COMMON_NAME {
                continue;
            }
            let is_text = value.first().is_some_and(|tag| TEXTS.contains(tag));
            let (text, _) = read_value(value, *value.first().filter(|_| is_text)?)?;
            return String::from_utf8(text.to_vec()).ok();
        }
    }
    None
}

/// Reads one value of DER with this tag; gives its content and what stands behind it.
fn read_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        length @ 0..=0x7f => (usize::from(*length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => {
            let (length, rest) = rest.split_at_checked(2)?;
            (usize::from(length[0]) << 8 | usize::from(length[1]), rest)
        }
        // No name is that long.
        _ => return None,
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// `UTF8String`, `PrintableString` and `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn names(subject: &[(DnType, &str)], alternatives: &[SanType]) -> Vec<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.subject_alt_names = alternatives.to_vec();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        names_in(certificate.der())
    }

    #[test]
    fn a_holder_is_called_by_its_dns_names_uris_and_common_name() {
        let long = "c".repeat(300);
        let of = |text: &str| vec![text.to_owned()];
        assert_eq!(names(&[(DnType::CommonName, "ci")], &[]), of("ci"));
        assert_eq!(names(&[(DnType::CommonName, &long)], &[]), of(&long));
        let subject = [(DnType::OrganizationName, "corp"), (DnType::CommonName, "zoë")];
        assert_eq!(names(&subject, &[]), of("zoë"));
        assert_eq!(names(&[(DnType::OrganizationName, "corp")], &[]), Vec::<String>::new());
        let dns = SanType::DnsName("runner.corp".try_into().unwrap());
        let uri = SanType::URI("spiffe://corp/ci".try_into().unwrap());
        let email = SanType::Rfc822Name("ci@corp".try_into().unwrap());
        let all = names(&[(DnType::CommonName, "ci")], &[dns, uri, email]);
        assert_eq!(all, ["runner.corp", "spiffe://corp/ci", "ci"]);
    }

    #[test]
    fn what_is_no_subject_has_no_name() {
        let whole: &[u8] = &[0x31, 9, 0x30, 7, 6, 3, 0x55, 4, 3, 0x0c, 0];
        assert_eq!(common_name(whole), Some(String::new()));
        for len in 0..whole.len() {
            assert_eq!(common_name(&whole[..len]), None, "{len}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] = 0xff;
            assert_eq!(common_name(&bytes), None, "{at}");
        }
        assert_eq!(names_in(&CertificateDer::from(vec![0x30, 0])), Vec::<String>::new());
    }
}
