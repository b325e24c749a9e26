//! A server whose answers are a function of the whole request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The lines of the requests that came, as `GET /path`.
pub type Calls = Arc<Mutex<Vec<String>>>;

/// Serves until the test ends.
pub async fn serve(
    answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
) -> (SocketAddr, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let request = Request::from_parts(head, body);
                    let line = format!("{} {}", request.method(), request.uri().path());
                    noted.lock().unwrap().push(line);
                    Ok::<_, Infallible>(answer(&request).map(Full::new))
                }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (address, calls)
}

/// An answer with this status and body.
pub fn reply(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).unwrap()
}

/// The value of a header, or nothing.
pub fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The fields of a form or a query, in their order.
pub fn fields(text: &[u8]) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(text);
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
