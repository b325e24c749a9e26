//! The class of a status, from which retries, the circuit breaker and the error that it becomes
//! follow.
//!
//! Decided by its number alone. The host that gave it, and whether the registry itself said so,
//! decide which error it becomes (`reply.rs`, `login.rs`); an error's meaning is in `error.rs`.

use http::StatusCode;

/// The class of a response's status, where it is the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusClass {
    /// 404: there is no such thing.
    Absence,
    /// 200 or 206.
    Content,
    /// A gateway whose registry is down: 502 to 504, and Cloudflare's words for them (520 to 527,
    /// 530). Asked again, and counted by the circuit breaker.
    Gateway,
    /// The same request may succeed at once: 408 (RFC 9110, 15.5.9), 421 (15.5.20), 425 (RFC 8470,
    /// 5.2), 499 of nginx, and 500. Asked again.
    Transient,
    /// 401 or 403.
    Refusal,
    /// Any other 4xx, which the registry says on purpose: clients get it as it is.
    Rejection,
    /// 416.
    Unsatisfiable,
    /// Nothing that the protocol gives a meaning.
    Unknown,
}

impl StatusClass {
    /// The class of this status.
    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200 | 206 => Self::Content,
            401 | 403 => Self::Refusal,
            404 => Self::Absence,
            408 | 421 | 425 | 499 | 500 => Self::Transient,
            416 => Self::Unsatisfiable,
            // For a proxy's credential, and a limit: neither is about the request.
            407 | 429 => Self::Unknown,
            400..=499 => Self::Rejection,
            502..=504 | 520..=527 | 530 => Self::Gateway,
            _ => Self::Unknown,
        }
    }
}

/// Whether a method is not known to the host that answered with this status.
pub(super) fn is_without_method(status: StatusCode) -> bool {
    matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16) -> StatusClass {
        StatusClass::of(StatusCode::from_u16(status).unwrap())
    }

    #[test]
    fn each_status_has_one_class() {
        let rows: [(&[u16], StatusClass); 8] = [
            (&[404], StatusClass::Absence),
            (&[200, 206], StatusClass::Content),
            (&[502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530], StatusClass::Gateway),
            (&[408, 421, 425, 499, 500], StatusClass::Transient),
            (&[401, 403], StatusClass::Refusal),
            (
                &[400, 402, 405, 406, 409, 410, 411, 413, 414, 415, 418, 422, 426, 431, 451],
                StatusClass::Rejection,
            ),
            (&[416], StatusClass::Unsatisfiable),
            (
                &[100, 201, 204, 205, 300, 304, 407, 429, 501, 505, 507, 508, 519, 528, 529, 599],
                StatusClass::Unknown,
            ),
        ];
        for (statuses, want) in rows {
            for status in statuses {
                assert_eq!(class(*status), want, "{status}");
            }
        }
    }
}
