//! A stand-in for a registry of Azure and for Entra, at one port: it issues tokens as they do, and
//! passes what bears one on to distribution's registry, with the password of that.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use url::form_urlencoded;

use super::clouds::LOGIN;
use crate::lookalikes::wire::read_headers;

pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";

pub(crate) const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

pub(crate) const SECRET: &str = "canary-secret-of-principal";

/// Those of Entra and of the exchange, one to pull and one to push.
pub(crate) const TOKENS: [&str; 4] =
    ["canary-of-entra", "canary-refresh", "canary-to-pull", "canary-to-push"];

/// Before the registry at `registry`, until the process ends; the port.
pub(crate) fn serve(registry: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that leaves in the middle ends its own connection alone.
            std::thread::spawn(move || AzureCall { port, registry }.converse(&client).ok());
        }
    });
    port
}

struct AzureCall {
    port: u16,
    registry: u16,
}

struct RequestHead {
    line: String,
    headers: Vec<(String, String)>,
}

impl AzureCall {
    /// Answers one request, and closes the connection.
    fn converse(&self, client: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client);
        let Some(head) = RequestHead::read(&mut reader)? else { return Ok(()) };
        if head.line.contains(" /v2/") && may(&head) {
            return self.pass(&head, &reader, client);
        }
        let mut body = Vec::new();
        let len = head.header("content-length").parse().unwrap_or(0);
        reader.take(len).read_to_end(&mut body)?;
        let (status, answer) = self.answer(&head, &body);
        let (host, len) = (self.host(), answer.len());
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://{host}/oauth2/token\",service=\"{host}\"\r\n"
        );
        let challenge = if head.line.contains(" /v2/") { challenge } else { String::new() };
        let text = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{challenge}\
             content-length: {len}\r\nconnection: close\r\n\r\n{answer}"
        );
        let mut writer = client;
        writer.write_all(text.as_bytes())
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn answer(&self, head: &RequestHead, body: &[u8]) -> (u16, String) {
        let host = self.host();
        let Some(wanted) = wanted_fields(head, &host) else {
            return (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"none"}]}"#.to_owned());
        };
        let is_token = head.line.starts_with("POST /oauth2/token ");
        let mut form: Vec<_> = form_urlencoded::parse(body).collect();
        form.sort();
        let scope = form.iter().find(|(name, _)| name == "scope").map(|it| it.1.to_string());
        let own = form.iter().filter(|(name, _)| !is_token || name != "scope");
        if !own.map(|(name, value)| (&**name, &**value)).eq(wanted) {
            return (401, r#"{"error":"invalid_client"}"#.to_owned());
        }
        match scope {
            Some(scope) if is_token && scope.ends_with(":pull,push") => {
                token_answer("access_token", TOKENS[3])
            }
            _ if is_token => token_answer("access_token", TOKENS[2]),
            None => token_answer("refresh_token", TOKENS[1]),
            Some(_) => token_answer("access_token", TOKENS[0]),
        }
    }

    /// Passes the request on with the registry's own password, and the answer back.
    fn pass(
        &self,
        head: &RequestHead,
        reader: &BufReader<&TcpStream>,
        client: &TcpStream,
    ) -> io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", self.registry))?;
        let kept = head.headers.iter().filter(|(name, _)| {
            !matches!(name.as_str(), "authorization" | "connection" | "keep-alive")
        });
        let kept =
            kept.fold(String::new(), |kept, (name, value)| kept + name + ": " + value + "\r\n");
        let basic = LOGIN.basic();
        let text =
            format!("{}\r\n{kept}authorization: {basic}\r\nconnection: close\r\n\r\n", head.line);
        server.write_all(text.as_bytes())?;
        server.write_all(reader.buffer())?;
        let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
        let sending = std::thread::spawn(move || io::copy(&mut from, &mut to));
        let mut writer = client;
        let passed = io::copy(&mut server, &mut writer);
        client.shutdown(Shutdown::Both).ok();
        sending.join().ok();
        passed.map(|_| ())
    }
}

/// Whether a request bears a token that is for it.
fn may(head: &RequestHead) -> bool {
    let is_read = ["GET ", "HEAD "].iter().any(|method| head.line.starts_with(method));
    let bearer = |token: &str| head.header("authorization") == format!("Bearer {token}");
    bearer(TOKENS[3]) || (is_read && bearer(TOKENS[2]))
}

/// The fields of a request for a token, sorted, but for the scope at the registry.
fn wanted_fields<'a>(head: &RequestHead, host: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    if head.line.starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token ")) {
        return Some(vec![
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("grant_type", "client_credentials"),
            ("scope", "https://containerregistry.azure.net/.default"),
        ]);
    }
    if head.line.starts_with("POST /oauth2/exchange ") {
        return Some(vec![
            ("access_token", TOKENS[0]),
            ("grant_type", "access_token"),
            ("service", host),
            ("tenant", TENANT),
        ]);
    }
    head.line.starts_with("POST /oauth2/token ").then(|| {
        vec![
            ("client_id", "larder"),
            ("grant_type", "refresh_token"),
            ("refresh_token", TOKENS[1]),
            ("service", host),
        ]
    })
}

impl RequestHead {
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let headers = read_headers(reader)?;
        Ok(Some(Self { line: line.trim_end().to_owned(), headers }))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }
}

fn token_answer(name: &str, token: &str) -> (u16, String) {
    (200, format!(r#"{{"{name}":"{token}","token_type":"Bearer","expires_in":3600}}"#))
}
