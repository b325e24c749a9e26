//! Traces: whether there are any, the task that sends them, and its end.

use parking_lot::Mutex;
use std::sync::Arc;

use super::StartError;
use crate::http::EgressRoute;
use crate::routes::TrafficCounters;
use crate::traces::{TraceExport, TraceOptions, Tracer};

/// The task, if there is one.
#[derive(Debug, Default)]
pub(super) struct RunningExport {
    task: Mutex<Option<TraceExport>>,
}

/// Starts the task if there is a collector, and makes the counters, which know the tracer. Inside a
/// runtime.
pub(super) fn start(
    options: Option<TraceOptions>,
    egress: &EgressRoute,
) -> Result<(Arc<RunningExport>, Arc<TrafficCounters>), StartError> {
    let Some(mut options) = options else { return Ok(Default::default()) };
    let tracer = Arc::new(Tracer::new(options.sample_ratio, Arc::clone(&egress.clock)));
    let instance = egress.instance.to_string();
    options.resource.push(("service.instance.id".to_owned(), instance));
    let task = TraceExport::start(options, tracer.queue(), egress).map_err(StartError::Traces)?;
    let running = RunningExport { task: Mutex::new(Some(task)) };
    Ok((Arc::new(running), Arc::new(TrafficCounters::traced(tracer))))
}

impl RunningExport {
    /// Has it send what there is, and waits for that, but not for ever.
    pub(super) async fn finish(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.finish().await;
        }
    }
}
