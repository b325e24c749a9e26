//! The causes of an error, outermost first.

use std::error::Error as StdError;
use std::iter;

/// The message of the innermost cause: the ones around it only say who passed it on.
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&cause| cause.source())
}
