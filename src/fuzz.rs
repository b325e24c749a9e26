//! Everything that strangers write and Larder reads, as targets of a fuzzer.
//!
//! Built for tests and for `cargo fuzz` only. Each target takes any bytes, and panics on what must
//! not be. `fuzz/` runs them under libFuzzer; a test here runs each on a few thousand variants of
//! its seeds, or as many as `LARDER_FUZZ_RUNS` says.

use crate::access::fuzz as access;
use crate::cache::fuzz as cache;
use crate::config::fuzz as config;
use crate::http::fuzz as http;
use crate::oci::fuzz as oci;
use crate::push::fuzz as push;
use crate::store::fuzz as store;
use crate::upstream::fuzz as upstream;

/// One input of Larder.
#[derive(Clone, Copy, Debug)]
pub struct FuzzTarget {
    /// Its name, as of the file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with, as real clients and registries send them.
    pub seeds: &'static [&'static str],
}

/// All inputs.
pub const TARGETS: [FuzzTarget; 13] = [
    FuzzTarget {
        name: "path",
        run: oci::path,
        seeds: &[
            "/",
            "/library/alpine/manifests/latest",
            "/lib%72ary/a__b/manifests/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "/a/blobs/uploads/",
            "/a/b/blobs/uploads/AbC-_",
            "/a/tags/list",
            "/a/referrers/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "/_catalog",
        ],
    },
    FuzzTarget {
        name: "query",
        run: oci::query,
        seeds: &[
            "n=100&last=v1.2",
            "artifactType=application%2Fvnd.example%2Bjson",
            "ns=docker.io&n=0",
            "page_token=abc=&x",
        ],
    },
    FuzzTarget {
        name: "range",
        run: http::range,
        seeds: &["\u{5}\0bytes=0-1", "\0\u{7f}bytes=-51", "\0\u{1}bytes=0-0,5-,-3", "ABbytes=9-2"],
    },
    FuzzTarget {
        name: "content_range",
        run: http::content_range,
        seeds: &["bytes 5-9/10", "bytes */10", "bytes 0-0/*"],
    },
    FuzzTarget {
        name: "link",
        run: http::link,
        seeds: &[
            "</v2/library/alpine/tags/list?last=3&n=100>; rel=\"next\"",
            "<https://ghcr.io/v2/a/tags/list?n=2&last=b>; rel=next, <?x>; rel=\"prev\"",
            "/v2/a/tags/list?n=2",
        ],
    },
    FuzzTarget {
        name: "challenge",
        run: upstream::challenge,
        seeds: &[
            "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/alpine:pull\"",
            "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",error=\"invalid_token\"",
            "Negotiate dG9r, Basic realm=\"Registry Realm\"\nBearer realm=\"https://docker.io@evil.example/t\"",
            "Bearer realm=\"https://acme.azurecr.io/oauth2/token\",error=\"insufficient_scope\"",
        ],
    },
    FuzzTarget {
        name: "token",
        run: upstream::token,
        seeds: &[
            "{\"token\":\"eyJ.a.b\",\"access_token\":\"eyJ.a.b\",\"expires_in\":300,\"issued_at\":\"2026-01-01T00:00:00Z\"}",
            "{\"access_token\":\"x\",\"expires_in\":-1}",
        ],
    },
    FuzzTarget {
        name: "manifest",
        run: oci::manifest,
        seeds: &[
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":2},\"layers\":[]}",
            "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":7,\"platform\":{\"os\":\"linux\"}}]}",
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\"}]}",
        ],
    },
    FuzzTarget {
        name: "list",
        run: cache::list,
        seeds: &[
            "</v2/a/tags/list?n=2&last=b>; rel=\"next\"\n{\"name\":\"a\",\"tags\":[\"a\",\"b\"]}",
            "\n{\"name\":\"a\",\"tags\":null}",
        ],
    },
    FuzzTarget {
        name: "config",
        run: config::config,
        seeds: &[
            include_str!("../config.example.toml"),
            "[registry.\"docker.io\"]\nupstream = \"https://registry-1.docker.io\"\ndefault = true\n",
            "listen = [\"[::1]:5000\"]\n[cache]\nmax_size = \"80%\"\nmin_free = \"1 GiB\"\n",
        ],
    },
    FuzzTarget {
        name: "htpasswd",
        run: access::htpasswd,
        seeds: &[
            "ann:$2y$10$abcdefghijklmnopqrstuuAbcdefghijklmnopqrstuvwxyz01234\n# a comment\n",
            "bob:$2b$04$......................................................\r\n",
            "eve:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\nx:$apr1$a$b\n",
        ],
    },
    FuzzTarget {
        name: "records",
        run: store::records,
        seeds: &[
            "{\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"checked_at\":1700000000}",
            "{\"name\":\"a\",\"checked_at\":1,\"said\":null}",
            "{\"name\":\"a\",\"checked_at\":1,\"media_type\":\"application/json\",\"length\":2}\n{}",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 1\n!sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 2\n",
        ],
    },
    FuzzTarget {
        name: "session",
        run: push::session,
        seeds: &["AQ", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
    },
];

/// Runs the target of this name.
///
/// # Panics
///
/// If there is none, or if it finds what must not be.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(bytes);
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use fastrand::Rng;

    use super::*;

    /// Texts that mean something to one parser or another.
    const WORDS: &[&str] = &[
        "\"",
        "\\",
        ",",
        ";",
        ":",
        "=",
        "/",
        "..",
        "%2f",
        "%00",
        "\r\n",
        "\n",
        "\0",
        "-",
        "*",
        "@",
        "{",
        "[",
        "]",
        "}",
        "null",
        "1e400",
        "-1",
        "18446744073709551616",
        "\u{202e}",
        "\u{ff0f}",
        "sha256:",
        "sha512:",
        "Bearer ",
        "realm=",
        "bytes=",
        "bytes ",
        "; rel=next",
        "<",
        ">",
        "?",
        "n=",
        "last=",
        "\"digest\":",
        "\"size\":",
        "\"layers\":[",
        "\"manifests\":[",
        "[registry.\"x\"]\n",
        "upstream = ",
        "$2y$31$",
        "https://",
        "http://127.0.0.1",
        "\u{feff}",
        " ",
        "\t",
        "'",
        "#",
    ];

    fn vary(seed: &[u8], random: &mut Rng) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..random.usize(0..6) {
            let at = random.usize(..=bytes.len());
            let end = random.usize(at..=bytes.len()).min(at + 40);
            match random.u8(..8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
                1 if at < bytes.len() => bytes[at] = random.u8(..),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece.repeat(random.usize(1..9)));
                }
                4 => bytes.truncate(at),
                5 => drop(bytes.splice(at..at, [random.u8(..); 3])),
                _ => {
                    let word = WORDS[random.usize(..WORDS.len())];
                    bytes.splice(at..at, word.bytes());
                }
            }
        }
        bytes
    }

    #[allow(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    fn runs() -> u32 {
        std::env::var("LARDER_FUZZ_RUNS").map_or(3000, |runs| runs.parse().unwrap())
    }

    #[test]
    fn no_variant_of_a_real_input_makes_a_target_panic() {
        for target in TARGETS {
            let mut random = Rng::with_seed(7);
            for run in 0..runs() {
                let seed = target.seeds[random.usize(..target.seeds.len())].as_bytes();
                let input = if run < 2 { seed.to_vec() } else { vary(seed, &mut random) };
                let read = catch_unwind(|| (target.run)(&input));
                let text = String::from_utf8_lossy(&input);
                assert!(read.is_ok(), "{}: {text:?} {input:x?}", target.name);
            }
            println!("fuzzed {} {}", target.name, runs());
        }
    }

    /// libFuzzer's programs are those of the list.
    #[test]
    fn every_target_has_its_program() {
        for target in TARGETS {
            let path = format!("fuzz/fuzz_targets/{}.rs", target.name);
            let program = std::fs::read_to_string(path).unwrap();
            assert!(program.contains(&format!("run(\"{}\"", target.name)), "{}", target.name);
        }
    }
}
