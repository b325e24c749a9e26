//! Fuzz target of the file of users.

use super::htpasswd::UserTable;

/// An htpasswd file: it is taken whole, or lines of it are named, at most 20.
pub(crate) fn htpasswd(bytes: &[u8]) {
    if let Err(bad) = UserTable::parse(bytes) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!(!bad.is_empty() && bad.len() <= 20);
        assert!(bad.iter().all(|bad| (1..=lines).contains(&bad.line)));
    }
}
