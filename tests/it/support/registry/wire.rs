//! HTTP/1.1 by hand, because a library would not let a server lie.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::http::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Shared;
use super::answer::{Answer, Cut, Framing, answer};
use super::asked::Asked;
use super::fault::Fault;

/// The largest head or body of a request that is read.
const REQUEST_LEN_MAX: usize = 1 << 20;

/// Bytes of a body written at once.
const PIECE: usize = 16 << 10;

/// Serves one connection.
pub(super) async fn serve(shared: &Shared, mut io: Connection) {
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut io, &mut buffer).await {
        let asked = Arc::new(asked);
        shared.log.lock().unwrap().push(asked.clone());
        shared.arrivals.send_modify(|count| *count += 1);
        let answer = answer(shared, &asked);
        if write_answer(&mut io, &answer, &asked).await.is_none() {
            return;
        }
    }
}

/// Reads one request; `None` when the peer is gone.
async fn read_request(io: &mut Connection, buffer: &mut Vec<u8>) -> Option<Asked> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(io, buffer).await?;
    };
    let head: Vec<u8> = buffer.drain(..head_len).collect();
    let head = String::from_utf8(head).expect("a request of ours is ASCII");
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<_> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a length is a number"));
    while buffer.len() < length {
        read_more(io, buffer).await?;
    }
    let body = buffer.drain(..length).collect();
    Some(Asked::new(method, target, headers, body))
}

async fn read_more(io: &mut Connection, buffer: &mut Vec<u8>) -> Option<()> {
    assert!(buffer.len() < REQUEST_LEN_MAX, "a request of ours is not this long");
    let count = io.read_buf(buffer).await.ok()?;
    (count > 0).then_some(())
}

/// Writes an answer; `None` when the connection is at its end.
async fn write_answer(io: &mut Connection, answer: &Answer, asked: &Asked) -> Option<()> {
    if let Some(gate) = &answer.before {
        gate.pass().await;
    }
    asked.answered(answer.status);
    if let Some((start, repeated)) = &answer.raw {
        return write_raw(io, start, repeated.as_ref()).await;
    }
    let head = head_of(answer);
    if answer.cut == Some(Cut::Headers) {
        io.write_all(&head.as_bytes()[..head.len() / 2]).await.ok()?;
        io.shutdown().await.ok()?;
        return None;
    }
    io.write_all(head.as_bytes()).await.ok()?;
    io.flush().await.ok()?;
    if !answer.is_head {
        write_body(io, answer, asked).await?;
    }
    io.flush().await.ok()?;
    let goes_on = answer.framing != Framing::Close && answer.cut.is_none();
    if !goes_on {
        io.shutdown().await.ok()?;
    }
    goes_on.then_some(())
}

/// Writes bytes as they are, which ends the connection.
async fn write_raw(
    io: &mut Connection,
    start: &[u8],
    repeated: Option<&(Bytes, Duration)>,
) -> Option<()> {
    io.write_all(start).await.ok()?;
    if let Some((piece, pause)) = repeated {
        loop {
            io.write_all(piece).await.ok()?;
            io.flush().await.ok()?;
            tokio::time::sleep(*pause).await;
        }
    }
    io.flush().await.ok()?;
    io.shutdown().await.ok()?;
    None
}

fn head_of(answer: &Answer) -> String {
    use std::fmt::Write as _;
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let has_length = answer.headers.iter().any(|(name, _)| name == "Content-Length");
    match answer.framing {
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => head.push_str("Connection: close\r\n"),
        Framing::Length if has_length || answer.status == 304 => {}
        Framing::Length => write!(head, "Content-Length: {}\r\n", answer.body.len()).unwrap(),
    }
    head.push_str("\r\n");
    head
}

async fn write_body(io: &mut Connection, answer: &Answer, asked: &Asked) -> Option<()> {
    let end = match answer.cut {
        Some(Cut::Body(offset)) => offset.min(answer.body.len()),
        _ => answer.body.len(),
    };
    let mut holds = answer.holds.iter().peekable();
    let mut sent = 0;
    loop {
        while let Some((_, gate)) = holds.next_if(|(offset, _)| *offset <= sent) {
            gate.pass().await;
        }
        if sent == end {
            break;
        }
        let hold = holds.peek().map_or(end, |(offset, _)| (*offset).min(end));
        let mut piece = PIECE.min(hold - sent);
        if let Some(bytes_per_s) = answer.drip {
            let (bytes, pause) = Fault::drip(bytes_per_s);
            tokio::time::sleep(pause).await;
            piece = piece.min(bytes);
        }
        let bytes = &answer.body[sent..sent + piece];
        if answer.framing == Framing::Chunked {
            io.write_all(format!("{piece:x}\r\n").as_bytes()).await.ok()?;
            io.write_all(bytes).await.ok()?;
            io.write_all(b"\r\n").await.ok()?;
        } else {
            io.write_all(bytes).await.ok()?;
        }
        io.flush().await.ok()?;
        sent += piece;
        asked.sent(piece);
    }
    if answer.framing == Framing::Chunked && answer.cut.is_none() {
        io.write_all(b"0\r\n\r\n").await.ok()?;
    }
    Some(())
}
