//! Which faults are worth another try, and after which pause.
//!
//! GET and HEAD change nothing, so a fault on the way may be met by asking again. An answer that
//! the upstream gave on purpose is final. A rate limit is waited out for as long as the upstream
//! says, as often as there is time: the windows of [`super::backoff`] let one request through for
//! all that wait. The caller's deadline is kept by the caller.

use std::time::Duration;

use super::error::{ErrorMeaning, UpstreamError};

/// How often a question is sent, and how long the pauses are.
#[derive(Clone, Copy, Debug)]
struct RetrySchedule {
    tries_max: u32,
    /// After the first try.
    pause: Duration,
    /// Each further pause is so many times as long.
    growth: u32,
}

/// After a fault. More tries would only add to what an ailing upstream has to do.
const FAULT: RetrySchedule =
    RetrySchedule { tries_max: 3, pause: Duration::from_millis(100), growth: 4 };

/// After storage has refused a signed URL: a second one that is refused too is no accident.
const SIGNED_URL: RetrySchedule = RetrySchedule { tries_max: 2, ..FAULT };

/// While a token is not valid yet. Clocks that are kept differ by a few seconds at most.
const TOKEN: RetrySchedule =
    RetrySchedule { tries_max: 4, pause: Duration::from_secs(1), growth: 2 };

/// The longest by which the end of a rate limit is missed on purpose.
const LIMIT_JITTER_MAX: Duration = Duration::from_secs(1);

/// For how long to pause before the next try, after `tries` of them have ended in `error`;
/// `None` if there should be no next one. Rate limits are not counted among `tries`.
pub(super) fn pause(error: &UpstreamError, tries: u32) -> Option<Duration> {
    if let UpstreamError::Throttled { wait, .. } = error {
        // Up to a quarter more, so that requests that were limited together do not return together.
        return wait.map(|wait| wait + (wait / 4).min(LIMIT_JITTER_MAX).mul_f64(fastrand::f64()));
    }
    let schedule = schedule_of(error).filter(|schedule| tries < schedule.tries_max)?;
    // Up to half more or less, so that requests that failed together do not return together.
    let jitter = 0.5 + fastrand::f64();
    let growth = schedule.growth.pow(tries.saturating_sub(1));
    Some((schedule.pause * growth).mul_f64(jitter))
}

fn schedule_of(error: &UpstreamError) -> Option<RetrySchedule> {
    match (error.meaning(), error) {
        (ErrorMeaning::Fault, UpstreamError::StorageRefused { .. }) => Some(SIGNED_URL),
        (ErrorMeaning::Fault, _) => Some(FAULT),
        (ErrorMeaning::TokenNotYetValid, _) => Some(TOKEN),
        _ => None,
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
    fn a_rate_limit_is_waited_out_after_any_number_of_tries() {
        for (wait, longest) in [(1000, 1250), (4000, 5000), (20_000, 21_000)] {
            let [wait, longest] = [wait, longest].map(Duration::from_millis);
            let (host, by_storage) = (String::new(), false);
            let error = UpstreamError::Throttled { host, wait: Some(wait), by_storage };
            for tries in [0, 1, 3, 50] {
                let pause = pause(&error, tries).unwrap();
                assert!((wait..=longest).contains(&pause), "{pause:?}");
            }
        }
    }

    #[test]
    fn each_meaning_has_its_tries() {
        let host = String::new;
        let status = |code| StatusCode::from_u16(code).unwrap();
        let tries_of = |error: &UpstreamError| {
            (1..9).take_while(|tries| pause(error, *tries).is_some()).count() + 1
        };
        let rows: [(&[u16], usize); 2] = [
            (&[408, 421, 425, 499, 500, 502, 503, 504, 520, 522, 527, 530], 3),
            (&[200, 206, 401, 407, 501, 505, 599], 1),
        ];
        for (codes, tries) in rows {
            for code in codes {
                let error = UpstreamError::unexpected(host(), status(*code), "");
                assert_eq!(tries_of(&error), tries, "{code}");
            }
        }
        for (error, tries) in [
            (UpstreamError::NotFound { host: host(), said: None, is_proven: false }, 1),
            (UpstreamError::Throttled { host: host(), wait: None, by_storage: false }, 1),
            (UpstreamError::Denied { host: host(), status: status(403), is_proven: false }, 1),
            (UpstreamError::Rejected { host: host(), status: status(400), said: None }, 1),
            (UpstreamError::Forbidden { host: host(), target: host(), reason: host() }, 1),
            (UpstreamError::RangeNotSatisfiable { host: host(), total: None }, 1),
            (UpstreamError::StorageRefused { host: host(), status: status(403) }, 2),
            (UpstreamError::TokenRefused { host: host(), status: status(401) }, 4),
        ] {
            assert_eq!(tries_of(&error), tries, "{error:?}");
        }
    }
}
