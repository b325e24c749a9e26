//! How one listener identifies its clients, as the configuration resolved it.

use std::sync::Arc;

use parking_lot::RwLock;

use super::AccessPolicy;
use super::htpasswd::UserTable;
use crate::registry::RepositoryPattern;

/// How one listener identifies its clients, and what they may do.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// Whether clients are asked for a password.
    pub challenge: ChallengePolicy,
    /// Which users may do what.
    pub policy: AccessPolicy,
    /// The users with passwords, if there is a file of them.
    pub htpasswd: Option<HtpasswdUsers>,
    /// The users behind client certificates; the first entry that matches a name counts.
    pub certificates: Vec<CertificateUser>,
}

impl Default for AccessOptions {
    /// Anonymous clients may pull, and no client is asked for a password.
    fn default() -> Self {
        Self {
            challenge: ChallengePolicy::Never,
            policy: AccessPolicy::open_for_pull(),
            htpasswd: None,
            certificates: Vec::new(),
        }
    }
}

/// Whether clients are asked for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengePolicy {
    /// A client without credentials is asked for them if its action needs a user.
    Basic,
    /// Never, and the `Authorization` header is not read: dockerd would offer Docker Hub's
    /// password to any mirror that challenges it.
    Never,
}

impl ChallengePolicy {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Never => "never",
        }
    }
}

/// Users with passwords, replaced as a whole when their file changes. Clones share the users.
#[derive(Clone, Debug)]
pub struct HtpasswdUsers {
    users: Arc<RwLock<Arc<UserTable>>>,
}

impl HtpasswdUsers {
    /// Starts with these users.
    pub fn new(users: UserTable) -> Self {
        Self { users: Arc::new(RwLock::new(Arc::new(users))) }
    }

    /// Replaces the users, and returns whether they differ from those before.
    pub fn replace(&self, users: UserTable) -> bool {
        let mut present = self.users.write();
        let has_changed = !present.is_same(&users);
        *present = Arc::new(users);
        has_changed
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, username: &str) -> bool {
        self.users().contains(username)
    }

    pub(super) fn users(&self) -> Arc<UserTable> {
        Arc::clone(&self.users.read())
    }
}

/// The user behind a client certificate.
#[derive(Clone, Debug)]
pub struct CertificateUser {
    /// A pattern of names in the certificate.
    pub name: RepositoryPattern,
    /// The user.
    pub user: String,
}
