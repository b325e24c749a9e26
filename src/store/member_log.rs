//! The log of the blobs that the upstream said a repository has, or has no longer.
//!
//! Lines are only ever added, so that a kill in between loses the last one at most. A log that has
//! become too long is replaced by one that says the same in fewer lines. Which blobs are noted, and
//! when, is decided in `repository_members.rs`.

use std::collections::HashSet;
use std::time::SystemTime;

use super::records::sum_of;
use crate::clock::unix_seconds;
use crate::oci::Digest;

/// A log that was read: the last word on each blob.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MemberLog {
    pub(super) present: HashSet<Digest>,
    pub(super) gone: HashSet<Digest>,
}

/// A line of it.
struct MemberLine<'l> {
    text: &'l str,
    digest: Digest,
    is_gone: bool,
}

impl<'l> MemberLine<'l> {
    /// `None` if the line cannot be read, or has another checksum, as a torn one has.
    fn read(text: &'l str) -> Option<Self> {
        let is_whole = match text.rsplit_once(' ') {
            Some((said, sum)) if said.contains(' ') => sum == sum_of(&[said.as_bytes()]),
            // A line of a build without checksums.
            _ => true,
        };
        let first = text.split(' ').next().filter(|_| is_whole)?;
        let (is_gone, digest) = first.strip_prefix('!').map_or((false, first), |it| (true, it));
        Some(Self { text, digest: digest.parse().ok()?, is_gone })
    }
}

impl MemberLog {
    /// The line that says that a blob is there.
    pub(super) fn present_line(digest: &Digest, at: SystemTime) -> String {
        let said = format!("{digest} {}", unix_seconds(at));
        format!("{said} {}\n", sum_of(&[said.as_bytes()]))
    }

    /// The line that says that a blob is gone.
    pub(super) fn gone_line(digest: &Digest, at: SystemTime) -> String {
        let said = format!("!{digest} {}", unix_seconds(at));
        format!("{said} {}\n", sum_of(&[said.as_bytes()]))
    }

    /// Replays the lines.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        let text = String::from_utf8_lossy(bytes);
        for MemberLine { digest, is_gone, .. } in text.lines().filter_map(MemberLine::read) {
            let (now, before) = if is_gone {
                (&mut log.gone, &mut log.present)
            } else {
                (&mut log.present, &mut log.gone)
            };
            before.remove(&digest);
            now.insert(digest);
        }
        log
    }

    /// A log of at most one line for each blob, the last one. That a blob is gone has to be said
    /// only of those that a manifest names, and is said of all of them. If the log would still be
    /// longer than `bytes_max`, those go that were not confirmed for longest.
    pub(super) fn compacted(
        bytes: &[u8],
        bytes_max: usize,
        is_named: impl Fn(&Digest) -> bool,
    ) -> String {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<_> = text.lines().filter_map(MemberLine::read).collect();
        let (mut seen, mut kept, mut len) = (HashSet::new(), Vec::new(), 0);
        for line in lines.iter().rev().filter(|line| seen.insert(&line.digest)) {
            let more = line.text.len() + 1;
            let is_kept =
                if line.is_gone { is_named(&line.digest) } else { len + more <= bytes_max };
            if is_kept {
                len += more;
                kept.push(line.text);
            }
        }
        kept.iter().rev().flat_map(|line| [line, "\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oci::Algorithm;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn digest(number: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[number])
    }

    /// Each blob comes and goes ten times.
    fn busy_log() -> String {
        let line = |number: u8, round: u64| match (round, number) {
            // Every third is gone in the end.
            (9, number) if number % 3 != 0 => MemberLog::present_line(&digest(number), at(round)),
            (round, _) if round % 2 == 1 => MemberLog::gone_line(&digest(number), at(round)),
            _ => MemberLog::present_line(&digest(number), at(round)),
        };
        (0..10).flat_map(|round| (0..30).map(move |number| line(number, round))).collect()
    }

    #[test]
    fn a_log_in_fewer_lines_says_the_same() {
        let log = format!("{}{:.40}", busy_log(), digest(40).to_string());
        let compacted = MemberLog::compacted(log.as_bytes(), log.len(), |_| true);
        assert_eq!(MemberLog::read(compacted.as_bytes()), MemberLog::read(log.as_bytes()));
        assert_eq!(compacted.lines().count(), 30);
        assert_eq!(MemberLog::read(log.as_bytes()).present.len(), 20);
        assert_eq!(MemberLog::compacted(b"", 1, |_| true), "");
    }

    /// Without such a line, a manifest would make a member of the blob again.
    #[test]
    fn what_is_gone_is_said_for_as_long_as_a_manifest_names_it() {
        let log = busy_log();
        let named = |it: &Digest| *it == digest(0) || *it == digest(3);
        let compacted = MemberLog::compacted(log.as_bytes(), 0, named);
        let read = MemberLog::read(compacted.as_bytes());
        assert_eq!(read.gone, HashSet::from([digest(0), digest(3)]));
        assert_eq!(read.present.len(), 0, "none fits");
    }

    #[test]
    fn the_blobs_that_were_not_confirmed_for_longest_go_from_a_log_that_is_too_long() {
        let log: String =
            (0..40).map(|number| MemberLog::present_line(&digest(number), at(1))).collect();
        let compacted = MemberLog::compacted(log.as_bytes(), log.len() / 2, |_| true);
        let read = MemberLog::read(compacted.as_bytes());
        assert_eq!(read.present, (20..40).map(digest).collect());
        assert!(log.ends_with(&compacted), "in the same order");
    }
}
