//! The registry that both caches ask: it makes up each layer, and counts how often it is fetched.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use larder::oci::{Algorithm, Digest};

/// Layers by number, made of their number and common random bytes.
#[derive(Debug)]
pub(crate) struct Layers {
    sizes: Vec<u64>,
    filling: Vec<u8>,
    digests: Vec<Digest>,
    numbers: HashMap<String, usize>,
}

impl Layers {
    pub(crate) fn new(sizes: Vec<u64>) -> Self {
        let mut filling = vec![0; sizes.iter().copied().max().unwrap_or_default() as usize];
        Rng::with_seed(1).fill(&mut filling);
        let mut this = Self { sizes, filling, digests: Vec::new(), numbers: HashMap::new() };
        for number in 0..this.sizes.len() {
            let digest = Digest::of(Algorithm::Sha256, &this.content(number));
            this.numbers.insert(digest.to_string(), number);
            this.digests.push(digest);
        }
        this
    }

    pub(crate) fn path(&self, number: usize) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.digests[number])
    }

    pub(crate) fn content(&self, number: usize) -> Vec<u8> {
        let mut content = (number as u64).to_le_bytes().to_vec();
        let rest = (self.sizes[number] as usize).saturating_sub(content.len());
        content.extend_from_slice(&self.filling[..rest]);
        content
    }
}

/// The registry, until the program ends.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    fetches: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Upstream {
    pub(crate) fn start(layers: &Arc<Layers>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let this = Self { address, fetches: Arc::default(), bytes: Arc::default() };
        let (layers, fetches, bytes) =
            (Arc::clone(layers), Arc::clone(&this.fetches), Arc::clone(&this.bytes));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (layers, fetches, bytes) =
                    (Arc::clone(&layers), Arc::clone(&fetches), Arc::clone(&bytes));
                // A connection that its client closes ends like this.
                thread::spawn(move || serve(stream, &layers, &fetches, &bytes).unwrap_or_default());
            }
        });
        Ok(this)
    }

    /// Layers that were fetched, and their bytes.
    pub(crate) fn fetched(&self) -> [u64; 2] {
        [&self.fetches, &self.bytes].map(|counter| counter.load(Ordering::Relaxed))
    }
}

fn serve(stream: TcpStream, layers: &Layers, fetches: &AtomicU64, bytes: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let method = words.next().context("no method")?.to_owned();
        let path = words.next().context("no path")?.to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let layer = path.rsplit('/').next().and_then(|digest| layers.numbers.get(digest));
        let Some(number) = layer else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let content = layers.content(*number);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes())?;
        if method == "GET" {
            fetches.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
            stream.write_all(&content)?;
        }
    }
}

/// All layers are in one repository, so that a hit asks nothing.
const REPOSITORY: &str = "library/trace";
