//! `Via` (RFC 9110, 7.6.3): through which instances of Larder a request came.
//!
//! Each instance has an id, and what it asks upstream carries the ids of those through which the
//! request came that made it ask. One that meets its own id stands in a ring.
//!
//! Other proxies in the header are skipped: none of them is one of us, and what they write is no
//! business of an upstream's.

use std::fmt;
use std::str::FromStr;

use http::header::VIA;
use http::{HeaderMap, HeaderValue};

/// The id of one running Larder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceId(u64);

impl InstanceId {
    /// A new one. Two that happen to be the same would refuse each other; with 64 bits that does
    /// not happen.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:016x}", self.0)
    }
}

impl FromStr for InstanceId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == DIGITS);
        let is_hex = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = digits.filter(is_hex).ok_or(NotOurs)?;
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NotOurs)
    }
}

/// The name of another kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

/// The instances through which a request came, the first one first. At most ten: 300 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via {
    hops: Vec<InstanceId>,
}

impl Via {
    /// Those through which a request with these headers came to the instance `own`.
    ///
    /// # Errors
    ///
    /// [`ForwardingLoop`] if it was there before, or has come through so many that it may be in a
    /// ring.
    pub fn read(headers: &HeaderMap, own: InstanceId) -> Result<Self, ForwardingLoop> {
        let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
        // `[protocol-name "/"] protocol-version`, then who received it, then perhaps a comment.
        let receivers = lines
            .flat_map(|line| line.split(','))
            .filter_map(|member| member.split_ascii_whitespace().nth(1)?.parse().ok());
        let mut hops = Vec::new();
        for hop in receivers {
            if hop == own {
                return Err(ForwardingLoop::Own);
            }
            if hops.len() == HOPS_MAX {
                return Err(ForwardingLoop::TooLong);
            }
            hops.push(hop);
        }
        Ok(Self { hops })
    }

    /// The header of what the instance `own` asks because of such a request.
    pub fn header(&self, own: InstanceId) -> Option<HeaderValue> {
        let hops = self.hops.iter().chain([&own]).map(|hop| format!("1.1 {hop}"));
        HeaderValue::try_from(hops.collect::<Vec<_>>().join(", ")).ok()
    }
}

/// Why a request is not forwarded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardingLoop {
    /// It has been here before.
    #[error("the request came back: this Larder is, over others, its own upstream")]
    Own,
    /// It came through more instances than any real chain has.
    #[error("the request came through more than {HOPS_MAX} instances of Larder")]
    TooLong,
}

const PREFIX: &str = "larder-";

const DIGITS: usize = 16;

/// A cache on the machine, in the building, for the company: with twice that to spare.
const HOPS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<usize, ForwardingLoop> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VIA, HeaderValue::from_str(line).unwrap());
        }
        Via::read(&headers, InstanceId(1)).map(|via| via.hops.len())
    }

    #[test]
    fn ids_of_ours_are_found_among_others_and_our_own_is_a_loop() {
        assert_eq!(read(&[]), Ok(0));
        assert_eq!(read(&["1.1 varnish, 1.0 squid (x, 1.1 y)", "garbage,,"]), Ok(0));
        assert_eq!(
            read(&["HTTP/1.1 larder-00000000000000ff (x)", "2 larder-0a00000000000000"]),
            Ok(2)
        );
        assert_eq!(read(&["1.1 larder-1, 1.1 larder-+000000000000001, 1.1 larder"]), Ok(0));
        let own = "1.1 a, 1.1 larder-0000000000000001";
        assert_eq!(read(&["1.1 larder-00000000000000ff", own]), Err(ForwardingLoop::Own));
    }

    #[test]
    fn a_chain_is_passed_on_with_our_own_id_and_has_an_end() {
        let mut headers = HeaderMap::new();
        for id in 2..20 {
            let via = match Via::read(&headers, InstanceId(id)) {
                Ok(via) => via,
                Err(error) => {
                    assert_eq!((error, id), (ForwardingLoop::TooLong, 13));
                    return;
                }
            };
            let header = via.header(InstanceId(id)).unwrap();
            assert!(header.to_str().unwrap().ends_with(&format!("1.1 larder-{id:016x}")));
            assert!(header.len() <= 1024);
            headers.insert(VIA, header);
        }
        panic!("a chain without an end");
    }
}
