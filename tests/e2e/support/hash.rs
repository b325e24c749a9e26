//! Digests of files and of what passes through a writer.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256, Sha512};

/// A writer that hashes and counts what it passes on.
pub(crate) struct Hashing<W> {
    into: W,
    hasher: Sha256,
    len: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(into: W) -> Self {
        Self { into, hasher: Sha256::new(), len: 0 }
    }

    /// The digest of all that was written, and its length.
    pub(crate) fn finish(mut self) -> io::Result<(String, u64)> {
        self.into.flush()?;
        Ok((text("sha256", &self.hasher.finalize()), self.len))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

/// `sha256:…` of a file.
pub(crate) fn of_file(path: &Path) -> String {
    text("sha256", &hashed::<Sha256>(path))
}

/// `sha256:…` of bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    text("sha256", &Sha256::digest(bytes))
}

/// The same by the algorithm of another digest.
pub(crate) fn of_file_as(digest: &str, path: &Path) -> String {
    match digest.split(':').next() {
        Some("sha256") => of_file(path),
        Some("sha512") => text("sha512", &hashed::<Sha512>(path)),
        _ => panic!("{digest} is of no algorithm that is known here"),
    }
}

fn hashed<H: sha2::Digest>(path: &Path) -> Vec<u8> {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = H::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk).expect("an open file can be read");
        if n == 0 {
            return hasher.finalize().to_vec();
        }
        hasher.update(&chunk[..n]);
    }
}

fn text(algorithm: &str, hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(format!("{algorithm}:"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes what is written");
        text
    })
}
