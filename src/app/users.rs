//! Files of users are read again when they change, as certificates are: see `certificates.rs`.
//!
//! A file that cannot be used is reported once, with its lines, and the users that were known stay.

use std::sync::Arc;

use super::certificates::{FileStamp, stamp};
use crate::config;

/// How the files looked when they were last read.
#[derive(Debug, Default)]
pub(super) struct UsersWatch {
    seen: Vec<(Arc<config::AccessSettings>, Option<FileStamp>)>,
}

impl UsersWatch {
    /// Reads those that have changed since the last time, and those that are new here. Blocks.
    pub(super) fn look(
        &mut self,
        listeners: impl IntoIterator<Item = Arc<config::AccessSettings>>,
    ) {
        let mut before = std::mem::take(&mut self.seen);
        for access in listeners {
            let Some(path) = &access.htpasswd else { continue };
            let now = stamp(path);
            let known = before.iter().position(|(other, _)| Arc::ptr_eq(other, &access));
            let known = known.map(|at| before.swap_remove(at).1);
            if known != Some(now) {
                renew(&access);
            }
            self.seen.push((access, now));
        }
    }
}

fn renew(access: &config::AccessSettings) {
    let (Some(path), Some(htpasswd)) = (&access.htpasswd, &access.options.htpasswd) else { return };
    match access.read_users_again() {
        Ok(Some(users)) => {
            if htpasswd.replace(users) {
                tracing::info!(file = %path.display(), "htpasswd file reloaded");
            }
        }
        Ok(None) => {}
        Err(problems) => {
            for problem in problems {
                tracing::error!(file = %problem.place, error = problem.what, "bad line in htpasswd file");
            }
            tracing::error!(
                file = %path.display(),
                "htpasswd file not reloaded; the old users stay in service"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::access::{AccessOptions, HtpasswdUsers, UserTable};

    fn line(user: &str) -> String {
        format!("{user}:$2y$04$LrWkUKWMewIRIcqaqj6.auhkwWKAnaqM7VfbVpHBYOFz1xfSVQf7a\n")
    }

    /// A user who is removed must be out without a signal, and a typing mistake must lock no user
    /// out.
    #[test]
    fn changed_users_are_taken_up_and_bad_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, line("ann")).unwrap();
        let users = HtpasswdUsers::new(UserTable::parse(line("ann").as_bytes()).unwrap());
        let options = AccessOptions { htpasswd: Some(users.clone()), ..AccessOptions::default() };
        let access = Arc::new(config::AccessSettings { options, htpasswd: Some(path.clone()) });
        let mut watch = UsersWatch::default();
        let mut look = |content: Option<&str>| {
            if let Some(content) = content {
                fs::write(dir.path().join("new"), content).unwrap();
                fs::rename(dir.path().join("new"), &path).unwrap();
            }
            watch.look([Arc::clone(&access)]);
            ["ann", "ben"].map(|user| users.contains(user))
        };

        assert_eq!(look(None), [true, false]);
        assert_eq!(look(Some(&format!("{}{}", line("ann"), line("ben")))), [true, true]);
        for bad in ["", "ann", "ann:hunter2\n", &format!("{}x\n", line("ann")), "\0"] {
            assert_eq!(look(Some(bad)), [true, true], "{bad}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(look(None), [true, true], "a file that is gone changes nothing");
        assert_eq!(look(Some(&line("ben"))), [false, true]);
    }
}
