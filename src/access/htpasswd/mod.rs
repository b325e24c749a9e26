//! Users and hashed passwords, in the format of Apache's `htpasswd`.
//!
//! A line is `user:hash`; lines that are empty or begin with `#` say nothing. Hashes are bcrypt
//! (`$2a$`, `$2b$`, `$2y$`) or Argon2 in its PHC form; what is weaker, or would take longer than a
//! login may, is refused when the file is read. Where the file lies is not known here.
//!
//! No message in this file may contain a password or a hash.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use bcrypt::HashParts;
use secrecy::{ExposeSecret, SecretString};

/// The users of a file.
pub struct UserTable {
    by_name: HashMap<String, SecretString>,
    /// What is verified for users that there are not, so that it takes as long as for others.
    dummy: SecretString,
    cheap: Option<CheapHashes>,
}

/// Hashes that are quickly guessed once they are stolen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheapHashes {
    /// How many.
    pub count: usize,
    /// The line of the first, counted from 1.
    pub line: usize,
}

impl UserTable {
    /// Reads a file's content. Hashes nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with which line; never an empty list.
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

    /// Whether these are the same users with the same hashes.
    pub(super) fn is_the_same_as(&self, other: &Self) -> bool {
        let is_there = |(name, hash): (&String, &SecretString)| {
            let there = other.by_name.get(name);
            there.is_some_and(|there| there.expose_secret() == hash.expose_secret())
        };
        self.by_name.len() == other.by_name.len() && self.by_name.iter().all(is_there)
    }

    /// Hashes that should be replaced.
    pub fn cheap(&self) -> Option<CheapHashes> {
        self.cheap
    }

    /// The hash of a user, to tell whether it is still the same.
    pub(super) fn hash_of(&self, username: &str) -> Option<&SecretString> {
        self.by_name.get(username)
    }

    /// Whether this is the user's password. Takes long, and equally long whether there is such a
    /// user or not: not for the reactor.
    pub(super) fn verify(&self, username: &str, password: &SecretString) -> bool {
        let hash = self.by_name.get(username);
        let is_right = is_of(hash.unwrap_or(&self.dummy), password);
        is_right && hash.is_some()
    }
}

impl fmt::Debug for UserTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserTable").field("count", &self.by_name.len()).finish_non_exhaustive()
    }
}

fn is_of(hash: &SecretString, password: &SecretString) -> bool {
    let (hash, password) = (hash.expose_secret(), password.expose_secret().as_bytes());
    if hash.starts_with("$argon2") {
        return Argon2::default().verify_password(password, hash).is_ok();
    }
    // bcrypt sees the first 72 bytes only. A password is right as a whole or not at all.
    let is_whole = password.len() <= BCRYPT_PASSWORD_MAX;
    bcrypt::verify(password, hash).unwrap_or(false) && is_whole
}

/// A file that is being read.
#[derive(Default)]
struct HtpasswdParser {
    by_name: HashMap<String, (SecretString, usize)>,
    /// How many users have hashes that take equally long, and one of these hashes.
    kinds: HashMap<String, (usize, SecretString)>,
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
            return Err(LineFault::User);
        }
        let kind = kind_of(hash)?;
        let hash = SecretString::from(hash);
        match self.by_name.entry(user.to_owned()) {
            Entry::Occupied(entry) => return Err(LineFault::Twice { first: entry.get().1 }),
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
        let commonest = self.kinds.into_values().max_by_key(|(count, _)| *count);
        match commonest {
            Some((_, dummy)) if self.bad.is_empty() => Ok(UserTable {
                by_name: self.by_name.into_iter().map(|(name, (hash, _))| (name, hash)).collect(),
                dummy,
                cheap: self.cheap,
            }),
            _ => {
                if self.bad.is_empty() {
                    // Most likely it is being written.
                    self.bad.push(BadLine { line: 1, fault: LineFault::NoUsers });
                }
                Err(self.bad)
            }
        }
    }
}

/// What a hash is, without the hash.
struct HashKind {
    /// The same for those that take equally long to verify.
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

/// A line that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// It begins as an Argon2 hash does.
    #[error("this is not an Argon2 hash")]
    Argon2,
    /// Whoever logs in could occupy the machine.
    #[error(
        "this Argon2 hash takes too long; at most {} MiB, {ARGON2_PASSES_MAX} passes and \
         {ARGON2_LANES_MAX} lanes",
        ARGON2_MEMORY_KIB_MAX / 1024
    )]
    Argon2Cost,
    /// It begins as a bcrypt hash does.
    #[error("this is not a bcrypt hash")]
    Bcrypt,
    /// Whoever logs in could occupy the machine.
    #[error("a bcrypt hash of cost {cost} takes too long; at most {BCRYPT_COST_MAX}")]
    Cost {
        /// The cost.
        cost: u32,
    },
    /// Nothing ends the user.
    #[error("there is no `:`")]
    NoColon,
    /// Nothing stands behind the user.
    #[error("the user has no hash")]
    NoHash,
    /// Nothing stands before the colon.
    #[error("there is no user before the `:`")]
    NoUser,
    /// Nobody is in the whole file.
    #[error("there is no user in this file")]
    NoUsers,
    /// It has bytes that no text has.
    #[error("this is not UTF-8")]
    NotText,
    /// A password, or a hash of the old `crypt`.
    #[error("this is not a hash that Larder takes: a plain password, or an old `crypt`")]
    Plain,
    /// The user stands there already.
    #[error("this user is there already, on line {first}")]
    Twice {
        /// Where.
        first: usize,
    },
    /// A user that nobody could mean.
    #[error("the user has a space or a control character in it")]
    User,
    /// The hash is guessed too quickly.
    #[error("{0} is too weak to keep passwords with")]
    Weak(&'static str),
}

/// About a second; each further step is twice as long.
const BCRYPT_COST_MAX: u32 = 14;

/// Below this the algorithm does not go.
const BCRYPT_COST_LEAST: u32 = 4;

/// What is recommended today; `htpasswd` takes 5 if it is not told.
const BCRYPT_COST_WANTED: u32 = 10;

const BCRYPT_PASSWORD_MAX: usize = 72;

/// Twice what RFC 9106 recommends where memory is short. Few are verified at once.
const ARGON2_MEMORY_KIB_MAX: u32 = 128 << 10;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;
const ARGON2_OUTPUT_LEAST: usize = 16;

/// Whoever has more wrong has the wrong file.
const BAD_LINES_MAX: usize = 20;

#[cfg(test)]
mod tests;
