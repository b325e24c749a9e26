//! Registries that let in who has a password: by htpasswd, or by distribution's token server, which
//! takes its users from such a file and signs tokens with a key of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::certificates::{Certificates, self_signed};
use super::process::Process;
use super::registry::{Guard, Registry};
use super::work::Work;
use super::{tools, wait};

/// A running token server, over TLS.
pub(crate) struct TokenServer {
    pub(crate) port: u16,
    /// What a registry trusts its tokens by.
    signer: PathBuf,
    log: PathBuf,
    _process: Process,
}

impl TokenServer {
    pub(crate) fn start(work: &Work, users: &Path, certificates: &Certificates) -> Self {
        let port = wait::free_port();
        let (key, signer) = (work.data().join("token.key"), work.data().join("token.pem"));
        self_signed(&key, &signer, "/CN=larder e2e tokens");
        let log = work.log("token-server.log");

        let mut command = tools::command("token-server");
        command.args(["-debug", "-realm", "e2e", "-issuer", ISSUER, "-addr"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.arg("-passwd").arg(users).arg("-key").arg(&key);
        command.arg("-tlscert").arg(&certificates.certificate);
        command.arg("-tlskey").arg(&certificates.key);
        let mut process = Process::spawn("token-server", &command, &log);
        process.wait_until_ready(|| wait::answers(port));
        Self { port, signer, log, _process: process }
    }

    /// As the registry's `auth` section.
    pub(crate) fn as_yaml(&self) -> String {
        let (port, signer) = (self.port, self.signer.display());
        format!(
            "auth: {{token: {{realm: \"https://127.0.0.1:{port}/token/\", service: e2e, \
             issuer: {ISSUER}, rootcertbundle: {signer}}}}}\n"
        )
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
    pub(crate) fn by_tokens(work: &Work, password: &str) -> Self {
        let certificates = Certificates::make(work);
        let server = TokenServer::start(work, &users(work, password), &certificates);
        let guard = Guard::Tokens { server: &server, certificates: &certificates };
        let upstream = Registry::start(work, &guard);
        Self { certificates, server, upstream }
    }
}

/// A registry that wants `USER` and the password, over plain HTTP.
pub(crate) fn behind_htpasswd(work: &Work, password: &str) -> Registry {
    Registry::start(work, &Guard::Htpasswd { file: &users(work, password) })
}

/// An htpasswd file in bcrypt, the one form that distribution reads.
fn users(work: &Work, password: &str) -> PathBuf {
    let line = tools::run(tools::command("htpasswd").args(["-Bbn", USER, password]));
    work.file("users", &line.expect("htpasswd hashes a password"))
}

/// What a test needs for the one.
pub(crate) const TOKENS: &[&str] =
    &["docker-registry", "curl", "setpriv", "htpasswd", "openssl", "token-server"];

/// What a test needs for the other.
pub(crate) const HTPASSWD: &[&str] = &["docker-registry", "curl", "setpriv", "htpasswd"];

/// The token server lets a user into the repositories that begin with the user's name, and no
/// others.
pub(crate) const USER: &str = "library";

const ISSUER: &str = "larder-e2e";
