//! The line of a request: which fields it has, and how it is written.
//!
//! There is one for each request, so its bytes are put together here rather than by tracing, at a
//! tenth of the cost. Those on stderr look like all other lines there; those of a file are flat
//! JSON. Where lines go, and when, is decided in `log.rs` and `access_log.rs`.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::event::RequestEvent;
use crate::cache::{Decision, MissReason};
use crate::oci::RepositoryName;

/// The layout of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLayout {
    /// An object of JSON with all fields, for a file.
    Flat,
    /// As tracing writes events as JSON.
    Json,
    /// As tracing writes events as text, with colours for a terminal or without.
    Text {
        /// Whether there are escape sequences in it.
        is_coloured: bool,
    },
}

impl LineLayout {
    /// Adds the line of a request that ended at this time to `line`.
    pub(super) fn write(self, event: &RequestEvent, time: &LineTime, line: &mut Vec<u8>) {
        let LineTime(time) = time;
        match self {
            Self::Flat => {
                add(line, format_args!(r#"{{"timestamp":"{time}""#));
                FieldWriter { line, style: &JSON }.write(event);
                line.push(b'}');
            }
            Self::Json => {
                add(line, format_args!(r#"{{"timestamp":"{time}","level":"INFO","fields":"#));
                line.extend_from_slice(br#"{"message":"request""#);
                FieldWriter { line, style: &JSON }.write(event);
                add(line, format_args!(r#"}},"target":"{TARGET}"}}"#));
            }
            Self::Text { is_coloured: false } => {
                add(line, format_args!("{time}  INFO {TARGET}: request"));
                FieldWriter { line, style: &PLAIN }.write(event);
            }
            Self::Text { is_coloured: true } => {
                add(line, format_args!("\x1b[2m{time}\x1b[0m \x1b[32m INFO\x1b[0m "));
                add(line, format_args!("\x1b[2m{TARGET}\x1b[0m\x1b[2m:\x1b[0m request"));
                FieldWriter { line, style: &COLOURED }.write(event);
            }
        }
        line.push(b'\n');
    }
}

/// Adds text. A vector takes all that is written to it.
fn add(line: &mut Vec<u8>, text: Arguments<'_>) {
    line.write_fmt(text).unwrap_or_default();
}

/// The time in a line (RFC 3339, in microseconds).
#[derive(Debug)]
pub(super) struct LineTime(String);

impl LineTime {
    pub(super) fn of(at: SystemTime) -> Self {
        Self(humantime::format_rfc3339_micros(at).to_string())
    }
}

/// The target of request lines, by which `LARDER_LOG` switches them off.
pub(super) const TARGET: &str = "larder::request";

/// The text around the names of fields.
#[derive(Debug)]
struct FieldStyle {
    before_name: &'static str,
    after_name: &'static str,
    is_json: bool,
}

const JSON: FieldStyle = FieldStyle { before_name: ",\"", after_name: "\":", is_json: true };

const PLAIN: FieldStyle = FieldStyle { before_name: " ", after_name: "=", is_json: false };

/// Names in italics, and faint equals signs.
const COLOURED: FieldStyle =
    FieldStyle { before_name: " \x1b[3m", after_name: "\x1b[0m\x1b[2m=\x1b[0m", is_json: false };

/// Adds fields to a line.
struct FieldWriter<'l> {
    line: &'l mut Vec<u8>,
    style: &'static FieldStyle,
}

impl FieldWriter<'_> {
    fn write(mut self, event: &RequestEvent) {
        let RequestEvent { summary, details } = event;
        let names = summary.decision.map(Decision::names);
        let detail = names.map(|names| names.detail).filter(|detail| !detail.is_empty());
        let reason = summary.decision.and_then(Decision::miss_reason).map(MissReason::as_str);
        self.word("method", details.method.as_str());
        self.address("client", details.client.address);
        self.text("user", details.client.user.as_deref());
        self.word("path", &escaped(&details.path));
        self.text("route", Some(summary.route.as_str()));
        self.text("registry", details.registry.as_deref());
        self.text("repository", details.repository.as_ref().map(RepositoryName::as_str));
        self.number("status", Some(summary.status.as_u16().into()));
        self.text("decision", names.map(|names| names.word));
        self.text("detail", detail);
        self.text("reason", reason);
        self.number("bytes", Some(summary.sent));
        self.number("received", details.received);
        self.millis("duration_ms", Some(summary.took));
        self.millis("first_byte_ms", summary.first_byte);
        self.text("end", Some(summary.end.as_str()));
        self.text("agent", details.agent.as_deref());
        self.text("request_id", details.request_id.as_deref());
        self.text("fault", details.fault.as_deref());
    }

    /// A value in quotes.
    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        if value.bytes().all(is_plain) {
            self.line.push(b'"');
            self.line.extend_from_slice(value.as_bytes());
            self.line.push(b'"');
        } else if self.style.is_json {
            // A vector takes all that is written to it.
            serde_json::to_writer(&mut *self.line, value).unwrap_or_default();
        } else {
            add(self.line, format_args!("{value:?}"));
        }
    }

    /// A value that has no quotes in text.
    fn word(&mut self, name: &str, value: &str) {
        if self.style.is_json {
            return self.text(name, Some(value));
        }
        self.name(name);
        self.line.extend_from_slice(value.as_bytes());
    }

    fn address(&mut self, name: &str, value: IpAddr) {
        let IpAddr::V4(value) = value else { return self.word(name, &value.to_string()) };
        self.name(name);
        let quote = if self.style.is_json { b"\"".as_slice() } else { b"" };
        self.line.extend_from_slice(quote);
        for (at, octet) in value.octets().into_iter().enumerate() {
            if at > 0 {
                self.line.push(b'.');
            }
            self.decimal(octet.into());
        }
        self.line.extend_from_slice(quote);
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.name(name);
        self.decimal(value);
    }

    /// Milliseconds, rounded to the microsecond, with one to three decimals.
    fn millis(&mut self, name: &str, value: Option<Duration>) {
        let Some(value) = value else { return };
        let micros = u64::try_from((value.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        self.name(name);
        self.decimal(micros / 1000);
        self.line.push(b'.');
        let mut rest = micros % 1000;
        let mut unit = 100;
        loop {
            self.decimal(rest / unit);
            rest %= unit;
            unit /= 10;
            if rest == 0 {
                return;
            }
        }
    }

    /// A number in decimal digits, at a tenth of what formatting it would cost.
    fn decimal(&mut self, value: u64) {
        let mut digits = [b'0'; 20];
        let mut rest = value;
        let mut begin = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or_default();
            (rest, begin) = (rest / 10, at);
            if rest == 0 {
                break;
            }
        }
        self.line.extend_from_slice(digits.get(begin..).unwrap_or_default());
    }

    fn name(&mut self, name: &str) {
        for part in [self.style.before_name, name, self.style.after_name] {
            self.line.extend_from_slice(part.as_bytes());
        }
    }
}

/// Whether a byte needs no escape in any layout.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !br#""'\"#.contains(&byte)
}

/// A path without a character that would end or disturb its line.
fn escaped(path: &str) -> Cow<'_, str> {
    if path.bytes().all(is_plain) {
        return path.into();
    }
    path.escape_debug().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::event::tests::event;

    fn line(layout: LineLayout, event: &RequestEvent) -> String {
        let mut line = Vec::new();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        layout.write(event, &LineTime::of(at), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_they_are_read() {
        let written = |write: &dyn Fn(&mut FieldWriter<'_>)| {
            let mut line = Vec::new();
            write(&mut FieldWriter { line: &mut line, style: &PLAIN });
            String::from_utf8(line).unwrap()
        };
        for number in [0, 9, 10, 100, 12_345, u64::MAX] {
            assert_eq!(written(&|it| it.number("n", Some(number))), format!(" n={number}"));
        }
        for (nanos, want) in [
            (0, "0.0"),
            (499, "0.0"),
            (500, "0.001"),
            (12_000_000, "12.0"),
            (12_300_000, "12.3"),
            (12_030_000, "12.03"),
            (12_003_000, "12.003"),
            (999_999_999, "1000.0"),
        ] {
            let value = Some(Duration::from_nanos(nanos));
            assert_eq!(written(&|it| it.millis("t", value)), format!(" t={want}"), "{nanos}");
        }
        for address in ["10.0.200.1", "255.255.255.255", "0.0.0.0", "2001:db8::"] {
            let parsed = address.parse().unwrap();
            assert_eq!(written(&|it| it.address("a", parsed)), format!(" a={address}"));
        }
    }

    /// Every field, and none that could be left out.
    fn events() -> [RequestEvent; 2] {
        let (mut full, bare) = (event(7), event(7));
        full.summary.took = Duration::from_nanos(12_050_400);
        full.summary.first_byte = Some(Duration::from_secs(2));
        let details = &mut full.details;
        details.client.user = Some("ann".into());
        details.path = "/v2/a\"b\n\u{202e}".into();
        details.registry = Some("docker.io".into());
        details.repository = Some("library/x".parse().unwrap());
        details.received = Some(3);
        details.agent = Some(r"\x24{x}".into());
        details.request_id = Some("00ff".into());
        details.fault = Some("a \"fault\"\u{1b}[1m".into());
        [full, bare]
    }

    #[test]
    fn text_is_as_tracing_writes_it() {
        let [full, bare] = events().map(|it| line(LineLayout::Text { is_coloured: false }, &it));
        let begin = "1970-01-01T00:00:01.500000Z  INFO larder::request: request method=GET \
                     client=127.0.0.1";
        assert_eq!(
            full,
            format!(
                r#"{begin} user="ann" path=/v2/a\"b\n\u{{202e}} route="blob" registry="docker.io" repository="library/x" status=200 decision="hit" bytes=7 received=3 duration_ms=12.05 first_byte_ms=2000.0 end="whole" agent="\\x24{{x}}" request_id="00ff" fault="a \"fault\"\u{{1b}}[1m"{}"#,
                '\n'
            )
        );
        let rest = "path=/v2/ route=\"blob\" status=200 decision=\"hit\" bytes=7 duration_ms=0.0 \
                    end=\"whole\"\n";
        assert_eq!(bare, format!("{begin} {rest}"));

        let coloured = line(LineLayout::Text { is_coloured: true }, &events()[1]);
        let without = ["\x1b[2m", "\x1b[3m", "\x1b[32m", "\x1b[0m"];
        let plain = without.iter().fold(coloured.clone(), |text, code| text.replace(code, ""));
        assert!(coloured.contains("\x1b[3mstatus\x1b[0m\x1b[2m=\x1b[0m200"), "{coloured}");
        assert_eq!(plain, bare);
    }

    #[test]
    fn json_is_parsed_to_the_same_fields_in_both_layouts() {
        for (event, is_full) in events().iter().zip([true, false]) {
            let [flat, nested] = [LineLayout::Flat, LineLayout::Json].map(|layout| {
                let line = line(layout, event);
                assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
                serde_json::from_str::<serde_json::Value>(&line).unwrap()
            });
            assert_eq!(nested["level"], "INFO");
            assert_eq!(nested["target"], TARGET);
            assert_eq!(nested["timestamp"], "1970-01-01T00:00:01.500000Z");
            let mut fields = nested["fields"].clone();
            assert_eq!(fields["message"], "request");
            let fields = fields.as_object_mut().unwrap();
            fields.remove("message");
            fields.insert("timestamp".to_owned(), nested["timestamp"].clone());
            assert_eq!(flat.as_object().unwrap(), fields);
            assert_eq!(flat["duration_ms"], if is_full { 12.05 } else { 0.0 });
            assert_eq!(flat.get("fault").is_some(), is_full);
            if is_full {
                assert_eq!(flat["fault"], "a \"fault\"\u{1b}[1m");
                assert_eq!(flat["path"], r#"/v2/a\"b\n\u{202e}"#);
                assert_eq!(flat["received"], 3);
            }
        }
    }
}
