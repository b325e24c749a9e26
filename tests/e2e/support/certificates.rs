//! A private CA and a server certificate, for 127.0.0.1 and localhost or other hosts, made by
//! openssl.

use std::fs;
use std::path::{Path, PathBuf};

use super::tools;
use super::work::Work;

/// Files in PEM.
pub(crate) struct Certificates {
    /// The certificate that a client of the server has to trust.
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// For this machine by its usual names.
    pub(crate) fn make(work: &Work) -> Self {
        Self::for_hosts(work, &["localhost"])
    }

    /// For these hosts, and for 127.0.0.1.
    pub(crate) fn for_hosts(work: &Work, hosts: &[&str]) -> Self {
        let dir = work.new_dir("certificates");
        let (ca, ca_key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
        let request = dir.join("server.csr");
        let names = dir.join("names");
        let hosts = hosts.join(",DNS:");
        let text = format!(
            "subjectAltName=IP:127.0.0.1,DNS:{hosts}\nbasicConstraints=CA:FALSE\n\
             extendedKeyUsage=serverAuth\n"
        );
        fs::write(&names, text).expect("the test's directory can be written");

        self_signed(&ca_key, &ca, "/CN=larder e2e CA");
        let new_key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        openssl(|command| {
            command.args(new_key).args(["-nodes", "-subj", "/CN=127.0.0.1", "-keyout"]);
            command.arg(&key).arg("-out").arg(&request)
        });
        openssl(|command| {
            command.args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"]).arg(&request);
            command.arg("-CA").arg(&ca).arg("-CAkey").arg(&ca_key);
            command.arg("-extfile").arg(&names).arg("-out").arg(&certificate)
        });
        Self { ca, certificate, key }
    }

    /// As a key of a listener of Larder's.
    pub(crate) fn as_toml(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("tls = {{ cert = \"{certificate}\", key = \"{key}\" }}\n")
    }

    /// As keys of the registry's `http` section.
    pub(crate) fn as_yaml(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!(", tls: {{certificate: {certificate}, key: {key}}}")
    }
}

/// A P-256 key (the old PEM form, which distribution's libtrust reads) and its certificate.
pub(crate) fn self_signed(key: &Path, certificate: &Path, subject: &str) {
    openssl(|command| {
        command.args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"]).arg(key)
    });
    openssl(|command| {
        command.args(["req", "-x509", "-new", "-days", "30", "-subj", subject, "-key"]).arg(key);
        command.arg("-out").arg(certificate)
    });
}

fn openssl(arguments: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command) {
    let mut command = tools::command("openssl");
    arguments(&mut command);
    tools::run(&mut command).expect("openssl makes keys and certificates");
}
