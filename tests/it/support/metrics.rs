//! The metrics of `/metrics`, read as Prometheus reads them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use larder::admin::AdminService;

use super::client::Reply;

/// Asks the admin side.
pub async fn ask(admin: &AdminService, method: Method, path: &str, accept: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let response = admin.answer(request.body(()).unwrap()).await;
    let (head, body) = response.into_parts();
    let body: Bytes = body.collect().await.unwrap().to_bytes();
    Reply { status: head.status, headers: head.headers, body, broken: None }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// A number.
    pub value: String,
}

impl Sample {
    /// Its value, without a fraction.
    pub fn whole(&self) -> u64 {
        self.value.split('.').next().unwrap().parse().unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// All samples, and the name, type and help of every family.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub samples: Vec<Sample>,
    pub types: BTreeMap<String, String>,
    pub help: BTreeMap<String, String>,
}

impl Metrics {
    pub async fn of(admin: &AdminService) -> Self {
        let reply = ask(admin, Method::GET, "/metrics", "text/plain").await;
        reply.assert_status(200);
        assert_eq!(content_type(&reply.headers), "text/plain; version=0.0.4; charset=utf-8");
        Self::read(std::str::from_utf8(&reply.body).unwrap())
    }

    /// Panics on what is not the format.
    pub fn read(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' '))
            {
                metrics.help.insert(name.to_owned(), help.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                metrics.types.insert(name.to_owned(), kind.to_owned());
            } else {
                metrics.samples.push(sample(line));
            }
        }
        metrics
    }

    /// The sum of all samples of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(has).map(Sample::whole).sum()
    }

    /// The one sample of this name and these labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let labels: BTreeMap<_, _> = labels.collect();
        let mut found = self.samples.iter().filter(|it| it.name == name && it.labels == labels);
        let first = found.next().unwrap_or_else(|| panic!("no {name} with {labels:?}"));
        assert!(found.next().is_none(), "{name} with {labels:?} is there twice");
        first.whole()
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers["content-type"].to_str().unwrap()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    assert!(value.parse::<f64>().is_ok(), "no number: {line}");
    let (name, labels) = series.strip_suffix('}').map_or((series, ""), |series| {
        series.split_once('{').unwrap_or_else(|| panic!("no labels: {line}"))
    });
    let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
        let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        (key.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value: value.to_owned() }
}
