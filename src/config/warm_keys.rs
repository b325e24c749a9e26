//! The keys of `[[warm]]`: which images are fetched before clients ask for them, and how often.

use super::reader::Located;
use super::table::table;
use super::values::{FilledList, PlatformName, PositiveDuration, PullCount};

table! {
    /// Images that are fetched before clients ask for them: at the start, and then at an interval.
    /// Any number of tables; `larder warm` fetches images once.
    ///
    /// Content that is stored is not fetched again, and tags are asked for when they expire. Two
    /// images are fetched at a time; one that fails does not stop the others, and is in the log.
    /// After a reload of the configuration, tables that are the same keep their times.
    ///
    /// ```toml
    /// [[warm]]
    /// images = ["alpine:3.*", "ghcr.io/owner/app:v1"]
    /// platforms = ["linux/amd64", "linux/arm64"]
    /// every = "6h"
    /// ```
    ///
    /// With `pulled`, a table is about tags that clients pull often: each run fetches what the
    /// image lacks that such a tag names in the cache, such as platforms that no client has pulled.
    ///
    /// ```toml
    /// [[warm]]
    /// pulled = 3
    /// within = "7d"
    /// platforms = ["linux/amd64", "linux/arm64"]
    /// referrers = true
    /// every = "1h"
    /// ```
    struct WarmTable in "[[warm]]" as "the table" {
        /// Names of images, as clients write them. A tag may be a pattern, as in `[[pin]]`.
        ///
        /// At most 1,000 tags that a pattern matches are fetched. With `pulled`, those of them
        /// that were pulled often.
        images: FilledList<Located<String>> => "with `pulled` all; without it the key is required";
        /// Pulls from which on a tag's image is made complete, as `larder pulls` lists them.
        ///
        /// The image is the one that the cache has for the tag, so nothing is asked about tags. At
        /// most 1,000 of them, those with the most pulls. The log of pulls holds some eight
        /// thousand.
        pulled: Located<PullCount>;
        /// The time before a run in which these pulls count.
        within: Located<PositiveDuration> = "7d";
        /// Platforms of an index; `["all"]` for all of them.
        platforms: FilledList<PlatformName> => "that of this machine";
        /// Whether signatures and other referrers are fetched too.
        referrers: bool = false;
        /// The time from the beginning of one run to that of the next.
        ///
        /// At least a minute.
        every: Located<PositiveDuration> = "6h";
    }
}
