//! Which file may name which vendor.

use crate::source::{code_lines, sources};

/// Each vendor that we want to be able to replace, and the places that may name it.
const VENDORS: &[(&str, &[&str])] = &[
    ("argon2::", &["access/htpasswd"]),
    (
        "aws_lc_rs::",
        &[
            "access/process_key.rs",
            "bundle/signature.rs",
            "credentials/jwt.rs",
            "http/",
            "push/session.rs",
            "upstream/tests/",
        ],
    ),
    ("bcrypt::", &["access/htpasswd", "access/login_cache.rs"]),
    ("clap::", &["cli/"]),
    ("flate2::", &["bundle/import.rs", "upstream/coding.rs", "upstream/tests/"]),
    ("globset::", &["registry/pattern.rs"]),
    ("http_auth::", &["upstream/challenge.rs"]),
    ("h2::", &["http/"]),
    ("hyper::", &["http/"]),
    ("hyper_rustls::", &["http/"]),
    ("hyper_util::", &["http/"]),
    ("moka::", &["cache/memory.rs"]),
    ("prometheus_client::", &["admin/exposition.rs"]),
    ("prost::", &["traces/otlp.rs"]),
    ("psl::", &["upstream/realm.rs"]),
    (
        "rustls::",
        &["bundle/signature.rs", "http/", "cli/serve.rs", "credentials/jwt.rs", "upstream/tests/"],
    ),
    ("saphyr_parser::", &["workloads/yaml_images.rs"]),
    ("sha2::", &["oci/digest.rs"]),
    ("sled::", &["store/index/db.rs"]),
    ("tar::", &["bundle/archive.rs"]),
    ("tokio_rustls::", &["http/", "upstream/tests/"]),
    ("toml::", &["config/"]),
    ("webpki::", &["http/peer.rs", "http/server_verifier.rs"]),
];

#[test]
fn each_vendor_is_named_in_its_place_only() {
    for (path, text) in sources() {
        for (vendor, homes) in VENDORS {
            let is_home = homes.iter().any(|home| path.to_string_lossy().starts_with(home));
            assert!(
                is_home || !names(&text, vendor),
                "src/{}: {vendor} belongs in {homes:?}",
                path.display()
            );
        }
    }
}

/// Whether the text has `vendor` as a path's first segment: `xhyper::` is not `hyper::`.
fn names(text: &str, vendor: &str) -> bool {
    code_lines(text).any(|(_, line)| {
        line.match_indices(vendor).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}
