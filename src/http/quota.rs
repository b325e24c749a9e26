//! How many connections there are, of each client and of all, and which one makes room for another.
//!
//! Connections and what they read take file descriptors, of which a process has a number
//! (`RLIMIT_NOFILE`). Some are kept for Larder's own files and its connections to upstreams; of the
//! rest, each connection has one for itself, one for the content that it reads, and HTTP/2 has some
//! for extra streams. When all places are taken, connections without a request make room first,
//! the longest idle of the client that holds most. Then those that have taken nothing for a while,
//! and then those of a client that holds more than its share, or many times as many as the one that
//! waits.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connection_load::{ConnectionLoad, ExtraStreams, share_of_one};

/// The connections of each client, over all listeners. Clones count together.
#[derive(Clone, Debug)]
pub struct ConnectionQuota {
    table: Arc<QuotaTable>,
}

#[derive(Debug)]
struct QuotaTable {
    state: Mutex<QuotaState>,
    /// The most connections of all clients, whatever the descriptors.
    max: usize,
    extra_of_all: Arc<AtomicUsize>,
    left: Notify,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct QuotaState {
    clients: HashMap<IpAddr, ClientConnections>,
    /// How many they hold together.
    held: usize,
    next_id: u64,
    /// Until when a client that has few connections need not wait for a place.
    crowded_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct ClientConnections {
    open: HashMap<u64, Arc<ConnectionLoad>>,
    extra: Arc<AtomicUsize>,
    was_refused: bool,
}

/// A client has no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// Whether it was not refused before, since it last gave a place back.
    pub is_news: bool,
}

/// Why a connection has no place now.
enum NoPlace {
    /// Its client has all that it may have.
    OfClient(QuotaExceeded),
    /// All places are taken; whether the client holds more than its share of them.
    OfAll { is_over_share: bool },
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    table: Arc<QuotaTable>,
    client: IpAddr,
    id: u64,
    load: Arc<ConnectionLoad>,
}

impl ConnectionQuota {
    /// For the clients that pull and push. Their connections take no more requests when `stop` is
    /// cancelled.
    pub fn for_clients(stop: CancellationToken) -> Self {
        Self::of(CONNECTIONS_MAX, stop)
    }

    /// For operators, whose requests are small and few.
    pub fn for_operators(stop: CancellationToken) -> Self {
        Self::of(OPERATOR_CONNECTIONS_MAX, stop)
    }

    fn of(max: usize, stop: CancellationToken) -> Self {
        let (state, extra_of_all, left) = Default::default();
        Self { table: Arc::new(QuotaTable { state, max, extra_of_all, left, stop }) }
    }

    /// A place for one more connection from `address`, of which a client may have `max`. Where all
    /// clients together have no more, another connection makes room, or is waited for.
    ///
    /// # Errors
    ///
    /// If its client has `max`, or a large share of all of them and none has come free for 5 s. The
    /// next of that client is not waited for until one does, so that it delays no other client.
    pub async fn enter(
        &self,
        address: IpAddr,
        max: usize,
    ) -> Result<ConnectionPermit, QuotaExceeded> {
        let (client, until) = (client_of(address), Instant::now() + PLACE_WAIT);
        loop {
            let is_over_share = match self.try_enter(client, max) {
                Ok(permit) => return Ok(permit),
                Err(NoPlace::OfClient(exceeded)) => return Err(exceeded),
                Err(NoPlace::OfAll { is_over_share }) => is_over_share,
            };
            let is_made = self.make_room(Some(client))
                || (Instant::now() >= until || self.is_crowded()) && self.make_fair(client);
            if !is_made && is_over_share && Instant::now() >= until {
                return Err(self.refuse(client));
            }
            tokio::select! {
                () = self.table.left.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn try_enter(&self, client: IpAddr, max: usize) -> Result<ConnectionPermit, NoPlace> {
        let places = DescriptorShares::now();
        let all = places.connections.min(self.table.max);
        let mut state = self.state();
        let QuotaState { clients, held, next_id, .. } = &mut *state;
        let of_client = clients.entry(client).or_default();
        if of_client.open.len() >= max {
            let is_news = !std::mem::replace(&mut of_client.was_refused, true);
            return Err(NoPlace::OfClient(QuotaExceeded { is_news }));
        }
        if *held >= all {
            let is_over_share = of_client.open.len() >= share_of_one(all);
            if is_over_share && of_client.was_refused {
                return Err(NoPlace::OfClient(QuotaExceeded { is_news: false }));
            }
            if of_client.open.is_empty() {
                clients.remove(&client);
            }
            return Err(NoPlace::OfAll { is_over_share });
        }
        let extra = ExtraStreams {
            of_client: Arc::clone(&of_client.extra),
            of_all: Arc::clone(&self.table.extra_of_all),
            max: places.extra_streams,
        };
        let load = Arc::new(ConnectionLoad::new(extra, self.table.stop.child_token()));
        let id = *next_id;
        *next_id += 1;
        *held += 1;
        of_client.open.insert(id, Arc::clone(&load));
        Ok(ConnectionPermit { table: Arc::clone(&self.table), client, id, load })
    }

    fn refuse(&self, client: IpAddr) -> QuotaExceeded {
        let mut state = self.state();
        let of_client = state.clients.get_mut(&client);
        let was_refused = of_client.map(|it| std::mem::replace(&mut it.was_refused, true));
        QuotaExceeded { is_news: was_refused == Some(false) }
    }

    /// Has the connection closed that is worth least, if one may be. `newcomer` is the client that
    /// needs its place.
    pub(super) fn make_room(&self, newcomer: Option<IpAddr>) -> bool {
        let all = DescriptorShares::now().connections.min(self.table.max);
        let state = self.state();
        let mut least: Option<(ConnectionWorth, &Arc<ConnectionLoad>)> = None;
        for (client, of_client) in &state.clients {
            let held = of_client.open.len();
            let may_cut = newcomer.is_some_and(|new| new != *client) && held >= share_of_one(all);
            for load in of_client.open.values().filter(|load| !load.is_ended()) {
                let Some(worth) = ConnectionWorth::of(load, held, may_cut) else { continue };
                if least.is_none_or(|(least, _)| worth < least) {
                    least = Some((worth, load));
                }
            }
        }
        least.inspect(|(_, load)| load.end()).is_some()
    }

    /// Has a connection closed of the client that holds most, if that is so many times as many as
    /// `newcomer` would have: clients of many addresses, each within its share, leave places to
    /// others as one client does.
    fn make_fair(&self, newcomer: IpAddr) -> bool {
        let mut state = self.state();
        let held_by = |client: &IpAddr| state.clients.get(client).map_or(0, |it| it.open.len());
        let Some(most) = state.clients.keys().max_by_key(|client| held_by(client)) else {
            return false;
        };
        if held_by(most) < UNFAIR_TIMES * (held_by(&newcomer) + 1) {
            return false;
        }
        let open = state.clients.get(most).into_iter().flat_map(|it| it.open.values());
        let quietest = open.filter(|load| !load.is_ended()).max_by_key(|load| load.quiet_for());
        let is_made = quietest.inspect(|load| load.end()).is_some();
        if is_made {
            state.crowded_until = Some(Instant::now() + CROWDED_FOR);
        }
        is_made
    }

    fn is_crowded(&self) -> bool {
        self.state().crowded_until.is_some_and(|until| Instant::now() < until)
    }

    fn state(&self) -> MutexGuard<'_, QuotaState> {
        self.table.state.lock()
    }
}

/// Connections with the least worth go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConnectionWorth {
    state: ConnectionState,
    held: Reverse<usize>,
    quiet: Reverse<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ConnectionState {
    Idle,
    Stalled,
    OverShare,
}

impl ConnectionWorth {
    /// `None` if the connection is not to be closed. `held` is how many its client has.
    fn of(load: &ConnectionLoad, held: usize, may_cut: bool) -> Option<Self> {
        let quiet = load.quiet_for();
        let state = if load.is_idle() {
            (quiet >= IDLE_MIN).then_some(ConnectionState::Idle)
        } else if load.waits_for_client() && quiet >= STALLED_MIN {
            Some(ConnectionState::Stalled)
        } else {
            may_cut.then_some(ConnectionState::OverShare)
        }?;
        Some(Self { state, held: Reverse(held), quiet: Reverse(quiet) })
    }
}

/// The shares of the process's file descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DescriptorShares {
    connections: usize,
    extra_streams: usize,
}

impl DescriptorShares {
    /// Those under the limit of this moment, which can be changed from outside.
    fn now() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::of(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn of(limit: usize) -> Self {
        let of_clients = limit - (limit / 2).min(OWN_DESCRIPTORS_MAX);
        // A connection may have a file open for its request, so it takes two.
        Self { connections: (of_clients / 8 * 3).max(1), extra_streams: of_clients / 4 }
    }
}

impl Deref for ConnectionPermit {
    type Target = Arc<ConnectionLoad>;

    fn deref(&self) -> &Arc<ConnectionLoad> {
        &self.load
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.table.state.lock();
        state.held -= 1;
        if let Some(of_client) = state.clients.get_mut(&self.client) {
            of_client.open.remove(&self.id);
            of_client.was_refused = false;
            if of_client.open.is_empty() {
                state.clients.remove(&self.client);
            }
        }
        drop(state);
        self.table.left.notify_one();
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

/// Connections of all clients, however many descriptors there are.
const CONNECTIONS_MAX: usize = 16_384;

/// Connections of all operators: probes and scrapers.
const OPERATOR_CONNECTIONS_MAX: usize = 64;

/// Descriptors that are kept for Larder's own files and for upstreams; half of all, if there are
/// few.
const OWN_DESCRIPTORS_MAX: usize = 256;

/// A connection that has just been opened or answered is not closed before its client could send a
/// request.
const IDLE_MIN: Duration = Duration::from_millis(250);

/// A client that has taken nothing for this long makes room for others, if there is no other room.
const STALLED_MIN: Duration = Duration::from_secs(30);

/// The wait of a client that holds most places for one more.
const PLACE_WAIT: Duration = Duration::from_secs(5);

/// A client that holds so many times as many connections as another one would have makes room for
/// it, once it has waited in vain.
const UNFAIR_TIMES: usize = 4;

/// For how long after that others need not wait before.
const CROWDED_FOR: Duration = Duration::from_secs(60);

/// How often connections that have become idle are looked for, while one waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(max: usize) -> ConnectionQuota {
        ConnectionQuota::of(max, CancellationToken::new())
    }

    async fn enter(
        quota: &ConnectionQuota,
        address: &str,
    ) -> Result<ConnectionPermit, QuotaExceeded> {
        quota.enter(address.parse().unwrap(), 2).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_holds_so_many_and_no_more_and_leaves_no_trace() {
        let quota = quota(100);
        let one = enter(&quota, "10.0.0.1").await;
        let two = enter(&quota, "::ffff:10.0.0.1").await;
        assert!(one.is_ok() && two.is_ok());
        for is_news in [true, false] {
            let refused = enter(&quota, "10.0.0.1").await.err();
            assert_eq!(refused, Some(QuotaExceeded { is_news }));
        }
        assert!(enter(&quota, "10.0.0.2").await.is_ok(), "another client");
        drop(one);
        assert!(enter(&quota, "10.0.0.1").await.is_ok());

        let six = [enter(&quota, "2001:db8::1").await, enter(&quota, "2001:db8::ffff:1").await];
        assert!(enter(&quota, "2001:db8::2").await.is_err(), "one network is one client");
        assert!(enter(&quota, "2001:db8:0:1::1").await.is_ok());

        drop((two, six));
        assert!(quota.state().clients.is_empty());
    }

    /// The order: idle ones, of the client with most of them first; then those that take nothing;
    /// then, for another client, those of one that has more than its share.
    #[tokio::test(start_paused = true)]
    async fn connections_make_room_in_the_order_of_their_worth() {
        let quota = quota(4);
        let [busy, idle, newest] = [1, 1, 1].map(|_| enter_as(&quota, "10.0.0.1", 3));
        let alone = enter_as(&quota, "10.0.0.2", 3);
        let running = busy.begin(false).unwrap();
        let stalled = newest.begin(false).unwrap();
        tokio::time::advance(IDLE_MIN).await;
        let new = Some("10.0.0.3".parse().unwrap());
        assert!(quota.make_room(new) && idle.is_ended(), "idle, and of the larger client");
        assert!(quota.make_room(new) && alone.is_ended(), "idle");
        stalled.note_progress();
        tokio::time::advance(STALLED_MIN).await;
        assert!(quota.make_room(None) && newest.is_ended(), "it has taken nothing");
        assert!(!quota.make_room(None), "the other waits for its answer");
        assert!(!quota.make_room(Some("10.0.0.1".parse().unwrap())));
        assert!(quota.make_room(new) && busy.is_ended(), "its client has more than its share");
        drop((running, stalled));
    }

    /// All places are held by clients of many addresses, none of which has too many, or is idle.
    #[tokio::test(start_paused = true)]
    async fn clients_of_many_addresses_together_leave_places_to_others() {
        let quota = quota(16);
        let address = |number: usize| format!("10.0.0.{number}");
        let held: Vec<_> = (0..16).map(|it| enter_as(&quota, &address(it % 4), 8)).collect();
        let running: Vec<_> = held.iter().map(|permit| permit.begin(false).unwrap()).collect();
        // The others close what they are told to.
        let closing = tokio::spawn(async move {
            let mut open: Vec<_> = held.into_iter().zip(running).collect();
            loop {
                sleep(Duration::from_millis(10)).await;
                open.retain(|(permit, _)| !permit.is_ended());
            }
        });
        let began = Instant::now();
        let first = quota.enter("10.1.0.1".parse().unwrap(), 8);
        let first = tokio::time::timeout(PLACE_WAIT * 2, first).await.unwrap();
        assert!(first.is_ok() && began.elapsed() < PLACE_WAIT + IDLE_MIN, "{:?}", began.elapsed());

        let began = Instant::now();
        let more = quota.enter("10.1.0.2".parse().unwrap(), 8).await;
        assert!(more.is_ok() && began.elapsed() < IDLE_MIN, "{:?}", began.elapsed());
        // Nobody has many times as many as the second one would have.
        let second = quota.enter("10.1.0.1".parse().unwrap(), 8);
        assert!(tokio::time::timeout(PLACE_WAIT * 2, second).await.is_err());
        closing.abort();
    }

    /// Their port is open to whoever reaches it, and takes no place of the clients.
    #[tokio::test(start_paused = true)]
    async fn operators_have_places_of_their_own_and_no_more() {
        let quota = ConnectionQuota::for_operators(CancellationToken::new());
        let busy: Vec<_> = (0..OPERATOR_CONNECTIONS_MAX)
            .map(|number| enter_as(&quota, &format!("10.0.0.{number}"), 1024))
            .map(|permit| (permit.begin(false).unwrap(), permit))
            .collect();
        let one_more = quota.enter("10.0.1.1".parse().unwrap(), 1024);
        assert!(tokio::time::timeout(PLACE_WAIT * 2, one_more).await.is_err());
        drop(busy);
        assert!(quota.enter("10.0.1.1".parse().unwrap(), 1024).await.is_ok());
    }

    fn enter_as(quota: &ConnectionQuota, address: &str, max: usize) -> ConnectionPermit {
        quota.try_enter(address.parse().unwrap(), max).ok().unwrap()
    }

    #[test]
    fn connections_leave_descriptors_for_content_and_for_larder_itself() {
        for limit in [1, 8, 64, 1024, 4096, 1 << 20] {
            let shares = DescriptorShares::of(limit);
            let most = 2 * shares.connections + shares.extra_streams;
            assert!(limit < 8 || most + (limit / 2).min(256) <= limit, "{limit}: {shares:?}");
        }
        let (connections, extra_streams) = (12, 8);
        assert_eq!(DescriptorShares::of(64), DescriptorShares { connections, extra_streams });
    }
}
