//! The log of this test, and of no other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread, while it lives, as `--log-format json` writes it.
pub struct Log {
    bytes: Buffer,
    _guard: DefaultGuard,
}

impl Log {
    pub fn capture() -> Self {
        let bytes = Buffer::default();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(bytes.clone()).with_max_level(LEVEL);
        let guard = tracing::subscriber::set_default(subscriber.finish());
        Self { bytes, _guard: guard }
    }

    /// The fields of every line with this message, in order.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let fields = lines.map(|mut line| line["fields"].take());
        fields.filter(|fields| fields["message"] == message).collect()
    }
}

const LEVEL: tracing::Level = tracing::Level::INFO;

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
