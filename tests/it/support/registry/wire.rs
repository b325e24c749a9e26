//! HTTP/1.1 by hand, because a library would not let a server lie.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::http::NetworkConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Shared;
use super::answer::{Answer, Cut, Framing, answer, refusal};
use super::asked::Asked;
use super::fault::Fault;

/// The largest head of a request that is read.
const HEAD_LEN_MAX: usize = 1 << 20;

/// Bytes of a body written at once.
const PIECE: usize = 16 << 10;

/// Serves one connection.
pub(super) async fn serve(shared: &Shared, mut io: NetworkConnection) {
    let mut buffer = Vec::new();
    while let Some((mut asked, framing)) = read_head(&mut io, &mut buffer).await {
        let below = asked.target.strip_prefix(shared.base.lock().unwrap().as_str());
        asked.target = below.map_or_else(|| format!("/elsewhere{}", asked.target), str::to_owned);
        // The faults of the request's own body; the answer's faults count it once more.
        let rules = shared.script.lock().unwrap().peek(&asked);
        let refusal = refusal(shared, &asked);
        let Some(early) = read_body(&mut io, &mut buffer, (&mut asked, framing), &rules).await
        else {
            shared.script.lock().unwrap().count(&asked);
            note(shared, Arc::new(asked));
            return;
        };
        let asked = Arc::new(asked);
        note(shared, asked.clone());
        if early.is_some() {
            shared.script.lock().unwrap().count(&asked);
        }
        let answer = early.unwrap_or_else(|| answer(shared, &asked, refusal));
        if write_answer(&mut io, &answer, &asked).await.is_none() {
            return;
        }
    }
}

fn note(shared: &Shared, asked: Arc<Asked>) {
    shared.log.lock().unwrap().push(asked);
    shared.arrivals.send_modify(|count| *count += 1);
}

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug)]
enum Body {
    Chunked,
    Length(usize),
}

/// Reads the head of a request; `None` when the peer is gone.
async fn read_head(io: &mut NetworkConnection, buffer: &mut Vec<u8>) -> Option<(Asked, Body)> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(buffer.len() < HEAD_LEN_MAX, "a request of ours is not this long");
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
    let value = |name: &str| headers.iter().find(|(have, _)| have == name);
    let framing = match (value("transfer-encoding"), value("content-length")) {
        (Some(_), Some(_)) => panic!("a request of ours has two lengths: {headers:?}"),
        (Some((_, encoding)), None) => {
            assert_eq!(encoding, "chunked");
            Body::Chunked
        }
        (None, length) => {
            let length = length.map_or(0, |(_, it)| it.parse().expect("a length is a number"));
            Body::Length(length)
        }
    };
    Some((Asked::new(method, target, headers, Vec::new()), framing))
}

/// Reads the body of a request: `None` when either side ended it, an answer when one is given
/// early.
async fn read_body(
    io: &mut NetworkConnection,
    buffer: &mut Vec<u8>,
    (asked, framing): (&mut Asked, Body),
    faults: &[Fault],
) -> Option<Option<Answer>> {
    loop {
        for fault in faults {
            match fault {
                Fault::DieInBody(at) if asked.body.len() >= *at => return None,
                Fault::AnswerInBody(at, status) if asked.body.len() >= *at => {
                    let mut early = Answer::error(*status, "SCRIPTED");
                    early.framing = Framing::Length;
                    early.reads_on = true;
                    return Some(Some(early));
                }
                Fault::HoldInBody(at, gate) if asked.body.len() >= *at => gate.pass().await,
                _ => {}
            }
        }
        match framing {
            Body::Length(length) if asked.body.len() == length => return Some(None),
            Body::Length(length) => {
                if buffer.is_empty() {
                    read_more(io, buffer).await?;
                }
                let count = buffer.len().min(length - asked.body.len());
                asked.body.extend(buffer.drain(..count));
            }
            Body::Chunked => {
                let chunk = read_chunk(io, buffer).await?;
                if chunk.is_empty() {
                    return Some(None);
                }
                asked.body.extend(chunk);
            }
        }
    }
}

/// One chunk; an empty one is the last.
async fn read_chunk(io: &mut NetworkConnection, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line_len = loop {
        if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
            break at;
        }
        read_more(io, buffer).await?;
    };
    let line: Vec<u8> = buffer.drain(..line_len + 2).collect();
    let text = std::str::from_utf8(&line[..line_len]).unwrap();
    let len = usize::from_str_radix(text, 16).expect("a chunk has a length");
    while buffer.len() < len + 2 {
        read_more(io, buffer).await?;
    }
    let chunk = buffer.drain(..len).collect();
    buffer.drain(..2);
    Some(chunk)
}

async fn read_more(io: &mut NetworkConnection, buffer: &mut Vec<u8>) -> Option<()> {
    let count = io.read_buf(buffer).await.ok()?;
    (count > 0).then_some(())
}

/// Writes an answer; `None` when the connection is at its end.
async fn write_answer(io: &mut NetworkConnection, answer: &Answer, asked: &Asked) -> Option<()> {
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
    if answer.reads_on {
        // As servers do that want their refusal to arrive: the rest is read and thrown away.
        let mut rest = vec![0; PIECE];
        while io.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        return None;
    }
    let goes_on = answer.framing != Framing::Close && answer.cut.is_none();
    if !goes_on {
        io.shutdown().await.ok()?;
    }
    goes_on.then_some(())
}

/// Writes bytes as they are, which ends the connection.
async fn write_raw(
    io: &mut NetworkConnection,
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

async fn write_body(io: &mut NetworkConnection, answer: &Answer, asked: &Asked) -> Option<()> {
    let end = match answer.cut {
        Some(Cut::Body(offset)) => offset.min(answer.body.len()),
        _ => answer.body.len(),
    };
    let mut holds = answer.holds.iter().peekable();
    let mut sent = 0;
    let mut drop_left = 0;
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
            if drop_left == 0 {
                tokio::time::sleep(pause).await;
                drop_left = bytes;
            }
            piece = piece.min(drop_left);
            drop_left -= piece;
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
