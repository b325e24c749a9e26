//! cosign: signatures of images, by a key of its own and without a transparency log.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;
use super::work::Work;

/// The actions of cosign with images; all over plain HTTP.
pub(crate) struct Cosign<'a> {
    work: &'a Work,
}

impl<'a> Cosign<'a> {
    /// With a new pair of keys.
    pub(crate) fn new(work: &'a Work) -> Self {
        let cosign = Self { work };
        tools::run(&mut cosign.command("generate-key-pair")).expect("cosign makes keys");
        cosign
    }

    /// Signs an image that is named by digest, and pushes the signature.
    pub(crate) fn sign(&self, image: &str) {
        let mut sign = self.command("sign");
        sign.args(["--yes", "--key", "cosign.key", "--use-signing-config=false"]);
        sign.args(["--tlog-upload=false", HTTP, image]);
        tools::run(&mut sign).unwrap_or_else(|error| panic!("cosign signs {image}: {error}"));
    }

    /// Verifies that the image has a signature by the key.
    ///
    /// # Errors
    ///
    /// The image has none: the message is cosign's.
    pub(crate) fn verify(&self, image: &str) -> Result<String, String> {
        let mut verify = self.command("verify");
        tools::run(verify.args(["--key", "cosign.pub", "--insecure-ignore-tlog", HTTP, image]))
    }

    /// The public half of its key.
    pub(crate) fn public_key(&self) -> PathBuf {
        self.work.data().join("cosign.pub")
    }

    /// Writes the signature of a file.
    pub(crate) fn sign_file(&self, file: &Path, signature: &Path) {
        let mut sign = self.command("sign-blob");
        sign.args(["--yes", "--key", "cosign.key", "--use-signing-config=false"]);
        sign.args(["--tlog-upload=false", "--new-bundle-format=false", "--output-signature"]);
        tools::run(sign.arg(signature).arg(file)).expect("cosign signs a file");
    }

    /// Verifies that the signature of a file is by a key.
    ///
    /// # Errors
    ///
    /// It is not: the message is cosign's.
    pub(crate) fn verify_file(
        &self,
        key: &Path,
        file: &Path,
        signature: &Path,
    ) -> Result<String, String> {
        let mut verify = self.command("verify-blob");
        verify.arg("--key").arg(key).arg("--signature").arg(signature);
        tools::run(verify.arg("--insecure-ignore-tlog").arg(file))
    }

    fn command(&self, command: &str) -> Command {
        let dir = self.work.data();
        let mut cosign = tools::command("cosign");
        cosign.env("DOCKER_CONFIG", dir).env("COSIGN_PASSWORD", "a password");
        cosign.env("TUF_ROOT", dir.join("tuf")).current_dir(dir).arg(command);
        cosign
    }
}

const HTTP: &str = "--allow-http-registry";
