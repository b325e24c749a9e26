//! Registries that let in who has a password: by htpasswd, or by distribution's token server, which
//! takes its users from such a file and signs tokens with a key of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::certificates::{Certificates, self_signed};
use super::client::Login;
use super::process::Process;
use super::registry::{Guard, Registry};
use super::work::Work;
use super::{tools, wait};

/// A running token server, over TLS.
pub(crate) struct TokenServer {
    pub(crate) port: u16,
    users: PathBuf,
    /// The certificate by which a registry trusts its tokens.
    signer: PathBuf,
    log: PathBuf,
    _process: Process,
}

impl TokenServer {
    pub(crate) fn start(work: &Work, users: PathBuf, certificates: &Certificates) -> Self {
        let port = wait::free_port();
        let dir = work.new_dir("tokens");
        let (key, signer) = (dir.join("key"), dir.join("pem"));
        self_signed(&key, &signer, "/CN=larder e2e tokens");
        let log = work.log(&format!("token-server-{port}.log"));

        let mut command = tools::command("token-server");
        command.args(["-debug", "-realm", "e2e", "-issuer", ISSUER, "-addr"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.arg("-passwd").arg(&users).arg("-key").arg(&key);
        command.arg("-tlscert").arg(&certificates.certificate);
        command.arg("-tlskey").arg(&certificates.key);
        let mut process = Process::spawn("token-server", &command, &log);
        process.wait_until_ready(|| wait::answers(port));
        Self { port, users, signer, log, _process: process }
    }

    /// As the registry's `auth` section.
    pub(crate) fn as_yaml(&self) -> String {
        let (port, signer) = (self.port, self.signer.display());
        format!(
            "auth: {{token: {{realm: \"https://127.0.0.1:{port}/token/\", service: e2e, \
             issuer: {ISSUER}, rootcertbundle: {signer}}}}}\n"
        )
    }

    /// Lets only these users in from now on. Tokens that it has signed for others are good for a
    /// quarter of an hour all the same.
    pub(crate) fn admit(&self, users: &[Login]) {
        fs::write(&self.users, hashed(users)).expect("the test's directory can be written");
    }

    /// Whether this user has asked it for a token since its log had `from` bytes; see
    /// [`TokenServer::logged`].
    pub(crate) fn asked_by(&self, user: &str, from: usize) -> bool {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.get(from..).unwrap_or_default().contains(&format!("acctSubject={user}"))
    }

    /// Whether anybody of that name has ever been at it, with a right password or a wrong one.
    pub(crate) fn was_told_of(&self, user: &str) -> bool {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        [format!("account={user}"), format!("Subject={user}"), format!("user \\\"{user}\\\"")]
            .iter()
            .any(|trace| log.contains(trace))
    }

    /// How many bytes it has logged.
    pub(crate) fn logged(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().len()
    }

    /// Whether anybody asked it for a token.
    pub(crate) fn was_asked(&self) -> bool {
        fs::read_to_string(&self.log).unwrap_or_default().contains("/token/")
    }
}

/// A registry that wants tokens, over TLS, and what it takes.
pub(crate) struct Guarded {
    pub(crate) certificates: Certificates,
    pub(crate) server: TokenServer,
    pub(crate) upstream: Registry,
}

impl Guarded {
    /// For `USER`.
    pub(crate) fn by_tokens(work: &Work, password: &'static str) -> Self {
        Self::for_users(work, &[Login { user: USER, password }])
    }

    pub(crate) fn for_users(work: &Work, users: &[Login]) -> Self {
        Self::with(work, users, |guard| Registry::start(work, guard))
    }

    /// Over a storage of its own.
    pub(crate) fn taking_pushes(work: &Work, storage: &Path, users: &[Login]) -> Self {
        Self::with(work, users, |guard| Registry::guarded(storage, work, guard))
    }

    fn with(work: &Work, users: &[Login], start: impl Fn(&Guard<'_>) -> Registry) -> Self {
        let certificates = Certificates::make(work);
        let server = TokenServer::start(work, htpasswd(work, users), &certificates);
        let guard = Guard::Tokens { server: &server, certificates: &certificates };
        let upstream = start(&guard);
        Self { certificates, server, upstream }
    }
}

/// A registry that wants `USER` and the password, over plain HTTP.
pub(crate) fn behind_htpasswd(work: &Work, password: &'static str) -> Registry {
    let file = htpasswd(work, &[Login { user: USER, password }]);
    Registry::start(work, &Guard::Htpasswd { file: &file })
}

/// A file of users with bcrypt, the one form that distribution reads.
pub(crate) fn htpasswd(work: &Work, users: &[Login]) -> PathBuf {
    let file = work.new_dir("users").join("htpasswd");
    fs::write(&file, hashed(users)).expect("the test's directory can be written");
    file
}

fn hashed(users: &[Login]) -> String {
    let line = |login: &Login| {
        let hash =
            tools::run(tools::command("htpasswd").args(["-Bbn", login.user, login.password]));
        hash.expect("htpasswd hashes a password").trim().to_owned() + "\n"
    };
    users.iter().map(line).collect()
}

/// The programs that a test needs for the token server.
pub(crate) const TOKENS: &[&str] =
    &["docker-registry", "curl", "setpriv", "htpasswd", "openssl", "token-server"];

/// The programs that a test needs for a registry with a file of users.
pub(crate) const HTPASSWD: &[&str] = &["docker-registry", "curl", "setpriv", "htpasswd"];

/// The token server lets a user into the repositories that begin with the user's name, and no
/// others.
pub(crate) const USER: &str = "library";

const ISSUER: &str = "larder-e2e";
