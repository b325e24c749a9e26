//! Files of upstreams' passwords are read again when they change, as certificates are: see
//! `certificates.rs`. Tokens of cloud registries live for hours, and their files are rewritten.
//!
//! A file that cannot be used is reported once, and the password that was known stays.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::certificates::{FileStamp, stamp};
use crate::config;
use crate::registry::RegistryOptions;
use crate::upstream::{ProxyCredential, UpstreamOptions};

/// How the files looked when they were last read.
#[derive(Debug, Default)]
pub(super) struct PasswordWatch {
    seen: Vec<(PathBuf, Option<FileStamp>)>,
}

impl PasswordWatch {
    /// Reads those that have changed since the last time, and those that are new here, and puts
    /// their passwords into the options. Returns whether any is another one. Blocks.
    pub(super) fn look(&mut self, registries: &mut [RegistryOptions]) -> bool {
        let before = std::mem::take(&mut self.seen);
        let mut is_changed = false;
        for registry in registries {
            for upstream in registry.mirrors.iter_mut().chain([&mut registry.upstream]) {
                for (path, password) in passwords(upstream) {
                    let now = stamp(path);
                    let seen = (path.to_owned(), now);
                    is_changed |= !before.contains(&seen) && renew(path, password);
                    self.seen.push(seen);
                }
            }
        }
        is_changed
    }
}

/// The passwords of an upstream's logins that are from files.
fn passwords(upstream: &mut UpstreamOptions) -> impl Iterator<Item = (&Path, &mut SecretString)> {
    let UpstreamOptions { credential, password_file, further_logins, .. } = upstream;
    let further = further_logins.iter_mut().map(|it| (&it.password_file, &mut it.credential));
    let all = std::iter::once((&*password_file, credential)).chain(further);
    all.filter_map(|(path, credential)| match (path, credential) {
        (Some(path), ProxyCredential::Basic { password, .. }) => Some((path.as_path(), password)),
        _ => None,
    })
}

/// Reads the password again. Returns whether it is another one.
fn renew(path: &Path, password: &mut SecretString) -> bool {
    let file = path.display();
    match config::read_password_again(path) {
        Ok(read) if read.expose_secret() == password.expose_secret() => false,
        Ok(read) => {
            *password = read;
            tracing::info!(%file, "another password is in service");
            true
        }
        Err(problem) => {
            let problem = problem.what;
            tracing::error!(
                %file,
                problem,
                "a changed password cannot be used, the old one stays in service"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{ConfigArgs, load};

    /// A token is rewritten every few hours, by a program that knows nothing of signals.
    #[test]
    fn a_changed_password_is_taken_up_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("first"), "one\n").unwrap();
        fs::write(path("second"), "two\n").unwrap();
        let config = "[registry.'a.test']\nupstream = [\n\
                      { url = 'https://m.test', auth = { type = 'basic', username = 'me', \
                      password_file = 'first' } },\n'https://a.test']\n\
                      auth = { type = 'basic', username = 'me', password_file = 'second' }\n";
        fs::write(path("config.toml"), config).unwrap();
        let arguments = ConfigArgs { config: Some(path("config.toml")), ..ConfigArgs::default() };
        let environment = [("HOME", "/h")].into_iter().collect();
        let mut registries = load(&arguments, &environment).unwrap().settings.registries;
        let mut watch = PasswordWatch::default();
        let mut look = |name: &str, content: &str| {
            fs::write(path("new"), content).unwrap();
            fs::rename(path("new"), path(name)).unwrap();
            let is_changed = watch.look(&mut registries);
            let shown = |upstream: &UpstreamOptions| match &upstream.credential {
                ProxyCredential::Basic { password, .. } => password.expose_secret().to_owned(),
                ProxyCredential::Anonymous | ProxyCredential::Issued(_) => String::new(),
            };
            let registry = &registries[0];
            (is_changed, [shown(&registry.mirrors[0]), shown(&registry.upstream)])
        };
        let are = |is_changed, shown: [&str; 2]| (is_changed, shown.map(str::to_owned));

        assert_eq!(look("first", "three\n"), are(true, ["three", "two"]), "before the first look");
        assert_eq!(look("first", "three\n"), are(false, ["three", "two"]));
        assert_eq!(look("second", "four\r\n"), are(true, ["three", "four"]));
        for bad in ["", "\n", "a\0b", &"x".repeat(1 << 20)] {
            assert_eq!(look("second", bad), are(false, ["three", "four"]), "{bad:.5}");
        }
        assert_eq!(look("second", "five"), are(true, ["three", "five"]));
        fs::remove_file(path("first")).unwrap();
        assert_eq!(look("second", "six"), are(true, ["three", "six"]), "one that is gone stays");
    }
}
