//! `[import]`: the keys for signatures of archives.

use super::diagnostics::{ValueFault, quoted};
use super::resolver::Resolver;
use super::table::table;
use super::values::OneOrMany;
use crate::bundle::BundleKey;

table! {
    /// The signatures that archives need to be [imported](docs/air-gap.md#signatures).
    ///
    /// ```toml
    /// [import]
    /// keys = ["/etc/larder/near-side.pub"]
    /// ```
    struct ImportTable in "[import]" {
        /// PEM files of public keys, ECDSA over P-256; an archive that none of them has signed is
        /// refused.
        ///
        /// Without any, archives need no signature. Relative paths start at the directory of the
        /// configuration file. The files are read at the start and on SIGHUP.
        keys: OneOrMany<String> = [];
    }
}

/// The keys in the files that the table names.
pub(super) fn resolve(written: &ImportTable, resolver: &mut Resolver<'_>) -> Vec<BundleKey> {
    let mut keys = Vec::new();
    for file in &written.keys.0 {
        let Some(pem) = resolver.file(file, BUNDLE_KEYS_LEN_MAX) else { continue };
        let read = BundleKey::all_in_pem(&pem).map_err(|error| {
            ValueFault::new(format!("{}: {error}", quoted(&file.value))).hint(error.hint())
        });
        keys.extend(resolver.accept(&file.at, read).unwrap_or_default());
    }
    keys
}

/// A public key has 180 bytes.
const BUNDLE_KEYS_LEN_MAX: u64 = 64 << 10;
