//! Answers `tags/list` and `referrers/<digest>`.
//!
//! Reads the page from the query and links to the next one; the list comes from `cache`.

use super::door::ClientPath;
use super::error::RequestError;
use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::{Cache, ListKind};
use crate::oci::ErrorCode;

/// Answers GET.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    kind: &ListKind,
    client_path: &ClientPath,
    query: &str,
) -> Result<RouteReply, RequestError> {
    let page = kind.page(query)?;
    if *kind == ListKind::Tags && page.is_of_nothing() {
        return Ok(RouteReply::no_tags(grant.repository()));
    }
    let failed = |error| RequestError::Pull { error, absent: absent(kind) };
    let pulled = cache.list(grant, kind, &page).await.map_err(failed)?;
    let next = pulled.what.next.as_ref();
    let link = next.map(|next| client_path.link(&kind.path(), &next.to_query()));
    Ok(RouteReply::list(&pulled, link.as_deref()))
}

/// The code of a 404 that the upstream did not explain. Clients take `NAME_UNKNOWN` for a missing
/// repository, and any other code from `referrers` for a registry without that endpoint; then they
/// look for the tag that replaces it (distribution-spec, "Unavailable Referrers API").
fn absent(kind: &ListKind) -> ErrorCode {
    match kind {
        ListKind::Referrers(_) => ErrorCode::Unsupported,
        ListKind::Tags => ErrorCode::NameUnknown,
    }
}
