//! Metrics as text: `OpenMetrics`, or the older format that Prometheus' tools read.
//!
//! The only place that knows which library writes it. The library writes `OpenMetrics`; the other
//! one differs in what a counter is called in its description, and in the end mark.

use std::fmt;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::catalogue::{Metric, MetricKind};
use crate::telemetry::HistogramSnapshot;

/// A metric with all that is known of it.
#[derive(Clone, Debug)]
pub(super) struct MetricFamily {
    pub(super) metric: &'static Metric,
    pub(super) samples: Vec<Sample>,
}

/// One value with its labels.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// As many as the metric has labels, in their order.
    pub(super) labels: Vec<String>,
    pub(super) value: SampleValue,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum SampleValue {
    Histogram(HistogramSnapshot),
    Number(f64),
    Whole(u64),
}

/// A family of one sample without labels.
pub(super) fn single(metric: &'static Metric, value: u64) -> MetricFamily {
    family(metric, [([], SampleValue::Whole(value))])
}

/// A family of these samples, each with the values of the metric's labels.
pub(super) fn family<'l, const N: usize>(
    metric: &'static Metric,
    samples: impl IntoIterator<Item = ([&'l str; N], SampleValue)>,
) -> MetricFamily {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    let samples = samples
        .into_iter()
        .map(|(labels, value)| Sample { labels: labels.map(str::to_owned).to_vec(), value });
    MetricFamily { metric, samples: samples.collect() }
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpositionFormat {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus' text format, 0.0.4.
    Plain,
}

impl ExpositionFormat {
    /// The one that a client takes.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let takes = lines.any(|line| line.contains("application/openmetrics-text"));
        if takes { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes them.
pub(super) fn write(
    families: Vec<MetricFamily>,
    format: ExpositionFormat,
) -> Result<String, fmt::Error> {
    let counters: Vec<_> = families
        .iter()
        .filter(|family| family.metric.kind == MetricKind::Counter)
        .map(|family| family.metric.name)
        .collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(FamilyCollector(families)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(match format {
        ExpositionFormat::OpenMetrics => text,
        ExpositionFormat::Plain => plain(&text, &counters),
    })
}

/// Turns `OpenMetrics` into the older format, which describes a counter by the name that its
/// samples have.
fn plain(text: &str, counters: &[&str]) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|mark| {
            let (name, rest) = line.strip_prefix(mark)?.split_once(' ')?;
            let name = counters.iter().find(|counter| counter.strip_suffix(TOTAL) == Some(name))?;
            Some(format!("{mark}{name} {rest}"))
        });
        plain.push_str(described.as_deref().unwrap_or(line));
        plain.push('\n');
    }
    plain
}

/// The suffix that `OpenMetrics` adds to the name of a counter.
const TOTAL: &str = "_total";

#[derive(Debug)]
struct FamilyCollector(Vec<MetricFamily>);

impl Collector for FamilyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for MetricFamily { metric, samples } in &self.0 {
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let name = metric.name.strip_suffix(TOTAL).unwrap_or(metric.name);
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for sample in samples {
                let values = sample.labels.iter().map(String::as_str);
                let labels: Vec<_> = metric.labels.iter().copied().zip(values).collect();
                if labels.is_empty() {
                    write_value(&mut family, metric.kind, &sample.value)?;
                } else {
                    let mut one = family.encode_family(&labels)?;
                    write_value(&mut one, metric.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn write_value(
    encoder: &mut MetricEncoder<'_>,
    kind: MetricKind,
    value: &SampleValue,
) -> fmt::Result {
    match (kind, value) {
        (MetricKind::Counter, SampleValue::Whole(value)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (MetricKind::Counter, SampleValue::Number(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (MetricKind::Gauge, SampleValue::Whole(value)) => encoder.encode_gauge(value),
        (MetricKind::Gauge, SampleValue::Number(value)) => encoder.encode_gauge(value),
        (
            MetricKind::Histogram,
            SampleValue::Histogram(HistogramSnapshot { count, sum, buckets }),
        ) => encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None),
        (MetricKind::Histogram, _) | (_, SampleValue::Histogram(_)) => Err(fmt::Error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::catalogue::{CONNECTIONS, DURATION, UPSTREAM_BYTES};
    use crate::telemetry::Histogram;

    fn families() -> Vec<MetricFamily> {
        let of = |metric, label: Option<&str>, value| {
            let labels = label.map(str::to_owned).into_iter().collect();
            MetricFamily { metric, samples: vec![Sample { labels, value }] }
        };
        let histogram = Histogram::default();
        histogram.observe(Duration::from_secs(1000));
        vec![
            of(UPSTREAM_BYTES, Some("a\"b.test"), SampleValue::Whole(7)),
            of(CONNECTIONS, None, SampleValue::Whole(3)),
            of(DURATION, Some("blob"), SampleValue::Histogram(histogram.read())),
        ]
    }

    #[test]
    fn a_counter_is_described_as_each_format_wants_it() {
        let [open, plain] = [ExpositionFormat::OpenMetrics, ExpositionFormat::Plain]
            .map(|format| write(families(), format).unwrap());
        assert!(open.contains("# TYPE larder_upstream_received_bytes counter\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
        assert!(plain.contains("# TYPE larder_upstream_received_bytes_total counter\n"), "{plain}");
        assert!(plain.contains("# HELP larder_upstream_received_bytes_total Bytes"), "{plain}");
        assert!(!plain.contains("EOF"), "{plain}");
        for text in [open, plain] {
            let sample = "larder_upstream_received_bytes_total{registry=\"a\\\"b.test\"} 7\n";
            assert!(text.contains(sample), "{text}");
            assert!(text.contains("\nlarder_connections 3\n"), "{text}");
            let sum = "larder_request_duration_seconds_sum{route=\"blob\"} 1000.0\n";
            let last = "larder_request_duration_seconds_bucket{le=\"600.0\",route=\"blob\"} 0\n";
            let all = "larder_request_duration_seconds_bucket{le=\"+Inf\",route=\"blob\"} 1\n";
            assert!([sum, last, all].iter().all(|line| text.contains(line)), "{text}");
        }
    }

    #[test]
    fn a_client_gets_the_format_that_it_takes() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        for (accept, want) in [
            (Some(prometheus), ExpositionFormat::OpenMetrics),
            (Some("text/plain"), ExpositionFormat::Plain),
            (None, ExpositionFormat::Plain),
        ] {
            let accept = accept.map(|text| (ACCEPT, http::HeaderValue::from_static(text)));
            assert_eq!(ExpositionFormat::of(&accept.into_iter().collect()), want);
        }
    }
}
