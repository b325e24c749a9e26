//! The requests: how each is written as a method and a target, and read again.

use http::Method;

/// A request of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// The figures of the cache and its server: [`CacheStats`](super::CacheStats).
    Stats,
}

impl ControlRequest {
    /// Its method.
    pub fn method(&self) -> Method {
        match self {
            Self::Stats => Method::GET,
        }
    }

    /// Its path and query.
    pub fn target(&self) -> String {
        match self {
            Self::Stats => "/v1/stats".to_owned(),
        }
    }

    /// The request of this method and target; `None` if there is no such.
    pub fn read(method: &Method, path: &str) -> Option<Self> {
        match (method, path) {
            (&Method::GET, "/v1/stats") => Some(Self::Stats),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = ControlRequest::Stats;
        let read = ControlRequest::read(&request.method(), &request.target());
        assert_eq!(read, Some(request));
        assert_eq!(ControlRequest::read(&Method::POST, "/v1/stats"), None);
        assert_eq!(ControlRequest::read(&Method::GET, "/v2/"), None);
    }
}
