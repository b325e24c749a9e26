//! Lines of requests on their way to the threads that write logs.
//!
//! A request writes its own line, into memory, when it has ended: that costs half of what an event
//! for another thread does, and it never waits. A log that is written too slowly loses lines, which
//! are counted. The layout of a line is decided in `request_line.rs`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::RequestSummary;
use super::request_fields::RequestFields;
use super::request_line::{AnswerHead, BegunLine, LineLayout};
use crate::clock::WallClock;
use crate::telemetry::Counter;

/// A log that has a line for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// The file of the access log.
    File,
    /// The log on stderr.
    Stderr,
}

/// The logs that are open.
#[derive(Debug, Default)]
pub struct RequestLogs([OnceLock<Arc<LineQueue>>; 2]);

/// The lines of a request that has not ended, for each log.
#[derive(Debug)]
pub(super) struct BegunLines([Option<BegunLine>; 2]);

impl RequestLogs {
    /// Opens a log: from now on each request that begins to be answered has a line there. A log
    /// that is open already stays as it is.
    pub fn open(
        &self,
        log: RequestLog,
        layout: LineLayout,
        clock: Arc<dyn WallClock>,
    ) -> Arc<LineQueue> {
        let opened = || Arc::new(LineQueue::new(layout, clock));
        Arc::clone(self.queue(log).get_or_init(opened))
    }

    /// The number of lines that a log has lost because it is written too slowly.
    pub fn lost(&self, log: RequestLog) -> u64 {
        self.queue(log).get().map_or(0, |queue| queue.lost.get())
    }

    fn queue(&self, log: RequestLog) -> &OnceLock<Arc<LineQueue>> {
        let [file, stderr] = &self.0;
        match log {
            RequestLog::File => file,
            RequestLog::Stderr => stderr,
        }
    }

    pub(super) fn are_open(&self) -> bool {
        self.0.iter().any(|queue| queue.get().is_some())
    }

    /// Begins the lines of a request; `None` without a log.
    pub(super) fn begin(
        &self,
        fields: &RequestFields<'_>,
        answer: AnswerHead,
    ) -> Option<BegunLines> {
        let begin = |queue: &OnceLock<Arc<LineQueue>>| {
            queue.get().map(|queue| queue.layout.begin(fields, answer))
        };
        self.are_open().then(|| BegunLines(self.0.each_ref().map(begin)))
    }

    pub(super) fn end(
        &self,
        lines: BegunLines,
        summary: &RequestSummary,
        received: Option<u64>,
        ended: Instant,
    ) {
        for (queue, line) in self.0.iter().zip(lines.0) {
            if let (Some(queue), Some(mut line)) = (queue.get(), line) {
                queue.layout.end(&mut line, summary, received);
                queue.push(&line, ended);
            }
        }
    }
}

/// The lines that one log has not taken yet.
#[derive(Debug)]
pub struct LineQueue {
    layout: LineLayout,
    clock: Arc<dyn WallClock>,
    waiting: Mutex<WaitingLines>,
    due: Notify,
    lost: Counter,
}

#[derive(Debug, Default)]
struct WaitingLines {
    text: Vec<u8>,
    /// Lines that found no room since the last ones were taken.
    lost: u64,
    /// The time of lines (RFC 3339, in microseconds), and when it was taken.
    time: Option<(Instant, String)>,
}

impl LineQueue {
    /// The longest delay of a line. Waking the writer for each would cost a request a system
    /// call.
    pub(super) const PAUSE: Duration = Duration::from_millis(5);

    fn new(layout: LineLayout, clock: Arc<dyn WallClock>) -> Self {
        Self {
            layout,
            clock,
            waiting: Mutex::default(),
            due: Notify::new(),
            lost: Counter::default(),
        }
    }

    fn push(&self, line: &BegunLine, ended: Instant) {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.text.is_empty() && waiting.lost == 0;
        if waiting.text.len() >= WAITING_BYTES_MAX {
            waiting.lost += 1;
            self.lost.increment();
            return;
        }
        let WaitingLines { text, time, .. } = &mut *waiting;
        let age = time.as_ref().map(|(at, _)| ended.duration_since(*at));
        if age.is_none_or(|age| age >= TIME_STEP) {
            let now = humantime::format_rfc3339_micros(self.clock.now()).to_string();
            *time = Some((ended, now));
        }
        let time = time.as_ref().map_or("", |(_, time)| time);
        self.layout.add(line, time, text);
        drop(waiting);
        if is_first {
            self.due.notify_one();
        }
    }

    /// Waits until lines are due.
    pub(super) async fn wait(&self) {
        self.due.notified().await;
    }

    /// Replaces `batch` by the lines that wait. Returns the number of those that were lost.
    pub(super) fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let mut waiting = self.waiting.lock();
        std::mem::swap(&mut waiting.text, batch);
        std::mem::take(&mut waiting.lost)
    }
}

/// Waiting bytes of lines for one log; further lines are lost.
const WAITING_BYTES_MAX: usize = 2 << 20;

/// The greatest age of the time in a line.
const TIME_STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{Method, StatusCode};
    use parking_lot::Mutex;

    use super::super::event::tests::event;
    use super::super::event_client::EventClient;
    use super::*;

    /// A clock that is set.
    #[derive(Debug, Default)]
    struct SetClock(Mutex<Duration>);

    impl WallClock for SetClock {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + *self.0.lock()
        }
    }

    /// Lets a request end.
    fn note(logs: &RequestLogs, path: &str, ended: Instant) {
        let client = EventClient::at([127, 0, 0, 1].into());
        let fields = RequestFields {
            method: &Method::GET,
            path: path.into(),
            registry: None,
            repository: None,
            manifest: None,
            client: &client,
            agent: None,
            request_id: None,
            fault: None,
        };
        let summary = event(0).summary;
        let (route, decision) = (summary.route, summary.decision);
        let lines = logs.begin(&fields, AnswerHead { route, status: StatusCode::OK, decision });
        if let Some(lines) = lines {
            logs.end(lines, &summary, None, ended);
        }
    }

    fn lines(queue: &LineQueue) -> (Vec<String>, u64) {
        let mut batch = vec![1];
        let lost = queue.take(&mut batch);
        let text = String::from_utf8(batch).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
        (text.lines().map(str::to_owned).collect(), lost)
    }

    #[test]
    fn each_open_log_has_a_line_in_its_layout() {
        let (logs, clock) = (RequestLogs::default(), Arc::new(SetClock::default()));
        assert!(!logs.are_open());
        note(&logs, "/early", Instant::now());
        let stderr = logs.open(RequestLog::Stderr, LineLayout::Json, Arc::clone(&clock) as _);
        let ended = Instant::now();
        note(&logs, "/one", ended);
        let file = logs.open(RequestLog::File, LineLayout::Flat, clock);
        assert!(logs.are_open());
        note(&logs, "/two", ended);

        let (written, lost) = lines(&stderr);
        assert!(written[0].contains("/one") && written[1].contains("\"fields\":"), "{written:?}");
        assert_eq!((written.len(), lost), (2, 0));
        let (written, _) = lines(&file);
        assert!(written.len() == 1 && written[0].contains("\"path\":\"/two\""), "{written:?}");
        assert_eq!(lines(&file), (vec![], 0), "each line is taken once");
    }

    /// Requests that never pause are no reason for a clock that stands still.
    #[test]
    fn the_time_of_lines_moves_on_though_none_are_taken() {
        let (logs, clock) = (RequestLogs::default(), Arc::new(SetClock::default()));
        let queue = logs.open(RequestLog::File, LineLayout::Flat, Arc::clone(&clock) as _);
        let began = Instant::now();
        for micros in (0..5000).step_by(100) {
            let at = Duration::from_micros(micros);
            *clock.0.lock() = at;
            note(&logs, "/", began + at);
        }

        let (written, _) = lines(&queue);
        let time = |line: &String| line.split('"').nth(3).map(str::to_owned).unwrap();
        let mut times: Vec<_> = written.iter().map(time).collect();
        assert_eq!(times.len(), 50);
        assert!(times.is_sorted());
        times.dedup();
        assert_eq!(times.len(), 5, "a time is a millisecond old at most: {times:?}");
        assert_eq!(times[4], "1970-01-01T00:00:00.004000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_not_written_loses_the_latest_lines_and_learns_how_many() {
        let logs = RequestLogs::default();
        let clock = Arc::new(SetClock::default());
        let queue = logs.open(RequestLog::File, LineLayout::Flat, clock);
        let ended = Instant::now();
        for number in 0..20_000 {
            note(&logs, &format!("/{number}"), ended);
        }
        queue.wait().await;

        let (written, lost) = lines(&queue);
        let told = lost;
        assert!(told > 0);
        assert_eq!(written.len() as u64 + lost, 20_000);
        assert!(written[0].contains("\"/0\"") && written.concat().len() < WAITING_BYTES_MAX + 512);
        note(&logs, "/later", ended);
        queue.wait().await;
        let (written, lost) = lines(&queue);
        assert!(written.len() == 1 && lost == 0, "there is room again");
        assert_eq!(logs.lost(RequestLog::File), told);
    }
}
