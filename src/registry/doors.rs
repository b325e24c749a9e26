//! The ways in which a request can name its registry (doors), and sets of them.

use std::fmt;

/// A way to name a registry in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The host of the request: one of the registry's `hosts`.
    Host,
    /// No name: the default registry is meant.
    Mirror,
    /// `?ns=<registry>` (distribution-spec, "Registry Proxying").
    Namespace,
    /// `/v2/<prefix>/…`
    Prefix,
    /// `/<registry>/v2/…`
    Registry,
}

impl Door {
    /// Every door, in the order in which they are tried.
    pub const ALL: [Self; 5] =
        [Self::Registry, Self::Namespace, Self::Host, Self::Prefix, Self::Mirror];

    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Mirror => "mirror",
            Self::Namespace => "ns",
            Self::Prefix => "prefix",
            Self::Registry => "registry",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The doors that are open at a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OpenDoors {
    bits: u8,
}

impl OpenDoors {
    /// All doors.
    pub fn all() -> Self {
        Door::ALL.into_iter().collect()
    }

    /// Whether this door is open.
    pub fn contains(self, door: Door) -> bool {
        self.bits & door.bit() != 0
    }
}

impl FromIterator<Door> for OpenDoors {
    fn from_iter<I: IntoIterator<Item = Door>>(doors: I) -> Self {
        Self { bits: doors.into_iter().fold(0, |bits, door| bits | door.bit()) }
    }
}

impl fmt::Display for OpenDoors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = Door::ALL.into_iter().filter(|door| self.contains(*door));
        let open: Vec<&str> = open.map(Door::as_str).collect();
        f.write_str(&open.join(", "))
    }
}

impl fmt::Debug for OpenDoors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
