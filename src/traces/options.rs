//! The collector to which traces are sent, and which of them are.

use http::{HeaderName, HeaderValue};
use url::Url;

/// The collector, and what it is told.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct CollectorHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value, which is marked as sensitive, so that it is not printed.
    pub value: HeaderValue,
}
