//! Distribution's token server: users from an htpasswd file, tokens signed with a key of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::certificates::{Certificates, self_signed};
use super::process::Process;
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

/// An htpasswd file in bcrypt, the one form that distribution reads.
pub(crate) fn users(work: &Work, user: &str, password: &str) -> PathBuf {
    let line = tools::run(tools::command("htpasswd").args(["-Bbn", user, password]));
    work.file("users", &line.expect("htpasswd hashes a password"))
}

/// The token server lets a user into the repositories that begin with the user's name, and no
/// others.
pub(crate) const USER: &str = "library";

const ISSUER: &str = "larder-e2e";
