//! Claims of names: every name, alias, prefix and host belongs to one registry.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::diagnostics::ValueFault;
use super::reader::KeyLocation;
use super::resolver::Resolver;
use crate::oci::RegistryName;

/// The names that are taken; hosts apart, which no path and no `ns=` can name.
#[derive(Debug, Default)]
pub(super) struct NameClaims {
    taken: HashMap<(bool, String), NameClaim>,
}

/// Why a registry is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimKind {
    Alias,
    /// A host that requests are sent to, which is no name in a path or in `ns=`.
    Host,
    /// An alias that is not written but known.
    ImpliedAlias,
    /// The name, as a prefix.
    ImpliedPrefix,
    Name,
    Prefix,
}

#[derive(Debug)]
struct NameClaim {
    by: RegistryName,
    kind: ClaimKind,
    is_reported: bool,
}

impl NameClaims {
    /// Lets `by` be called `text`, or complains that another one is.
    pub(super) fn claim(
        &mut self,
        by: &RegistryName,
        kind: ClaimKind,
        text: &str,
        at: &KeyLocation,
        resolver: &mut Resolver<'_>,
    ) {
        let claim = match self.taken.entry((kind == ClaimKind::Host, text.to_owned())) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(NameClaim { by: by.clone(), kind, is_reported: false });
                return;
            }
        };
        // Only a name is said once; the same registry may repeat it as its alias or prefix.
        let is_again =
            claim.by == *by && (kind != ClaimKind::Name || claim.kind != ClaimKind::Name);
        if is_again || claim.is_reported {
            return;
        }
        claim.is_reported = true;
        let first = &claim.by;
        let fault = if first == by {
            ValueFault::new(format!("there are two tables for `{by}`"))
                .hint("upper case, a final dot and `:443` make no difference; merge them")
        } else if kind == ClaimKind::Host {
            ValueFault::new(format!("the host `{text}` means both `{first}` and `{by}`"))
                .hint("take it out of the `hosts` of one of them")
        } else {
            let fault = ValueFault::new(format!("both `{first}` and `{by}` are called `{text}`"));
            match [(claim.kind, first), (kind, by)]
                .iter()
                .find(|(kind, _)| *kind == ClaimKind::ImpliedAlias)
            {
                Some((_, owner)) => fault.hint(format!(
                    "it is an alias of `{owner}` unless that sets `aliases`, if only to `[]`"
                )),
                None => fault.hint("give one of them another name, alias or prefix"),
            }
        };
        resolver.report(at, fault);
    }
}
