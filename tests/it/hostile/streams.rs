//! Streams of HTTP/2 that one client opens and never reads: they hold a bounded number of files and
//! a bounded amount of memory, other clients are served, and all of it comes back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::frames::*;
use crate::support::{Blob, Process, ScriptedRegistry, Version};

const REPOSITORY: &str = "library/alpine";

/// The answers that a connection got.
#[derive(Debug, Default)]
struct StreamCount {
    served: usize,
    refused: usize,
}

/// `REFUSED_STREAM` (RFC 9113, 7): the request was not looked at and may be sent again.
const REFUSED: [u8; 4] = 7_u32.to_be_bytes();

/// A GET of a path with one more field, whole.
fn get(stream: u32, path: &str, range: &str) -> Vec<u8> {
    let mut block = fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]);
    block.extend(fields(&[(":path", path)]));
    // A literal whose length takes more than one byte (RFC 7541, 5.1).
    block.extend([0, 5]);
    block.extend(b"range");
    let mut left = range.len() - 127;
    block.push(127);
    while left >= 128 {
        block.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    block.push(u8::try_from(left).unwrap());
    block.extend(range.as_bytes());
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// Opens as many streams as one connection may have, each for `range` of a blob, and lets no more
/// out than the first window of the connection.
async fn open_streams(larder: &Process, path: &str, range: &str) -> (TcpStream, StreamCount) {
    let mut io = larder.connect_from(1).await.unwrap();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    for n in 0..STREAMS {
        io.write_all(&get(2 * n + 1, path, range)).await.unwrap();
    }
    let (mut count, mut head) = (StreamCount::default(), [0; 9]);
    while count.served + count.refused < STREAMS as usize {
        timeout(Duration::from_secs(60), io.read_exact(&mut head)).await.unwrap().unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        io.read_exact(&mut payload).await.unwrap();
        match head[3] {
            HEADERS => count.served += 1,
            RST_STREAM if payload == REFUSED => count.refused += 1,
            _ => {}
        }
    }
    (io, count)
}

const STREAMS: u32 = 128;
const CONNECTIONS: usize = 10;

/// One for each connection, and those that one client may have beyond.
const SERVED: usize = CONNECTIONS + 512;

#[tokio::test]
async fn streams_that_are_not_read_hold_a_bounded_number_of_files_and_little_memory() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 4 << 20);
    hub.put_blob(REPOSITORY, &blob);
    let larder = Process::before(hub.listen().await, "").await;
    let path = blob.path(REPOSITORY);
    larder.client().get(&path).await.assert_is(&blob);

    let many: Vec<_> = (0..1024).map(|n| format!("{}-{}", 40 * n, 40 * n + 30)).collect();
    let ranges = [format!("bytes=0-{:0200}", 4 << 20), format!("bytes={}", many.join(","))];
    let mut held_before = 0;
    for (round, range) in ranges.iter().cycle().take(6).enumerate() {
        let (memory, files) = (larder.resident_bytes(), larder.open_files());
        let (mut open, mut served, mut refused) = (Vec::new(), 0, 0);
        for _ in 0..CONNECTIONS {
            let (io, count) = open_streams(&larder, &path, range).await;
            open.push(io);
            (served, refused) = (served + count.served, refused + count.refused);
        }
        assert_eq!((served, served + refused), (SERVED, CONNECTIONS * STREAMS as usize));
        let held = larder.open_files() - files;
        assert!(held <= (CONNECTIONS + SERVED) as u64, "{held} files are open");
        let grown = larder.resident_bytes().saturating_sub(memory);
        assert!(grown < 100 << 20, "{grown} bytes more");

        let began = Instant::now();
        for version in [Version::Http11, Version::H2] {
            larder.client().try_get(version, &path).await.unwrap().assert_is(&blob);
            larder.client_from(2).try_get(version, &path).await.unwrap().assert_is(&blob);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

        drop(open);
        larder.until(|larder| larder.open_files() <= files + 2, "files are closed again").await;
        let now = larder.resident_bytes();
        let is_back = round < 2 || now < held_before + held_before / 5;
        assert!(is_back, "{now} bytes are held, {held_before} before");
        held_before = held_before.max(now);
    }
}
