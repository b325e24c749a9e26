//! The requests to a registry, kept for the test to read.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// One request, and what came of it so far.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    /// The `Host` header.
    pub host: String,
    /// Path and query, as they came.
    pub target: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's own body.
    pub body: Vec<u8>,
    status: AtomicU16,
    body_sent: AtomicU64,
}

impl Asked {
    pub(super) fn new(
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Self {
        let host = headers.iter().find(|(name, _)| name == "host");
        Self {
            method: method.to_owned(),
            host: host.map(|(_, value)| value.clone()).unwrap_or_default(),
            target: target.to_owned(),
            headers,
            body,
            status: AtomicU16::new(0),
            body_sent: AtomicU64::new(0),
        }
    }

    /// The one value of a header; panics when it came twice, which no request of ours may.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(have, _)| have == name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} came twice: {:?}", self.headers);
        first.map(|(_, value)| value.as_str())
    }

    /// Whether any header carries something secret.
    pub fn has_credential(&self) -> bool {
        self.headers.iter().any(|(name, _)| {
            matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization")
        })
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The values of a query argument, decoded.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// The status it was answered with; 0 as long as it was not.
    pub fn status(&self) -> u16 {
        self.status.load(Ordering::Acquire)
    }

    /// How many bytes of the answer's body were taken from us so far.
    pub fn body_sent(&self) -> u64 {
        self.body_sent.load(Ordering::Acquire)
    }

    pub(super) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.body_sent.fetch_add(bytes as u64, Ordering::AcqRel);
    }
}
