//! Memory of a burst: Larder gives back to the machine what many clients took, once they have left.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::Process;

const CLIENTS: usize = 1500;

/// The least memory that a waiting client takes.
const CLIENT_BYTES_MIN: u64 = 24 << 10;

#[tokio::test]
async fn memory_of_clients_that_waited_in_vain_is_given_back() {
    allow_open_files();
    // The kernel takes its connections, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let larder = Process::before(silent.local_addr().unwrap(), "").await;
    let files = larder.open_files();
    let mut before = larder.resident_bytes();
    for round in 0..3 {
        let waiting = burst(&larder, CLIENTS).await;
        let least = before + CLIENTS as u64 * CLIENT_BYTES_MIN;
        larder.until(|larder| larder.resident_bytes() > least, "they wait").await;
        let peak = larder.resident_bytes();
        drop(waiting);

        // Some connections to the upstream stay.
        larder.until(|larder| larder.open_files() < files + 100, "files are closed").await;
        // The first burst also loads pages of the program, which stay.
        let kept = if round == 0 { (peak - before) / 3 } else { before / 5 };
        let is_back = |larder: &Process| larder.resident_bytes() <= before + kept;
        larder.until(is_back, "what the burst took is given back").await;
        before = larder.resident_bytes();
    }
}

/// Clients from 200 addresses, each with a question of its own.
async fn burst(larder: &Process, clients: usize) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for number in 0..clients {
        let mut io = larder.connect_from(u8::try_from(2 + number % 200).unwrap()).await.unwrap();
        let path = format!("/v2/library/made-up-{number}/manifests/latest");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        // A reset tells Larder at once that the client has left; a closed side alone does not.
        io.set_zero_linger().unwrap();
        waiting.push(io);
    }
    waiting
}

/// Raises the limit of this process, which has a socket for each client.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
