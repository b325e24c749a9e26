//! Fuzz target of the configuration.

use super::document::Document;
use super::environment::Environment;
use super::load::resolve;

/// A configuration file: it is understood, or refused with at least one reason, none of which is
/// empty.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(document) = Document::parse(None, bytes) else { return };
    if let Err(diagnostics) = resolve(&document, &Environment::default(), None, false) {
        assert!(diagnostics.iter().count() > 0);
        assert!(diagnostics.iter().all(|diagnostic| !diagnostic.to_line().is_empty()));
    }
}
