//! The line of a request: which fields it has, and how it is written.
//!
//! There is one for each request, so its bytes are put together here rather than by tracing, at a
//! tenth of the cost. Most are written when the answer begins, while the request can still be
//! borrowed from. Lines on stderr look like all other lines there; those of a file are flat JSON.
//! Their way to a log is decided in `line_queue.rs`.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;

use super::event::{RequestKind, RequestSummary};
use super::request_fields::RequestFields;
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
    /// Begins the line of a request whose answer begins.
    pub(super) fn begin(self, fields: &RequestFields<'_>, answer: AnswerHead) -> BegunLine {
        let mut text = Vec::with_capacity(LINE_BYTES);
        let mut writer = FieldWriter { line: &mut text, style: self.style() };
        writer.write_head(fields, answer);
        let before_end = writer.line.len();
        writer.write_tail(fields);
        BegunLine { known: text.len(), text, before_end }
    }

    /// Adds what is known when the answer has ended.
    pub(super) fn end(self, line: &mut BegunLine, summary: &RequestSummary, received: Option<u64>) {
        FieldWriter { line: &mut line.text, style: self.style() }.write_end(summary, received);
    }

    /// Adds the whole line, of a request that ended at `time` (RFC 3339), to a log.
    pub(super) fn add(self, line: &BegunLine, time: &str, log: &mut Vec<u8>) {
        let (head, rest) = line.text.split_at(line.before_end);
        let (tail, end) = rest.split_at(line.known - line.before_end);
        let [before_time, after_time, after_fields] = self.frame();
        for part in
            [before_time.as_bytes(), time.as_bytes(), after_time.as_bytes(), head, end, tail]
        {
            log.extend_from_slice(part);
        }
        log.extend_from_slice(after_fields.as_bytes());
    }

    fn style(self) -> FieldStyle {
        match self {
            Self::Flat | Self::Json => FieldStyle::Json,
            Self::Text { is_coloured: false } => FieldStyle::Plain,
            Self::Text { is_coloured: true } => FieldStyle::Coloured,
        }
    }

    /// The text before the time, between time and fields, and after those.
    fn frame(self) -> [&'static str; 3] {
        match self {
            Self::Flat => ["{\"timestamp\":\"", "\"", "}\n"],
            Self::Json => [
                "{\"timestamp\":\"",
                "\",\"level\":\"INFO\",\"fields\":{\"message\":\"request\"",
                "},\"target\":\"larder::request\"}\n",
            ],
            Self::Text { is_coloured: false } => ["", "  INFO larder::request: request", "\n"],
            Self::Text { is_coloured: true } => [
                "\x1b[2m",
                "\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mlarder::request\x1b[0m\x1b[2m:\x1b[0m request",
                "\n",
            ],
        }
    }
}

/// The fields of a line whose request has not ended.
#[derive(Debug)]
pub(super) struct BegunLine {
    /// Those that stand before the ones of the end, those that stand after them, and the end's.
    text: Vec<u8>,
    before_end: usize,
    /// The length of the first two.
    known: usize,
}

/// The room that most lines need, in bytes, so that one allocation does.
const LINE_BYTES: usize = 480;

/// The parts of an answer that are counted and known when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerHead {
    pub(super) route: RequestKind,
    pub(super) status: StatusCode,
    pub(super) decision: Option<Decision>,
}

/// The target of request lines, by which `LARDER_LOG` switches them off.
pub(super) const TARGET: &str = "larder::request";

/// The form of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldStyle {
    /// Names in italics, and faint equals signs.
    Coloured,
    Json,
    Plain,
}

/// The name of a field, with all that stands between the value before and its own.
#[derive(Clone, Copy)]
struct FieldName {
    coloured: &'static str,
    json: &'static str,
    plain: &'static str,
}

macro_rules! field {
    ($name:literal) => {
        FieldName {
            coloured: concat!(" \x1b[3m", $name, "\x1b[0m\x1b[2m=\x1b[0m"),
            json: concat!(",\"", $name, "\":"),
            plain: concat!(" ", $name, "="),
        }
    };
}

/// Adds fields to a line.
struct FieldWriter<'l> {
    line: &'l mut Vec<u8>,
    style: FieldStyle,
}

impl FieldWriter<'_> {
    fn write_head(&mut self, fields: &RequestFields<'_>, answer: AnswerHead) {
        let AnswerHead { route, status, decision } = answer;
        let names = decision.map(Decision::names);
        let detail = names.map(|names| names.detail).filter(|detail| !detail.is_empty());
        let reason = decision.and_then(Decision::miss_reason).map(MissReason::as_str);
        self.word(field!("method"), fields.method.as_str());
        self.address(field!("client"), fields.client.address);
        self.text(field!("user"), fields.client.user.as_deref());
        self.word(field!("path"), &fields.path);
        self.known(field!("route"), Some(route.as_str()));
        self.text(field!("registry"), fields.registry);
        self.known(field!("repository"), fields.repository.map(RepositoryName::as_str));
        self.number(field!("status"), Some(status.as_u16().into()));
        self.known(field!("decision"), names.map(|names| names.word));
        self.known(field!("detail"), detail);
        self.known(field!("reason"), reason);
    }

    fn write_end(&mut self, summary: &RequestSummary, received: Option<u64>) {
        self.number(field!("bytes"), Some(summary.sent));
        self.number(field!("received"), received);
        self.millis(field!("duration_ms"), Some(summary.took));
        self.millis(field!("first_byte_ms"), summary.first_byte);
        self.known(field!("end"), Some(summary.end.as_str()));
    }

    fn write_tail(&mut self, fields: &RequestFields<'_>) {
        self.text(field!("agent"), fields.agent.as_deref());
        self.text(field!("request_id"), fields.request_id);
        self.text(field!("fault"), fields.fault);
    }

    /// A value in quotes that has no character which needs an escape.
    fn known(&mut self, name: FieldName, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.line.push(b'"');
        self.line.extend_from_slice(value.as_bytes());
        self.line.push(b'"');
    }

    /// A value in quotes.
    fn text(&mut self, name: FieldName, value: Option<&str>) {
        let Some(value) = value else { return };
        if is_plain(value) {
            return self.known(name, Some(value));
        }
        self.name(name);
        if self.style == FieldStyle::Json {
            // A vector takes all that is written to it.
            serde_json::to_writer(&mut *self.line, value).unwrap_or_default();
        } else {
            self.line.write_fmt(format_args!("{value:?}")).unwrap_or_default();
        }
    }

    /// A value that has no quotes in text. There, what would end or disturb a line is escaped.
    fn word(&mut self, name: FieldName, value: &str) {
        match (self.style, is_plain(value)) {
            (FieldStyle::Json, true) => self.known(name, Some(value)),
            (FieldStyle::Json, false) => self.text(name, Some(&value.escape_debug().to_string())),
            (_, is_plain) => {
                self.name(name);
                if is_plain {
                    self.line.extend_from_slice(value.as_bytes());
                } else {
                    self.line
                        .write_fmt(format_args!("{}", value.escape_debug()))
                        .unwrap_or_default();
                }
            }
        }
    }

    fn address(&mut self, name: FieldName, value: IpAddr) {
        let IpAddr::V4(value) = value else { return self.word(name, &value.to_string()) };
        self.name(name);
        let quote = if self.style == FieldStyle::Json { b"\"".as_slice() } else { b"" };
        self.line.extend_from_slice(quote);
        for (at, octet) in value.octets().into_iter().enumerate() {
            if at > 0 {
                self.line.push(b'.');
            }
            self.decimal(octet.into());
        }
        self.line.extend_from_slice(quote);
    }

    fn number(&mut self, name: FieldName, value: Option<u64>) {
        let Some(value) = value else { return };
        self.name(name);
        self.decimal(value);
    }

    /// Milliseconds, rounded to the microsecond, with one to three decimals.
    fn millis(&mut self, name: FieldName, value: Option<Duration>) {
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

    fn name(&mut self, name: FieldName) {
        let name = match self.style {
            FieldStyle::Coloured => name.coloured,
            FieldStyle::Json => name.json,
            FieldStyle::Plain => name.plain,
        };
        self.line.extend_from_slice(name.as_bytes());
    }
}

/// Whether a text needs no escape in any layout.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| PLAIN_BYTES[usize::from(byte)])
}

/// By byte. A table is several times as fast as comparisons, for each byte of each line.
const PLAIN_BYTES: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ' as usize;
    while byte <= b'~' as usize {
        plain[byte] = byte != b'"' as usize && byte != b'\'' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::routes::event::RequestEvent;
    use crate::routes::event::tests::event;

    fn line(layout: LineLayout, event: &RequestEvent) -> String {
        let RequestEvent { summary, details } = event;
        let RequestSummary { route, status, decision, .. } = *summary;
        let fields = RequestFields {
            method: &details.method,
            path: Cow::Borrowed(&details.path),
            registry: details.registry.as_deref(),
            repository: details.repository.as_ref(),
            manifest: None,
            client: &details.client,
            agent: details.agent.as_deref().map(Cow::Borrowed),
            request_id: details.request_id.as_deref(),
            fault: details.fault.as_deref(),
        };
        let mut line = layout.begin(&fields, AnswerHead { route, status, decision });
        layout.end(&mut line, summary, details.received);
        let mut log = Vec::new();
        layout.add(&line, "1970-01-01T00:00:01.500000Z", &mut log);
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_they_are_read() {
        let written = |write: &dyn Fn(&mut FieldWriter<'_>)| {
            let mut line = Vec::new();
            write(&mut FieldWriter { line: &mut line, style: FieldStyle::Plain });
            String::from_utf8(line).unwrap()
        };
        for number in [0, 9, 10, 100, 12_345, u64::MAX] {
            assert_eq!(written(&|it| it.number(field!("n"), Some(number))), format!(" n={number}"));
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
            assert_eq!(
                written(&|it| it.millis(field!("t"), value)),
                format!(" t={want}"),
                "{nanos}"
            );
        }
        for address in ["10.0.200.1", "255.255.255.255", "0.0.0.0", "2001:db8::"] {
            let parsed = address.parse().unwrap();
            assert_eq!(written(&|it| it.address(field!("a"), parsed)), format!(" a={address}"));
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
