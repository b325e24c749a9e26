//! CPU, memory and descriptors of this process, under the names that Prometheus' clients use.
//!
//! They are read from `/proc`; a value that cannot be read there is not shown.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use tokio::task::spawn_blocking;

use super::catalogue as metrics;
use super::exposition::{MetricFamily, SampleValue, family};

/// All that there is.
pub(super) async fn families() -> Vec<MetricFamily> {
    spawn_blocking(read).await.unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "ticks since boot fit in 52 bits")]
fn read() -> Vec<MetricFamily> {
    let tick = 1.0 / clock_ticks_per_second().max(1) as f64;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = |number| field(&stat, number).map(|ticks| ticks as f64 * tick);
    let cpu = field(UTIME).zip(field(STIME)).map(|(user, system)| user + system);
    let started = field(STARTTIME).zip(boot_time()).map(|(since, boot)| boot as f64 + since);
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
    let fds_max = getrlimit(Resource::Nofile).current;
    let number = |value: f64| ([], SampleValue::Number(value));
    let whole = |value: u64| ([], SampleValue::Whole(value));
    vec![
        family(metrics::CPU, cpu.map(number)),
        family(metrics::RESIDENT, resident.map(|pages| whole(pages * page_size() as u64))),
        family(metrics::OPEN_FDS, fds.map(whole)),
        family(metrics::MAX_FDS, fds_max.map(whole)),
        family(metrics::STARTED, started.map(number)),
    ]
}

/// proc(5), by the numbers there. The second field may have anything in it, within parentheses.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

const UTIME: usize = 14;
const STIME: usize = 15;
const STARTTIME: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name_whatever_it_is() {
        let stat = "42 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 70 80 0 0 20 0 9 0 5555 1 2\n";
        assert_eq!(field(stat, UTIME), Some(70));
        assert_eq!(field(stat, STIME), Some(80));
        assert_eq!(field(stat, STARTTIME), Some(5555));
        assert_eq!(field("", UTIME), None);
    }

    #[test]
    fn this_process_has_all_of_it() {
        for family in read() {
            let [sample] = &family.samples[..] else { panic!("{family:?}") };
            let is_positive = match sample.value {
                SampleValue::Number(value) => value >= 0.0,
                SampleValue::Whole(value) => value > 0,
                SampleValue::Histogram(_) => false,
            };
            assert!(is_positive, "{family:?}");
        }
    }
}
