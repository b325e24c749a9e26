//! `[tls]`, and `tls` of a listener: the certificate that is shown to clients, and those that
//! clients may show.

use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault};
use super::file::ConfigFile;
use super::keys::TlsTable;
use super::reader::Located;
use super::resolver::Resolver;
use super::values::ClientAuth;
use crate::http::{ClientCa, IdentityError, ServerCertificate, check_ca};

/// How TLS is spoken with clients.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The file with the certificate and its chain.
    pub cert: PathBuf,
    /// The file with the certificate's key.
    pub key: PathBuf,
    /// The content of both files.
    pub identity: ServerCertificate,
    /// The authorities whose certificates clients may show; `None` if clients are not asked for
    /// one.
    pub clients: Option<ClientCa>,
}

impl TlsSettings {
    /// Reads both files again. They may be changing while they are read.
    pub fn read_again(&self) -> Result<ServerCertificate, Diagnostic> {
        let at = |path: &Path| SourcePlace::WholeFile(path.to_owned());
        let read = |path| {
            ConfigFile::read_present(path, PEM_LEN_MAX).map_err(|fault| fault.at(at(path), None))
        };
        let cert = read(&self.cert)?;
        let key = read(&self.key)?;
        ServerCertificate::from_pem(&cert.bytes, &key.bytes).map_err(|error| {
            let path = if error.is_of_key() { &self.key } else { &self.cert };
            fault_of(&error).at(at(path), None)
        })
    }
}

/// Reads the files that `written` names.
pub(super) fn resolve(
    written: &Located<TlsTable>,
    resolver: &mut Resolver<'_>,
) -> Option<TlsSettings> {
    let TlsTable { cert, key, .. } = &written.value;
    let clients = clients(&written.value, resolver);
    let (Some(cert), Some(key)) = (cert, key) else {
        let missing = if cert.is_none() { "cert" } else { "key" };
        let fault = ValueFault::new(format!("TLS needs a `{missing}`"));
        resolver.report(&written.at, fault.hint("`cert` and `key` name PEM files"));
        return None;
    };
    let cert_pem = resolver.file(cert, PEM_LEN_MAX);
    let key_pem = resolver.secret_file(key, PEM_LEN_MAX);
    let identity = ServerCertificate::from_pem(&cert_pem?, &key_pem?).map_err(|error| {
        let at = if error.is_of_key() { &key.at } else { &cert.at };
        resolver.report(at, fault_of(&error));
    });
    Some(TlsSettings {
        cert: resolver.path(&cert.value).ok()?,
        key: resolver.path(&key.value).ok()?,
        identity: identity.ok()?,
        clients,
    })
}

fn clients(written: &TlsTable, resolver: &mut Resolver<'_>) -> Option<ClientCa> {
    let Some(ca) = &written.client_ca else {
        if let Some(auth) = &written.client_auth {
            let fault = ValueFault::new("`client_auth` is given without `client_ca`");
            resolver.report(&auth.at, fault.hint("say who signs the clients' certificates"));
        }
        return None;
    };
    let pem = resolver.file(ca, PEM_LEN_MAX)?;
    let checked = check_ca(&pem)
        .map_err(|error| ValueFault::new(format!("this file cannot be trusted: {error}")));
    resolver.accept(&ca.at, checked)?;
    let is_required =
        written.client_auth.as_ref().map(|auth| auth.value) == Some(ClientAuth::Required);
    Some(ClientCa { pem, is_required })
}

fn fault_of(error: &IdentityError) -> ValueFault {
    let fault = ValueFault::new(error.to_string());
    match error {
        IdentityError::EncryptedKey => {
            fault.hint("Larder cannot ask for a passphrase; `openssl pkey` removes it")
        }
        IdentityError::NoCertificate => fault
            .hint("it needs one or more `-----BEGIN CERTIFICATE-----` blocks, the own one first"),
        IdentityError::NoKey => fault.hint("it needs a `-----BEGIN PRIVATE KEY-----` block"),
        IdentityError::Mismatch => {
            fault.hint("the first certificate in `cert` must be the one made for `key`")
        }
        _ => fault,
    }
}

/// A chain has a few KiB, a bundle of all public CAs about 250.
const PEM_LEN_MAX: u64 = 1 << 20;
