//! The policies: Larder's own, and others to compare it with.

use std::collections::{BTreeSet, HashMap};

use fastrand::Rng;
use larder::store::{EvictionOrder, OrderBound};

/// Which of the layers in a cache goes first.
pub(crate) trait EvictionPolicy {
    /// A layer was stored. `next` is the number of the request in which it is asked for again.
    fn insert(&mut self, layer: u32, size: u64, at: u32, next: u64);
    /// A stored layer was served.
    fn touch(&mut self, layer: u32, size: u64, at: u32, next: u64);
    /// Takes out the layer that goes; there is one.
    fn evict(&mut self) -> u32;
}

/// The policies by name, in the order of the table.
pub(crate) fn all() -> Vec<(&'static str, Box<dyn EvictionPolicy>)> {
    let gdsf = |cost: fn(u64) -> f64, uses_max| Box::new(Ordered::gdsf(cost, uses_max));
    vec![
        ("LRU", Box::new(Ordered::by(|_, at, _| f64::from(at)))),
        ("GDSF, cost 1", gdsf(|_| 1.0, u32::MAX)),
        ("Larder, uses to 8", gdsf(fetch_cost, 8)),
        ("hyperbolic", Box::new(Hyperbolic::new())),
        ("Larder", Box::new(LarderOrder(EvictionOrder::default()))),
        ("Belady", Box::new(Ordered::by(|_, _, next| -(next as f64)))),
    ]
}

/// Larder's own code.
struct LarderOrder(EvictionOrder<u32>);

impl EvictionPolicy for LarderOrder {
    fn insert(&mut self, layer: u32, size: u64, at: u32, _next: u64) {
        self.0.insert(layer, size, at);
    }

    fn touch(&mut self, layer: u32, _size: u64, at: u32, _next: u64) {
        self.0.touch(&layer, at);
    }

    fn evict(&mut self) -> u32 {
        let layer = *self.0.first().expect("a cache that is full has layers");
        self.0.evict(&layer, OrderBound::Whole);
        layer
    }
}

/// The lowest priority goes.
struct Ordered {
    order: BTreeSet<(u64, u32)>,
    known: HashMap<u32, (u64, u32)>,
    priority: Box<dyn Fn(u64, u32, u64) -> f64>,
    inflation: Option<f64>,
    uses_max: u32,
}

impl Ordered {
    /// By what size, time of use and next use give.
    fn by(priority: fn(u64, u32, u64) -> f64) -> Self {
        let (order, known) = (BTreeSet::new(), HashMap::new());
        Self { order, known, priority: Box::new(priority), inflation: None, uses_max: 1 }
    }

    /// Over the last evicted one's, by uses, cost and size.
    fn gdsf(cost: fn(u64) -> f64, uses_max: u32) -> Self {
        let worth = move |size: u64, _, _| cost(size) / size as f64;
        let (order, known) = (BTreeSet::new(), HashMap::new());
        Self { order, known, priority: Box::new(worth), inflation: Some(0.0), uses_max }
    }
}

impl EvictionPolicy for Ordered {
    fn insert(&mut self, layer: u32, size: u64, at: u32, next: u64) {
        self.touch(layer, size, at, next);
    }

    fn touch(&mut self, layer: u32, size: u64, at: u32, next: u64) {
        let (before, uses) = self.known.get(&layer).copied().unwrap_or_default();
        self.order.remove(&(before, layer));
        let uses = (uses + 1).min(self.uses_max);
        let own = (self.priority)(size, at, next) * f64::from(uses);
        let key = sortable(own + self.inflation.unwrap_or_default());
        self.order.insert((key, layer));
        self.known.insert(layer, (key, uses));
    }

    fn evict(&mut self) -> u32 {
        let (key, layer) = self.order.pop_first().expect("a cache that is full has layers");
        self.known.remove(&layer);
        if let Some(inflation) = &mut self.inflation {
            *inflation = inflation.max(f64::from_bits(key ^ SIGN));
        }
        layer
    }
}

/// Evicts, among 64 that are drawn, the one with the fewest uses by time and size.
struct Hyperbolic {
    layers: Vec<(u32, u64, u32, u32)>,
    places: HashMap<u32, usize>,
    now: u32,
    random: Rng,
}

impl Hyperbolic {
    fn new() -> Self {
        let (layers, places) = (Vec::new(), HashMap::new());
        Self { layers, places, now: 0, random: Rng::with_seed(1) }
    }

    fn worth(&self, place: usize) -> f64 {
        let (_, size, since, uses) = self.layers[place];
        let age = f64::from(self.now - since + 1);
        f64::from(uses) / age * fetch_cost(size) / size as f64
    }
}

impl EvictionPolicy for Hyperbolic {
    fn insert(&mut self, layer: u32, size: u64, at: u32, _next: u64) {
        self.now = at;
        self.places.insert(layer, self.layers.len());
        self.layers.push((layer, size, at, 1));
    }

    fn touch(&mut self, layer: u32, _size: u64, at: u32, _next: u64) {
        self.now = at;
        self.layers[self.places[&layer]].3 += 1;
    }

    fn evict(&mut self) -> u32 {
        let drawn: Vec<_> = (0..64).map(|_| self.random.usize(..self.layers.len())).collect();
        let worst =
            drawn.into_iter().min_by(|one, other| self.worth(*one).total_cmp(&self.worth(*other)));
        let place = worst.expect("64 were drawn");
        let (layer, ..) = self.layers.swap_remove(place);
        self.places.remove(&layer);
        if let Some((moved, ..)) = self.layers.get(place) {
            self.places.insert(*moved, place);
        }
        layer
    }
}

fn fetch_cost(size: u64) -> f64 {
    8.0 * 1024.0 * 1024.0 + size as f64
}

const SIGN: u64 = 1 << 63;

/// A number whose order is that of the float, for those above zero and those below.
fn sortable(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits ^ SIGN }
}
