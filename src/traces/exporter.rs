//! Sends spans to the collector: OTLP over HTTP, in batches, by a task that no request waits for.
//!
//! A collector that fails costs spans, never requests: an answer is waited for a bounded
//! time, a batch is tried a few times, and meanwhile the queue loses what it has no room for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Collected, Limited};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::options::TraceOptions;
use super::otlp;
use super::queue::SpanQueue;
use crate::http::{
    ConnectionLane, EgressRoute, HostPort, HttpClient, ReplyBody, TrustError, client_config,
};

/// The task that sends spans.
#[derive(Debug)]
pub struct TraceExport {
    stop: CancellationToken,
    task: JoinHandle<()>,
    queue: Arc<SpanQueue>,
}

impl TraceExport {
    /// Starts it. Inside a runtime.
    ///
    /// # Errors
    ///
    /// If the certificates of `options` are unusable.
    pub fn start(
        options: TraceOptions,
        queue: &Arc<SpanQueue>,
        egress: &EgressRoute,
    ) -> Result<Self, TrustError> {
        let stop = CancellationToken::new();
        let queue = Arc::clone(queue);
        let exporter = SpanExporter::new(options, Arc::clone(&queue), egress)?;
        let task = tokio::spawn(exporter.run(stop.clone()));
        Ok(Self { stop, task, queue })
    }

    /// Has it send what there is, and waits for that, but not for ever.
    pub async fn finish(mut self) {
        self.stop.cancel();
        if timeout(FINISH_MAX, &mut self.task).await.is_err() {
            tracing::warn!(spans = self.queue.len(), "stopping with spans that were not sent");
        }
        self.task.abort();
    }
}

struct SpanExporter {
    options: TraceOptions,
    /// The URL that spans are posted to.
    uri: Uri,
    /// Its host, as log lines name the collector.
    collector: String,
    client: HttpClient,
    queue: Arc<SpanQueue>,
    /// Whether the last batch was not taken, so that this was logged.
    is_failing: bool,
}

impl SpanExporter {
    fn new(
        options: TraceOptions,
        queue: Arc<SpanQueue>,
        egress: &EgressRoute,
    ) -> Result<Self, TrustError> {
        let host: Vec<_> = HostPort::of(&options.url).into_iter().collect();
        let is_tls = options.url.scheme() == "https";
        let tls = client_config(options.ca_pem.as_deref(), None, is_tls)?;
        let client = HttpClient::new(egress, &host, &tls, CONNECTIONS_MAX);
        let uri = options.url.as_str().parse().unwrap_or_default();
        let collector = host.first().map(ToString::to_string).unwrap_or_default();
        Ok(Self { options, uri, collector, client, queue, is_failing: false })
    }

    /// Sends what comes, until `stop` is cancelled; then what there is.
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let is_over = tokio::select! {
                () = stop.cancelled() => true,
                () = self.queue.until_batch() => false,
                () = sleep(EXPORT_EVERY) => false,
            };
            loop {
                let spans = self.queue.take_batch();
                if spans.is_empty() {
                    break;
                }
                let count = spans.len() as u64;
                let body = otlp::encode(&self.options.resource, spans);
                self.deliver(body, count, &stop).await;
            }
            if is_over {
                return;
            }
        }
    }

    /// Sends a batch until it is taken or refused, or was tried often enough.
    async fn deliver(&mut self, body: Bytes, count: u64, stop: &CancellationToken) {
        let mut wait = RETRY_WAIT;
        for tries_left in (0..TRIES_MAX).rev() {
            let failure = match self.send(body.clone()).await {
                Ok(refused) => {
                    self.queue.losses.refused.add(refused.min(count));
                    self.queue.losses.sent.add(count.saturating_sub(refused));
                    return self.note_success();
                }
                Err(failure) => failure,
            };
            self.note_failure(&failure.reason);
            if !failure.may_retry {
                return self.queue.losses.refused.add(count);
            }
            if tries_left == 0 || stop.is_cancelled() {
                break;
            }
            let pause = failure.after.unwrap_or(wait).min(RETRY_WAIT_MAX);
            wait *= 2;
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause.mul_f64(1.0 + 0.2 * fastrand::f64())) => {}
            }
        }
        self.queue.losses.lost.add(count);
    }

    /// Sends a batch once. Gives how many of its spans were refused.
    async fn send(&self, body: Bytes) -> Result<u64, SendFailure> {
        let mut request = Request::new(ReplyBody::full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.extend(self.options.headers.iter().map(|it| (it.name.clone(), it.value.clone())));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, AGENT);
        let sent = timeout(ANSWER_WAIT, async {
            let response = self.client.send(request, ConnectionLane::Own).await;
            let response = response.map_err(|error| SendFailure::passing(error.to_string()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            SendFailure::of(head.status, &head.headers).map_or(Ok(body), Err)
        });
        let in_vain = || format!("it did not answer within {} s", ANSWER_WAIT.as_secs());
        let answer = sent.await.map_err(|_| SendFailure::passing(in_vain()))??;
        Ok(otlp::refused(&answer).map_or(0, |(count, message)| {
            let message = message.chars().take(MESSAGE_CHARS_MAX).collect::<String>();
            tracing::warn!(collector = self.collector, count, message, "spans were refused");
            count
        }))
    }

    fn note_failure(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                collector = self.collector,
                reason,
                "the collector of traces takes no spans"
            );
        }
    }

    fn note_success(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(collector = self.collector, "the collector of traces takes spans again");
        }
    }
}

/// Why a batch was not taken.
#[derive(Debug)]
struct SendFailure {
    reason: String,
    may_retry: bool,
    /// When it may be sent again, if the collector says so.
    after: Option<Duration>,
}

impl SendFailure {
    fn passing(reason: String) -> Self {
        Self { reason, may_retry: true, after: None }
    }

    /// The failure that a status means, if it means one (OTLP 1.x, "Failures").
    fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        (!status.is_success()).then(|| Self {
            reason: format!("it answered {}", status.as_u16()),
            may_retry: matches!(status.as_u16(), 429 | 502 | 503 | 504),
            after: after.map(Duration::from_secs),
        })
    }
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION")));

/// How long spans wait to be sent together. OpenTelemetry's default.
const EXPORT_EVERY: Duration = Duration::from_secs(5);

/// How long the collector may take for an answer. OpenTelemetry's default.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// The longest answer of the collector that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The characters that are logged of what the collector says.
const MESSAGE_CHARS_MAX: usize = 200;

/// How often a batch is sent before it is lost.
const TRIES_MAX: u32 = 5;

/// How long the second try waits; each further one waits twice as long.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two tries, whatever the collector asks for.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long the end of the process waits for the collector.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// There is one request at a time.
const CONNECTIONS_MAX: usize = 2;
