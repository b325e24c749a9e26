//! The log of this test, and of no other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::fmt::MakeWriter;

/// The log of this thread while it lives, as `--log-format json` writes it.
pub struct Log {
    bytes: Buffer,
    _guard: DefaultGuard,
}

impl Log {
    pub fn capture() -> Self {
        Self::of(Level::INFO)
    }

    /// The same with all that anybody says, at trace level.
    pub fn of_everything() -> Self {
        Self::of(Level::TRACE)
    }

    fn of(level: Level) -> Self {
        LISTENED.call_once(|| {
            // Fails only where another one is set already, which there is none.
            tracing::subscriber::set_global_default(Undecided).expect("nobody else listens");
        });
        let bytes = Buffer::default();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(bytes.clone()).with_max_level(level);
        let guard = tracing::subscriber::set_default(subscriber.finish());
        Self { bytes, _guard: guard }
    }

    /// A writer of lines that are not written by tracing.
    pub fn writer(&self) -> impl Write + Send + use<> {
        self.bytes.clone()
    }

    /// The fields of every line with this message, in order.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let fields = lines.map(|mut line| line["fields"].take());
        fields.filter(|fields| fields["message"] == message).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.0.lock().unwrap().clone()).unwrap()
    }

    /// Fails if any of these was said, plainly or as Basic has it for one of `users`.
    #[track_caller]
    pub fn assert_without(&self, secrets: &[&str], users: &[&str]) {
        let text = self.text();
        assert!(text.contains("TRACE"), "nothing was captured");
        assert_without(&text, secrets, users);
    }
}

/// Fails if a text has any of these secrets in it, plainly or as Basic has it for one of `users`.
#[track_caller]
pub fn assert_without(text: &str, secrets: &[&str], users: &[&str]) {
    for secret in secrets {
        let pairs = users.iter().map(|user| STANDARD.encode(format!("{user}:{secret}")));
        for form in pairs.chain([(*secret).to_owned()]) {
            let line = text.lines().find(|line| line.contains(&form));
            assert!(line.is_none(), "a secret was shown: {}", line.unwrap_or_default());
        }
    }
}

static LISTENED: Once = Once::new();

/// Hears nothing, and has every place asked each time. Otherwise tracing decides once for the whole
/// process whether an event has a reader, when the first thread reaches it, and other tests reach
/// it without a log.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
