//! How many connections one client may hold.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The connections of each client, over all listeners. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ConnectionQuota {
    held: Arc<Mutex<HashMap<IpAddr, QuotaState>>>,
}

#[derive(Debug, Default)]
struct QuotaState {
    count: usize,
    was_refused: bool,
}

/// A client has no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// Whether it was not refused before, since it last gave a place back.
    pub is_news: bool,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    quota: ConnectionQuota,
    client: IpAddr,
}

impl ConnectionQuota {
    /// A place for one more connection from `address`, unless it holds `max` already.
    pub fn enter(&self, address: IpAddr, max: usize) -> Result<ConnectionPermit, QuotaExceeded> {
        let client = client_of(address);
        let mut held = self.held();
        let of_client = held.entry(client).or_default();
        if of_client.count >= max {
            return Err(QuotaExceeded {
                is_news: !std::mem::replace(&mut of_client.was_refused, true),
            });
        }
        of_client.count += 1;
        drop(held);
        Ok(ConnectionPermit { quota: self.clone(), client })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, QuotaState>> {
        self.held.lock()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut held = self.quota.held();
        if let Some(of_client) = held.get_mut(&self.client) {
            of_client.count -= 1;
            of_client.was_refused = false;
            if of_client.count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

/// The client that an address belongs to: over IPv6 every client has a network of them (RFC 6177).
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_holds_so_many_and_no_more_and_leaves_no_trace() {
        let quota = ConnectionQuota::default();
        let enter = |address: &str| quota.enter(address.parse().unwrap(), 2);
        let (one, two) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(enter("10.0.0.1").err(), Some(QuotaExceeded { is_news: true }));
        assert_eq!(enter("10.0.0.1").err(), Some(QuotaExceeded { is_news: false }));
        assert!(enter("10.0.0.2").is_ok(), "another client");
        drop(one);
        assert!(enter("10.0.0.1").is_ok());

        let six = [enter("2001:db8::1"), enter("2001:db8::ffff:1")];
        assert!(enter("2001:db8::2").is_err(), "one network is one client");
        assert!(enter("2001:db8:0:1::1").is_ok());

        drop((two, six));
        assert!(quota.held().is_empty());
    }
}
