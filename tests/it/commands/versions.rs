//! A command and a server of different versions: a clear message, or an answer that both know.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::support::{Image, Process, ScriptedRegistry};

const HINT: &str = "hint: the command is of another version of Larder than the server\n";

async fn larder() -> Process {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("library/app", "v1", &image);
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/library/app/manifests/v1").await.assert_status(200);
    larder.until(|larder| larder.cache_dir().join("control.sock").exists(), "a socket").await;
    larder
}

/// The answer to a request, head and body.
async fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A newer command may ask for what this server does not know. To ignore a part of it would be to
/// do something else than was asked for.
#[tokio::test]
async fn a_server_refuses_requests_and_fields_that_it_does_not_know() {
    let larder = larder().await;
    let socket = larder.cache_dir().join("control.sock");
    for request in [
        "GET /v1/nosuch",
        "GET /v2/stats",
        "PATCH /v1/image?name=app:v1",
        "GET /v1/stats?since=1h",
        "GET /v1/images?pattern=&sort=size",
        "DELETE /v1/image?name=app:v1&keep=layers",
        "PUT /v1/pin?name=app:v1&until=tomorrow",
        "POST /v1/warm?name=app:v1&only=layers",
    ] {
        let answer = ask(&socket, request).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
        for part in ["the server does not know this request", "of another version of Larder"] {
            assert!(answer.contains(part), "{request}: {answer}");
        }
    }
    let listed = larder.command(&["ls"]).await;
    assert!(listed.out.contains("library/app:v1"), "{listed:?}");
}

/// Another server in the place of the real one, which gives one answer to every request.
struct OtherServer {
    task: tokio::task::JoinHandle<()>,
}

impl OtherServer {
    fn answers(larder: &Process, answer: &'static str) -> Self {
        let socket = larder.cache_dir().join("control.sock");
        fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
                    head.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        Self { task: tokio::spawn(serve) }
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_command_takes_what_it_knows_from_the_answer_and_tells_what_it_cannot_read() {
    let mut larder = larder().await;
    larder.kill();
    let unread = ["error: cannot read the answer: ", HINT];
    for (command, answer, code, parts) in [
        (
            &["pin", "app:v1"][..],
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n\
             {\"error\":\"the server does not know this request\",\"hint\":\"h\",\"since\":\"9.0\"}\n",
            1,
            &["error: the server does not know this request\nhint: h\n"][..],
        ),
        (
            &["ls"],
            "HTTP/1.1 418 Teapot\r\nconnection: close\r\n\r\n{\"error\":\"no longer\"}\n",
            1,
            &["error: no longer\n"],
        ),
        (
            &["show", "app:v1"],
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"v9\":{}}\n",
            1,
            &unread,
        ),
        (&["stats"], "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>\n", 1, &unread),
        (&["stats"], "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", 1, &unread),
        (
            &["rm", "app:v1"],
            "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            1,
            &unread,
        ),
        (
            &["pin", "app:v1"],
            "SSH-2.0-OpenSSH_9.2\r\n",
            1,
            &["error: cannot talk to the server at "],
        ),
        (&["pin", "app:v1"], "", 1, &["error: cannot talk to the server at "]),
        (
            &["warm", "app:v1"],
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"phase\":7}\n",
            1,
            &unread,
        ),
    ] {
        let _server = OtherServer::answers(&larder, answer);
        let run = larder.command(command).await;
        assert_eq!(run.code, Some(code), "{command:?} {answer}: {run:?}");
        for part in parts {
            assert!(run.err.contains(part), "{command:?} {answer}: {run:?}");
        }
        assert!(!run.err.contains("panicked"), "{run:?}");
    }
}

/// A newer server says more.
#[tokio::test]
async fn a_command_leaves_out_fields_of_an_answer_that_it_does_not_know() {
    let mut larder = larder().await;
    larder.kill();
    let row = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nROW\n";
    let known = larder.command(&["ls", "--json"]).await;
    let row = row.replace("ROW", &known.out.trim_end().replacen('{', r#"{"new":[{"a":1}],"#, 1));
    let _server = OtherServer::answers(&larder, row.leak());
    let run = larder.command(&["ls", "--json"]).await;
    assert_eq!((run.code, run.out, run.err), (Some(0), known.out, String::new()));
}
