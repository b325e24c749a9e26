//! Every metric: its name, its labels, its kind and its help.
//!
//! Names follow Prometheus' conventions (<https://prometheus.io/docs/practices/naming/>). Only a
//! metric in this table can be shown. `docs/metrics.md` describes the same ones, and a test
//! compares the two.
//!
//! Labels are bounded: registries are those of the configuration, by the names it gives them, and
//! all other values are words of this program.

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it is shown.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its meaning, in one sentence.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It grows until the process ends.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Counters by upper bounds, with a sum.
    Histogram,
}

macro_rules! catalogue {
    ($($constant:ident $kind:ident $name:literal $labels:tt $help:literal)*) => {
        $(pub(super) const $constant: &Metric = &Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &$labels,
            help: $help,
        };)*

        /// All of them.
        pub const CATALOGUE: &[&Metric] = &[$($constant),*];
    };
}

catalogue! {
    REQUESTS Counter "larder_requests_total" ["registry", "route", "decision", "detail", "status"]
        "Requests of clients that have ended."
    SENT_BYTES Counter "larder_sent_bytes_total" ["registry", "route", "decision"]
        "Bytes of answers' bodies that were given to clients."
    UNFINISHED Counter "larder_unfinished_answers_total" ["registry", "end"]
        "Answers whose body was cut off by Larder, or whose client left."
    DURATION Histogram "larder_request_duration_seconds" ["route"]
        "Time from a request's head to the end of its answer."
    FIRST_BYTE Histogram "larder_request_first_byte_seconds" ["route"]
        "Time from a request's head to the first byte of the answer's body."
    CONNECTIONS Gauge "larder_connections" []
        "Connections of clients that are open."
    EVENTS_LOST Counter "larder_events_lost_total" []
        "Lines of requests and events that were lost, because the log or a reader was too slow."
    ACCESS_LOG_LOST Counter "larder_access_log_lost_total" ["reason"]
        "Lines of the access log that were lost, because the disk took none or was too slow."
    TRACE_SPANS Counter "larder_trace_spans_total" ["result"]
        "Spans of traces: taken by the collector, refused by it, or lost because it was away or slow."
    UPSTREAM_REQUESTS Counter "larder_upstream_requests_total" ["registry", "class", "result"]
        "Requests that were sent to upstreams, their token servers and their storage."
    UPSTREAM_HEADS Histogram "larder_upstream_head_seconds" ["registry", "class"]
        "Time from a request to the head of an upstream's answer, connecting included."
    UPSTREAM_BYTES Counter "larder_upstream_received_bytes_total" ["registry"]
        "Bytes of bodies that came from upstreams."
    RATELIMIT_LIMIT Gauge "larder_upstream_ratelimit_limit" ["registry", "login"]
        "Requests that the upstream says it allows in a window."
    RATELIMIT_REMAINING Gauge "larder_upstream_ratelimit_remaining" ["registry", "login"]
        "Requests that the upstream says are left in the window."
    RATELIMIT_WINDOW Gauge "larder_upstream_ratelimit_window_seconds" ["registry", "login"]
        "The length of the upstream's window."
    LIMITS_HELD Gauge "larder_upstream_backoffs" ["registry"]
        "Kinds of requests that are held back because the upstream limits them."
    TROUBLES Gauge "larder_upstream_troubles" ["registry", "reason"]
        "Hosts behind a registry that are of no use, by reason."
    CREDENTIAL_END Gauge "larder_upstream_credential_end_seconds" ["registry"]
        "When the credential that a source issued for the upstream ends, as Unix time."
    FILLS_RUNNING Gauge "larder_fills_running" []
        "Blobs that are being fetched into the store."
    FILLS_ENDED Counter "larder_fills_ended_total" ["registry", "result"]
        "Fetches of blobs that have ended."
    WARMED Counter "larder_warmed_images_total" ["result"]
        "Images that were fetched on a schedule."
    MOUNTED Counter "larder_mounted_blobs_total" []
        "Blobs that were pushed by a mount and not sent to the upstream."
    MOUNTED_BYTES Counter "larder_mounted_bytes_total" []
        "Bytes of blobs that were pushed by a mount and not sent to the upstream, as far as known."
    DISK_TROUBLE Gauge "larder_disk_bypassed" ["reason"]
        "Whether blobs cannot be kept: one was lost, and none as large has found room since."
    DISK_FREE Gauge "larder_disk_free_bytes" []
        "Space on the file system of the cache that may still be written, `min_free` left out."
    DISK_MIN_FREE Gauge "larder_disk_min_free_bytes" []
        "Space on the file system of the cache that is left free: `min_free`, or a twentieth of it."
    DISK_SIZE Gauge "larder_disk_size_bytes" []
        "Size of the file system of the cache."
    CAP Gauge "larder_store_max_bytes" []
        "Space that the cache directory may take, if it has a limit."
    USED Gauge "larder_store_used_bytes" ["part"]
        "Space that the cache directory takes on its disk."
    PINNED Gauge "larder_store_pinned_bytes" []
        "Space that pinned content takes."
    PROTECTED Gauge "larder_store_protected_bytes" []
        "Space of content that goes last because no upstream can give it now."
    EVICTED Counter "larder_evicted_total" ["reason"]
        "Blobs that were evicted, by the limit for which they were."
    EVICTED_BYTES Counter "larder_evicted_bytes_total" ["reason"]
        "Space of the blobs that were evicted."
    EVICTED_UNUSED Gauge "larder_evicted_unused_seconds" []
        "Seconds without a use of the blob that was evicted last; few if the cache is too small."
    STORED Gauge "larder_store_entries" ["kind"]
        "How many contents, manifests by repository and tags are stored, as far as the index knows."
    STORED_BYTES Gauge "larder_store_bytes" []
        "Bytes of all stored contents, as far as the index knows."
    INDEX Gauge "larder_index_state" ["state"]
        "Whether the index can be believed."
    INDEX_WALKS Counter "larder_index_comparisons_total" []
        "Comparisons of the index with the files that were finished."
    INDEX_BAD Counter "larder_index_set_aside_total" []
        "Databases of the index that were set aside, because they were damaged."
    INDEX_LOST Counter "larder_index_lost_changes_total" []
        "Changes that the index was too slow to take; a comparison with the files makes up for them."
    VERIFIED Counter "larder_verifications_total" ["result"]
        "Stored contents that were hashed again."
    HEALED Counter "larder_healed_total" []
        "Stored contents that were wrong and have been fetched anew."
    SCRUBBED_BYTES Counter "larder_scrubbed_bytes_total" []
        "Bytes that were read from the disk to verify stored content in turn."
    SCRUB_LOST Counter "larder_scrub_lost_total" []
        "Stored contents that were wrong, and that no upstream gave again."
    SCRUB_OLDEST Gauge "larder_scrub_oldest_seconds" []
        "Seconds since the verification of the content that was not verified for longest."
    MEMORY_BYTES Gauge "larder_memory_cache_bytes" ["cache"]
        "Memory taken by what is hot and small, about."
    MEMORY_ENTRIES Gauge "larder_memory_cache_entries" ["cache"]
        "Entries of what is hot and small, about."
    RELOAD Gauge "larder_config_reload_successful" []
        "Whether the configuration could be used when it was last read again."
    CERTIFICATE_END Gauge "larder_tls_certificate_end_seconds" ["address"]
        "When the certificate that a listener shows ends, as Unix time."
    READY Gauge "larder_ready" ["state"]
        "What /readyz says."
    BUILD Gauge "larder_build_info" ["version"]
        "The program that runs; always 1."
    CPU Counter "process_cpu_seconds_total" []
        "Processor time of the process, of user and system."
    RESIDENT Gauge "process_resident_memory_bytes" []
        "Memory of the process that is in RAM."
    OPEN_FDS Gauge "process_open_fds" []
        "File descriptors that are open."
    MAX_FDS Gauge "process_max_fds" []
        "File descriptors that may be open."
    STARTED Gauge "process_start_time_seconds" []
        "When the process began, in seconds since 1970."
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints that promtool would have, for machines without promtool.
    #[test]
    fn names_follow_the_conventions() {
        for metric in CATALOGUE {
            let Metric { name, kind, labels, help } = metric;
            let is_counter = *kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(name.starts_with("larder_") || name.starts_with("process_"), "{name}");
            assert!(!labels.iter().any(|label| ["le", "repository", "tag"].contains(label)));
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            let count = CATALOGUE.iter().filter(|other| other.name == *name).count();
            assert_eq!(count, 1, "{name}");
        }
    }
}
