//! Which faults are worth another try, and after which pause.
//!
//! GET and HEAD change nothing, so a fault on the way may be met by asking again. What the
//! upstream has answered on purpose is not asked again. The caller's deadline is kept by the
//! caller.

use std::time::Duration;

use super::error::UpstreamError;

/// How often a question is sent. More would only add to what an ailing upstream has to do.
const TRIES_MAX: u32 = 3;

/// The pause after the first try; four times that after each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// For how long to pause before the next try, after `tries` of them have ended in `error`;
/// `None` if there should be no next one.
pub(super) fn pause(error: &UpstreamError, tries: u32) -> Option<Duration> {
    if tries >= TRIES_MAX || !is_worth_it(error) {
        return None;
    }
    // Up to half more or less, so that those who failed together do not return together.
    let jitter = 0.5 + fastrand::f64();
    Some((PAUSE * 4_u32.pow(tries.saturating_sub(1))).mul_f64(jitter))
}

fn is_worth_it(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Stalled { .. } | UpstreamError::Unreachable { .. } => true,
        UpstreamError::Unexpected { status, .. } => {
            matches!(status.as_u16(), 500 | 502 | 503 | 504)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let error = UpstreamError::Unreachable { host: String::new(), reason: String::new() };
        for _ in 0..100 {
            let first = pause(&error, 1).unwrap().as_millis();
            let second = pause(&error, 2).unwrap().as_millis();
            assert!((50..=150).contains(&first), "{first}");
            assert!((200..=600).contains(&second), "{second}");
        }
        assert_eq!(pause(&error, 3), None);
    }

    #[test]
    fn only_faults_on_the_way_are_tried_again() {
        let host = String::new;
        let unexpected = |code| UpstreamError::Unexpected {
            host: host(),
            status: StatusCode::from_u16(code).unwrap(),
            reason: host(),
        };
        for code in [500, 502, 503, 504] {
            assert!(pause(&unexpected(code), 1).is_some(), "{code}");
        }
        for code in [200, 206, 400, 403, 405, 501, 505, 599] {
            assert!(pause(&unexpected(code), 1).is_none(), "{code}");
        }
        for error in [
            UpstreamError::NotFound { host: host(), said: None },
            UpstreamError::Throttled { host: host(), wait: None },
            UpstreamError::Denied { host: host(), status: StatusCode::FORBIDDEN },
            UpstreamError::Forbidden { host: host(), target: host(), reason: host() },
            UpstreamError::CredentialRefused {
                host: host(),
                status: StatusCode::UNAUTHORIZED,
                reason: host(),
            },
            UpstreamError::RangeNotSatisfiable { host: host(), total: None },
        ] {
            assert!(pause(&error, 1).is_none(), "{error:?}");
        }
    }
}
