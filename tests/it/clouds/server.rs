//! A server whose answers are a function of the whole request.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::http::NetworkConnection;
use tokio::net::TcpListener;

use crate::support::network::Server;

/// The lines of the requests that came, as `GET /path`.
pub type Calls = Arc<Mutex<Vec<String>>>;

type AnswerFunction = dyn Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync;

/// A function of the request as a server in a network of a test. Clones are the same one.
#[derive(Clone)]
pub struct Function {
    answer: Arc<AnswerFunction>,
    pub calls: Calls,
}

impl Function {
    pub fn new(
        answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(answer), calls: Calls::default() }
    }

    /// The requests that came.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Server for Function {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, noted) = (Arc::clone(&self.answer), Arc::clone(&self.calls));
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
            builder.serve_connection(TokioIo::new(io), service).await.ok();
        })
    }
}

/// Serves until the test ends.
pub async fn serve(
    answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
) -> (SocketAddr, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let function = Function::new(answer);
    let calls = Arc::clone(&function.calls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let function = function.clone();
            tokio::spawn(async move { function.serve(Box::new(stream)).await });
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
