//! The collector to which traces are sent, and which of them are.

use http::{HeaderName, HeaderValue};
use url::Url;

/// The collector, and what it is told.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The URL that spans are posted to.
    pub url: Url,
    /// Headers of each request to it; printed by nothing.
    pub headers: Vec<CollectorHeader>,
    /// PEM certificates to trust for it beside the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// The share of the traces that begin here and are recorded, from 0 to 1.
    pub sample_ratio: f64,
    /// The attributes of the resource: this Larder. `service.name` is the first.
    pub resource: Vec<(String, String)>,
}

/// A header of requests to the collector. Its value is a secret.
#[derive(Clone, Debug)]
pub struct CollectorHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value, which is marked as sensitive, so that it is not printed.
    pub value: HeaderValue,
}

impl PartialEq for TraceOptions {
    fn eq(&self, other: &Self) -> bool {
        let headers =
            |it: &Self| it.headers.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
        let [own, others]: [Vec<_>; 2] = [headers(self), headers(other)];
        own == others
            && self.url == other.url
            && self.ca_pem == other.ca_pem
            && self.sample_ratio.total_cmp(&other.sample_ratio).is_eq()
            && self.resource == other.resource
    }
}
