//! Users and hashed passwords, in the format of Apache's `htpasswd`.
//!
//! A line is `user:hash`; empty lines and lines that begin with `#` are skipped. A hash is bcrypt
//! (`$2a$`, `$2b$`, `$2y$`) or Argon2 in its PHC form; a weaker one, or one that would take longer
//! than a login may, is refused when the file is read. The path of the file and the time of a
//! reload are not decided here.
//!
//! No message in this file may contain a password or a hash.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use bcrypt::HashParts;
use secrecy::{ExposeSecret, SecretString};

/// The users of a file.
pub struct UserTable {
    by_name: HashMap<String, SecretString>,
    decoys: DecoyHashes,
    cheap: Option<CheapHashes>,
}

/// Hashes of low cost: an attacker who steals them guesses their passwords quickly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheapHashes {
    /// The number of such hashes.
    pub count: usize,
    /// The line of the first, counted from 1.
    pub line: usize,
}

impl UserTable {
    /// Parses the content of a file. Computes no hash.
    ///
    /// # Errors
    ///
    /// The bad lines, at least one and at most 20.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<BadLine>> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let mut found = HtpasswdParser::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Err(fault) = found.take(index + 1, line) {
                found.bad.push(BadLine { line: index + 1, fault });
                if found.bad.len() >= BAD_LINES_MAX {
                    break;
                }
            }
        }
        found.finish()
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, username: &str) -> bool {
        self.by_name.contains_key(username)
    }

    /// Whether both tables have the same users with the same hashes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_there = |(name, hash): (&String, &SecretString)| {
            let there = other.by_name.get(name);
            there.is_some_and(|there| there.expose_secret() == hash.expose_secret())
        };
        self.by_name.len() == other.by_name.len() && self.by_name.iter().all(is_there)
    }

    /// The hashes that the operator should replace, if any.
    pub fn cheap(&self) -> Option<CheapHashes> {
        self.cheap
    }

    /// The hash of a user.
    pub(super) fn hash_of(&self, username: &str) -> Option<&SecretString> {
        self.by_name.get(username)
    }

    /// Whether this is the user's password. Takes up to seconds, and equally long for an unknown
    /// user, so it must run on the blocking pool.
    pub(super) fn verify(&self, username: &str, password: &SecretString) -> bool {
        self.verify_by(username, password, matches)
    }

    /// Computes one hash, for known and unknown users alike; `matches` computes it.
    fn verify_by(
        &self,
        username: &str,
        password: &SecretString,
        matches: impl FnOnce(&SecretString, &SecretString) -> bool,
    ) -> bool {
        let hash = self.by_name.get(username);
        let Some(computed) = hash.or_else(|| self.decoys.of(username)) else { return false };
        matches(computed, password) && hash.is_some()
    }
}

impl fmt::Debug for UserTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserTable").field("count", &self.by_name.len()).finish_non_exhaustive()
    }
}

fn matches(hash: &SecretString, password: &SecretString) -> bool {
    let (hash, password) = (hash.expose_secret(), password.expose_secret().as_bytes());
    if hash.starts_with("$argon2") {
        return Argon2::default().verify_password(password, hash).is_ok();
    }
    // bcrypt ignores all but the first 72 bytes; a longer password is wrong.
    let is_whole = password.len() <= BCRYPT_PASSWORD_MAX;
    bcrypt::verify(password, hash).unwrap_or(false) && is_whole
}

/// The hashes that are verified for unknown users, so that they take as long as known ones.
///
/// Each unknown name has one kind of hash, always the same, and each kind as many unknown names as
/// users, in proportion. So the time of a login, which tells the kind, tells nothing of whether
/// there is such a user. A restart gives unknown names other kinds.
struct DecoyHashes {
    /// For each kind of hash in the file, the number of its users, and one of their hashes.
    kinds: Vec<(usize, SecretString)>,
}

impl DecoyHashes {
    fn of(&self, username: &str) -> Option<&SecretString> {
        // A change of the file moves the bounds between the kinds, and few names over them.
        let users: usize = self.kinds.iter().map(|(count, _)| count).sum();
        let place = u128::from(NAMES.hash_one(username)) * users as u128;
        let mut left = usize::try_from(place >> u64::BITS).ok()?;
        let is_here = |(count, _): &&(usize, SecretString)| {
            let is_here = left < *count;
            left = left.saturating_sub(*count);
            is_here
        };
        self.kinds.iter().find(is_here).map(|(_, hash)| hash)
    }
}

/// Orders unknown names in a way that no client can compute.
static NAMES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The lines of a file so far.
#[derive(Default)]
struct HtpasswdParser {
    by_name: HashMap<String, (SecretString, usize)>,
    /// For each cost, the number of its hashes and one of them.
    kinds: BTreeMap<String, (usize, SecretString)>,
    cheap: Option<CheapHashes>,
    bad: Vec<BadLine>,
}

impl HtpasswdParser {
    fn take(&mut self, number: usize, line: &[u8]) -> Result<(), LineFault> {
        let line = std::str::from_utf8(line).map_err(|_| LineFault::NotText)?;
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (user, hash) = line.split_once(':').ok_or(LineFault::NoColon)?;
        if user.is_empty() {
            return Err(LineFault::NoUser);
        }
        if user.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(LineFault::InvalidUser);
        }
        let kind = kind_of(hash)?;
        let hash = SecretString::from(hash);
        match self.by_name.entry(user.to_owned()) {
            Entry::Occupied(entry) => return Err(LineFault::Duplicate { first: entry.get().1 }),
            Entry::Vacant(entry) => entry.insert((hash.clone(), number)),
        };
        if kind.is_cheap {
            let cheap = self.cheap.get_or_insert(CheapHashes { count: 0, line: number });
            cheap.count += 1;
        }
        self.kinds.entry(kind.name).or_insert((0, hash)).0 += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<UserTable, Vec<BadLine>> {
        if self.bad.is_empty() && self.by_name.is_empty() {
            // Most likely the file is being written.
            self.bad.push(BadLine { line: 1, fault: LineFault::NoUsers });
        }
        if !self.bad.is_empty() {
            return Err(self.bad);
        }
        Ok(UserTable {
            by_name: self.by_name.into_iter().map(|(name, (hash, _))| (name, hash)).collect(),
            decoys: DecoyHashes { kinds: self.kinds.into_values().collect() },
            cheap: self.cheap,
        })
    }
}

/// The algorithm and cost of a hash.
struct HashKind {
    /// Equal for hashes that take equally long to verify.
    name: String,
    is_cheap: bool,
}

fn kind_of(hash: &str) -> Result<HashKind, LineFault> {
    match hash {
        "" => Err(LineFault::NoHash),
        _ if ["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version)) => {
            bcrypt_kind(hash)
        }
        _ if hash.starts_with("$argon2") => argon2_kind(hash),
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => Err(LineFault::Weak("MD5")),
        _ if hash.starts_with("{SHA}") => Err(LineFault::Weak("SHA-1")),
        _ if hash.starts_with("$5$") || hash.starts_with("$6$") => {
            Err(LineFault::Weak("SHA-crypt"))
        }
        _ if hash.starts_with("$2") => Err(LineFault::Bcrypt),
        _ => Err(LineFault::Plain),
    }
}

fn bcrypt_kind(hash: &str) -> Result<HashKind, LineFault> {
    let parts: HashParts = hash.parse().map_err(|_| LineFault::Bcrypt)?;
    let cost = parts.get_cost();
    if cost > BCRYPT_COST_MAX {
        return Err(LineFault::Cost { cost });
    }
    if cost < BCRYPT_COST_LEAST {
        return Err(LineFault::Bcrypt);
    }
    Ok(HashKind { name: format!("bcrypt {cost}"), is_cheap: cost < BCRYPT_COST_WANTED })
}

fn argon2_kind(hash: &str) -> Result<HashKind, LineFault> {
    let hash = PasswordHash::new(hash).map_err(|_| LineFault::Argon2)?;
    let params = Params::try_from(&hash).map_err(|_| LineFault::Argon2)?;
    let name = hash.algorithm.as_str();
    let is_known = matches!(name, "argon2d" | "argon2i" | "argon2id")
        && matches!(hash.version, None | Some(0x10 | 0x13))
        && hash.salt.is_some()
        && hash.hash.is_some_and(|output| output.as_bytes().len() >= ARGON2_OUTPUT_LEAST);
    if !is_known {
        return Err(LineFault::Argon2);
    }
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory > ARGON2_MEMORY_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
        return Err(LineFault::Argon2Cost);
    }
    Ok(HashKind { name: format!("{name} {memory} {passes} {lanes}"), is_cheap: false })
}

/// A line that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// The reason.
    pub fault: LineFault,
}

/// The reason why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// It begins like an Argon2 hash, and is not one.
    #[error("this is not an Argon2 hash")]
    Argon2,
    /// An Argon2 hash so costly that one login could occupy the machine.
    #[error(
        "this Argon2 hash takes too long; at most {} MiB, {ARGON2_PASSES_MAX} passes and \
         {ARGON2_LANES_MAX} lanes",
        ARGON2_MEMORY_KIB_MAX / 1024
    )]
    Argon2Cost,
    /// It begins like a bcrypt hash, and is not one.
    #[error("this is not a bcrypt hash")]
    Bcrypt,
    /// A bcrypt hash so costly that one login could occupy the machine.
    #[error("a bcrypt hash of cost {cost} takes too long; at most {BCRYPT_COST_MAX}")]
    Cost {
        /// The cost, as the exponent of two.
        cost: u32,
    },
    /// There is no colon.
    #[error("there is no `:`")]
    NoColon,
    /// There is nothing after the colon.
    #[error("the user has no hash")]
    NoHash,
    /// There is nothing before the colon.
    #[error("there is no user before the `:`")]
    NoUser,
    /// The file has no user.
    #[error("there is no user in this file")]
    NoUsers,
    /// It is not UTF-8.
    #[error("this is not UTF-8")]
    NotText,
    /// A plain password, or a hash of the old `crypt`.
    #[error("this is not a hash that Larder takes: a plain password, or an old `crypt`")]
    Plain,
    /// An earlier line has the same user.
    #[error("this user is there already, on line {first}")]
    Duplicate {
        /// The number of that line.
        first: usize,
    },
    /// The name of the user has a space or a control character.
    #[error("the user has a space or a control character in it")]
    InvalidUser,
    /// An algorithm so fast that passwords are guessed quickly.
    #[error("{0} is too weak to hash passwords with")]
    Weak(&'static str),
}

/// About a second; each step more takes twice as long.
const BCRYPT_COST_MAX: u32 = 14;

/// The least that the algorithm allows.
const BCRYPT_COST_LEAST: u32 = 4;

/// The least that OWASP recommends; `htpasswd` uses 5 by default.
const BCRYPT_COST_WANTED: u32 = 10;

/// In bytes; bcrypt ignores the rest.
const BCRYPT_PASSWORD_MAX: usize = 72;

/// Twice the memory that RFC 9106 recommends where memory is scarce. Few are verified at once.
const ARGON2_MEMORY_KIB_MAX: u32 = 128 << 10;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;
const ARGON2_OUTPUT_LEAST: usize = 16;

/// A file with more bad lines is the wrong file.
const BAD_LINES_MAX: usize = 20;

#[cfg(test)]
mod tests;
