//! The log of this test, and of no other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread, while it lives, as `--log-format json` writes it.
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
        let bytes = Buffer::default();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(bytes.clone()).with_max_level(level);
        let guard = tracing::subscriber::set_default(subscriber.finish());
        Self { bytes, _guard: guard }
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
