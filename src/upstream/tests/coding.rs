//! Labels of `Content-Encoding`: on blobs they say nothing, and documents are decoded.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::login::challenge;
use super::sites::{Script, Step, head};
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A 200 with this label, or a 206 of what follows `from`.
fn labelled(label: &str, bytes: &[u8], from: usize) -> Script {
    let length = (bytes.len() - from).to_string();
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    let mut headers = vec![("Content-Encoding", label), ("Content-Length", &length)];
    if from > 0 {
        headers.push(("Content-Range", &range));
    }
    let head = head(if from > 0 { 206 } else { 200 }, &headers);
    vec![Step::Send([&head, &bytes[from..]].concat())]
}

/// The outcome of a question that is answered with this label.
async fn answer(
    question: &Question,
    label: &'static str,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let network = world();
    let from = usize::try_from(question.from).unwrap();
    network.serve(UP, move |_| labelled(label, &bytes, from));
    let answer = ask(&upstream(&network, &options()), question).await;
    let body = async { answer?.body.collect(1 << 20).await };
    body.await.map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
}

const LABELS: [&str; 11] = [
    "",
    "8bit",
    "aws-chunked",
    "binary",
    "br",
    "gzip",
    "gzip, gzip",
    "identity",
    "none",
    "x-gzip",
    "zstd",
];

/// A layer is what its digest says. Web servers label it for being compressed within.
#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_blob_are_passed_on_whatever_their_label() {
    for label in LABELS {
        for bytes in [gzip(b"layer"), b"layer".to_vec()] {
            for from in [0, 3] {
                let got = answer(&blob(ReadMethod::Get, from), label, bytes.clone()).await;
                let from = usize::try_from(from).unwrap();
                assert_eq!(got.as_deref(), Ok(&bytes[from..]), "{label:?} from {from}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_is_decoded_if_it_is_labelled_and_compressed() {
    let json = br#"{"schemaVersion":2}"#.to_vec();
    let name = || "a/b".parse().unwrap();
    let digest = || format!("sha256:{HEX}").parse().unwrap();
    for question in [
        manifest("a/b"),
        Question::new(ReadMethod::Get, name(), Resource::Tags),
        Question::new(ReadMethod::Get, name(), Resource::Referrers(digest())),
    ] {
        for label in ["", "identity", "none", "binary", "aws-chunked", "utf-8", "gzip", "X-GZIP"] {
            let got = answer(&question, label, json.clone()).await;
            assert_eq!(got.as_ref(), Ok(&json), "plain, {label:?}");
        }
        for label in ["gzip", "x-gzip", "aws-chunked, gzip"] {
            let got = answer(&question, label, gzip(&json)).await;
            assert_eq!(got.as_ref(), Ok(&json), "compressed, {label:?}");
        }
        // The body is what it is, where nothing says otherwise.
        assert_eq!(answer(&question, "none", gzip(&json)).await, Ok(gzip(&json)));
        for label in ["br", "deflate", "zstd", "gzip, gzip", "x"] {
            let said = answer(&question, label, json.clone()).await.unwrap_err();
            assert!(said.contains("encoded though it was asked for as it is"), "{label}: {said}");
        }
    }
}

/// The length of what was compressed is not the manifest's.
#[tokio::test(start_paused = true)]
async fn the_head_of_a_compressed_document_tells_no_length() {
    for (label, length) in [("gzip", None), ("x-gzip", None), ("none", Some(7)), ("", Some(7))] {
        let network = world();
        network.serve(UP, move |_| {
            vec![Step::Send(head(200, &[("Content-Encoding", label), ("Content-Length", "7")]))]
        });
        let question = Question { method: ReadMethod::Head, ..manifest("a/b") };
        let answer = ask(&upstream(&network, &options()), &question).await.unwrap();
        assert_eq!(answer.length(), length, "{label}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_token_is_taken() {
    let network = world();
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Bearer t") => labelled("identity", b"layer", 0),
        _ => challenge(r#"Bearer realm="http://auth.example.com/token""#),
    });
    network.serve(AUTH, |_| labelled("gzip", &gzip(br#"{"token":"t"}"#), 0));

    assert_eq!(pull(&upstream(&network, &options())).await.unwrap(), "layer");
}

/// A few bytes become a thousand times as many: no more are decoded than are taken.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_or_is_too_long_ends_in_an_error() {
    let whole = gzip(br#"{"schemaVersion":2}"#);
    let mut corrupt = whole.clone();
    let at = corrupt.len() - 6;
    corrupt[at] ^= 1;
    let long: Vec<u8> = (0..5 << 20).map(|_| fastrand::u8(..)).collect();
    for (name, bytes, said) in [
        ("a bomb", gzip(&vec![b' '; 4 << 20]), "longer than 1048576 bytes"),
        ("a cut one", whole[..whole.len() - 9].to_vec(), "cannot be decoded"),
        ("a cut head", whole[..4].to_vec(), "cannot be decoded"),
        ("another checksum", corrupt, "cannot be decoded"),
        ("rubbish behind", [&whole[..], b"rubbish"].concat(), "cannot be decoded"),
        ("long even so", [&whole[..2], &long].concat(), "longer than"),
    ] {
        let error = answer(&manifest("a/b"), "gzip", bytes).await.unwrap_err();
        assert!(error.contains(said), "{name}: {error}");
    }
    let two = [gzip(b"{\"a\":1,"), gzip(b"\"b\":2}")].concat();
    let got = answer(&manifest("a/b"), "gzip", two).await;
    assert_eq!(got.as_deref(), Ok(&b"{\"a\":1,\"b\":2}"[..]), "two members are one body");
}

/// A caller that takes piece by piece gets as little at once, and each error again.
#[tokio::test(start_paused = true)]
async fn a_bomb_is_decoded_in_pieces() {
    let network = world();
    let bytes = gzip(&vec![b' '; 1 << 20]);
    network.serve(UP, move |_| labelled("gzip", &bytes, 0));
    let mut body = ask(&upstream(&network, &options()), &manifest("a/b")).await.unwrap().body;
    for _ in 0..10 {
        assert_eq!(body.chunk().await.unwrap().unwrap().len(), 64 << 10);
    }

    let network = world();
    let long: Vec<u8> = vec![0x1f; 5 << 20];
    network.serve(UP, move |_| labelled("gzip", &long, 0));
    let mut body = ask(&upstream(&network, &options()), &manifest("a/b")).await.unwrap().body;
    for _ in 0..2 {
        let said = body.chunk().await.unwrap_err().to_string();
        assert!(said.contains("compressed, and longer than"), "{said}");
    }
}
