//! How many requests does a server answer? One thread, keep-alive connections, no pipelining.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use tokio::time::Instant;

use crate::client::{head_end, length_of_ok, request};
use crate::process::Server;
use crate::stats::float;

/// Answers per second, and per second of the server's CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) per_cpu_second: f64,
}

/// Asks for `path` over and over.
pub(crate) fn measure(server: &Server, path: &str) -> Result<Rate> {
    let mut load = Load::new(server.port, path)?;
    load.run(WARM_UP)?;
    let cpu = server.cpu()?;
    let since = Instant::now();
    let answers = float(load.run(MEASURED)?);
    let wall = since.elapsed().as_secs_f64();
    let cpu = server.cpu()? - cpu;
    Ok(Rate { per_second: answers / wall, per_cpu_second: answers / cpu })
}

struct Load {
    request: Vec<u8>,
    connections: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
}

struct Connection {
    stream: TcpStream,
    /// The bytes of the answer so far.
    answer: Vec<u8>,
}

impl Load {
    fn new(port: u16, path: &str) -> Result<Self> {
        let request = request(path).into_bytes();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index), epoll::EventFlags::IN)?;
            stream.write_all(&request)?;
            connections.push(Connection { stream, answer: Vec::new() });
        }
        Ok(Self { request, connections, epoll })
    }

    /// Goes on for this long. Gives the number of answers.
    fn run(&mut self, time: Duration) -> Result<u64> {
        let since = Instant::now();
        let mut answers = 0;
        let mut buffer = vec![0; 64 << 10];
        let mut events = Vec::with_capacity(self.connections.len());
        let wait = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
        while since.elapsed() < time {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            ensure!(!events.is_empty(), "no answer came for 5 s");
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                let connection = &mut self.connections[index];
                if connection.take(&mut buffer)? {
                    answers += 1;
                    connection.stream.write_all(&self.request)?;
                }
            }
        }
        Ok(answers)
    }
}

impl Connection {
    /// Reads once. Whether the answer is whole now.
    fn take(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let len = self.stream.read(buffer)?;
        ensure!(len > 0, "the server closed a connection");
        self.answer.extend_from_slice(&buffer[..len]);
        let Some(begin) = head_end(&self.answer) else { return Ok(false) };
        let length = length_of_ok(&self.answer[..begin])?;
        let is_whole = (self.answer.len() - begin) as u64 >= length;
        if is_whole {
            self.answer.clear();
        }
        Ok(is_whole)
    }
}

const CONNECTIONS: u64 = 32;
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(2);
