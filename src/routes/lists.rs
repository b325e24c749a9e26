//! `tags/list` and `referrers/<digest>`.

use http::StatusCode;

use super::door::ClientPath;
use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::{Cache, ListKind};
use crate::oci::{ErrorCode, InvalidPage};

/// GET.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    listing: &ListKind,
    presented: &ClientPath,
    query: &str,
) -> RouteReply {
    let page = match listing.page(query) {
        Ok(page) => page,
        Err(error) => return refused(error),
    };
    if *listing == ListKind::Tags && page.is_of_nothing() {
        return RouteReply::no_tags(grant.repository());
    }
    match cache.list(grant, listing, &page).await {
        Ok(pulled) => {
            let next = pulled.what.next.as_ref();
            let link = next.map(|next| presented.link(&listing.path(), &next.to_query()));
            RouteReply::list(&pulled, link.as_deref())
        }
        Err(error) => RouteReply::failed(&error, absent(listing)),
    }
}

/// The code of a 404 that nobody explained. Clients take `NAME_UNKNOWN` for a repository that is
/// not there, and anything else from `referrers` for a registry that has none, and then look for
/// the tag that stands in for them (distribution-spec, "Unavailable Referrers API").
fn absent(listing: &ListKind) -> ErrorCode {
    match listing {
        ListKind::Referrers(_) => ErrorCode::Unsupported,
        ListKind::Tags => ErrorCode::NameUnknown,
    }
}

fn refused(error: InvalidPage) -> RouteReply {
    let (status, code) = match error {
        InvalidPage::TooLong => (StatusCode::URI_TOO_LONG, ErrorCode::SizeInvalid),
        _ => (StatusCode::BAD_REQUEST, ErrorCode::PaginationNumberInvalid),
    };
    RouteReply::error(status, code, error.to_string())
}
