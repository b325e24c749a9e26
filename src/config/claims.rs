//! Who is called what: every name, alias and prefix belongs to one registry.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::problem::Fault;
use super::resolver::Resolver;
use crate::oci::RegistryName;

/// The names that are taken.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: HashMap<String, Claim>,
}

/// Why a registry is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Alias,
    /// An alias that is not written but known.
    ImpliedAlias,
    /// The name, as a prefix.
    ImpliedPrefix,
    Name,
    Prefix,
}

#[derive(Debug)]
struct Claim {
    by: RegistryName,
    kind: Kind,
    is_reported: bool,
}

impl Claims {
    /// Lets `by` be called `text`, or complains that another one is.
    pub(super) fn claim(
        &mut self,
        by: &RegistryName,
        kind: Kind,
        text: &str,
        span: Range<usize>,
        resolver: &mut Resolver<'_>,
    ) {
        let claim = match self.taken.entry(text.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Claim { by: by.clone(), kind, is_reported: false });
                return;
            }
        };
        // Only a name is said once; the same registry may repeat it as its alias or prefix.
        let is_again = claim.by == *by && (kind != Kind::Name || claim.kind != Kind::Name);
        if is_again || claim.is_reported {
            return;
        }
        claim.is_reported = true;
        let first = &claim.by;
        let fault = if first == by {
            Fault::new(format!("there are two tables for `{by}`"))
                .hint("upper case, a final dot and `:443` make no difference; merge them")
        } else {
            let fault = Fault::new(format!("both `{first}` and `{by}` are called `{text}`"));
            match [(claim.kind, first), (kind, by)]
                .iter()
                .find(|(kind, _)| *kind == Kind::ImpliedAlias)
            {
                Some((_, owner)) => fault.hint(format!(
                    "it is an alias of `{owner}` unless that sets `aliases`, if only to `[]`"
                )),
                None => fault.hint("give one of them another name, alias or prefix"),
            }
        };
        resolver.complain(span, fault);
    }
}
