//! One registry of the table as a server, and the storage that it redirects to.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::content::VendorContent;
use super::vendors::{BlobHabit, HeadHabit, NextLink, ReferrersHabit, VendorAuth, VendorTraits};
use super::wire::{self, VendorReply, VendorRequest};
use crate::support::client::Login;

/// A running one.
pub(crate) struct LookAlike {
    pub(crate) traits: &'static VendorTraits,
    pub(crate) port: u16,
    pub(crate) content: Arc<VendorContent>,
}

impl LookAlike {
    pub(crate) fn start(traits: &'static VendorTraits) -> Self {
        let has_tag = !matches!(traits.referrers, ReferrersHabit::Served);
        let content = Arc::new(VendorContent::new(traits.types, has_tag));
        let stored = Arc::clone(&content);
        let storage = wire::serve(move |request, _| storage(traits, &stored, request));
        let held = Arc::clone(&content);
        let port = wire::serve(move |request, port| {
            let mut reply = Asking { traits, content: &held, request, port, storage }.answer();
            let headers = traits.headers.iter();
            reply
                .headers
                .extend(headers.map(|(name, value)| (name.to_string(), value.to_string())));
            if traits.is_lower_case {
                reply.headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
            }
            reply
        });
        Self { traits, port, content }
    }
}

/// One request to a registry, and what its answer depends on.
struct Asking<'a> {
    traits: &'static VendorTraits,
    content: &'a VendorContent,
    request: &'a VendorRequest,
    /// The registry's own.
    port: u16,
    /// The storage's, on another origin.
    storage: u16,
}

impl Asking<'_> {
    fn answer(&self) -> VendorReply {
        if let VendorAuth::Token { path, .. } = self.traits.auth
            && self.request.path == path
        {
            return self.token();
        }
        let path = self.request.path.as_str();
        if !path.starts_with("/v2/") {
            return VendorReply::new(404, "text/html", "<html>no such page</html>\n");
        }
        let Some(rest) = path.strip_prefix(&format!("/v2/{}/", self.traits.repository)) else {
            return self.refusal("").unwrap_or_else(|| match path {
                "/v2/" => VendorReply::new(200, "application/json", "{}"),
                _ => VendorReply::error(404, "NAME_UNKNOWN"),
            });
        };
        if let Some(refusal) = self.refusal(self.traits.repository) {
            return refusal;
        }
        match rest.split_once('/') {
            Some(("tags", "list")) => self.tags(),
            Some(("manifests", reference)) => self.manifest(reference),
            Some(("blobs", digest)) => self.blob(digest),
            Some(("referrers", digest)) => self.referrers(digest),
            _ => VendorReply::error(404, "NOT_FOUND"),
        }
    }

    /// The 401 of a request without what it needs.
    fn refusal(&self, repository: &str) -> Option<VendorReply> {
        let given = self.request.header("authorization");
        let (is_good, challenge) = match &self.traits.auth {
            VendorAuth::Basic { login } => {
                (given == Some(&basic(login)), "Basic realm=\"registry\"".to_owned())
            }
            VendorAuth::Token { path, service, .. } => {
                let scope = match repository {
                    "" => String::new(),
                    _ => format!(",scope=\"repository:{repository}:pull\""),
                };
                let token = given.and_then(|given| given.strip_prefix("Bearer canary-for-"));
                let is_good = token.is_some_and(|scope| scope.contains(repository));
                let realm = format!("http://127.0.0.1:{}{path}", self.port);
                (is_good, format!("Bearer realm=\"{realm}\",service=\"{service}\"{scope}"))
            }
        };
        let reply = || VendorReply::error(401, "UNAUTHORIZED");
        (!is_good).then(|| reply().with("WWW-Authenticate", challenge))
    }

    fn token(&self) -> VendorReply {
        let VendorAuth::Token { service, field, login, post, .. } = &self.traits.auth else {
            return VendorReply::error(404, "NOT_FOUND");
        };
        if self.request.method != "GET" {
            return VendorReply::error(*post, "UNSUPPORTED");
        }
        let given = self.request.header("authorization");
        if login.is_some_and(|login| given != Some(&basic(&login))) {
            return VendorReply::error(401, "UNAUTHORIZED");
        }
        if self.request.argument("service").as_deref() != Some(service) {
            return VendorReply::error(400, "NO_SUCH_SERVICE");
        }
        let scope = self.request.argument("scope").unwrap_or_default();
        let repository = scope.split(':').nth(1).unwrap_or_default();
        let body = json!({ *field: format!("canary-for-{repository}"), "expires_in": 300 });
        VendorReply::new(200, "application/json", body.to_string())
    }

    fn tags(&self) -> VendorReply {
        let lists = &self.traits.lists;
        let asked: Option<usize> = self.request.argument("n").and_then(|n| n.parse().ok());
        if asked.zip(lists.n_max).is_some_and(|(asked, most)| asked > most) {
            return VendorReply::error(400, "PAGINATION_NUMBER_INVALID");
        }
        let page = asked.filter(|n| *n > 0).unwrap_or(lists.page).min(lists.page);
        let cursor = if let NextLink::Cursor(name) = lists.link { name } else { "last" };
        // A cursor is opaque to clients: here it is the tag with something in front.
        let after = self.request.argument(cursor).unwrap_or_default();
        let after = after.strip_prefix("opaque.").unwrap_or(&after);
        let rest = self.content.tags.keys().filter(|tag| tag.as_str() > after);
        let tags: Vec<&String> = rest.clone().take(page).collect();
        let mut body = json!({ "name": self.traits.repository, "tags": tags });
        if lists.has_more_members {
            body["child"] = json!([]);
            body["manifest"] =
                json!({ &self.content.image: { "tag": ["1"], "imageSizeBytes": "1" } });
        }
        let reply = VendorReply::new(200, "application/json; charset=utf-8", body.to_string());
        match tags.last().filter(|_| rest.count() > tags.len()) {
            Some(last) => match self.next_link(last, page) {
                Some(link) => reply.with("Link", link),
                None => reply,
            },
            None => reply,
        }
    }

    fn next_link(&self, last: &str, page: usize) -> Option<String> {
        let path = format!("/v2/{}/tags/list", self.traits.repository);
        let at = format!("http://127.0.0.1:{}{path}", self.port);
        let target = match self.traits.lists.link {
            NextLink::Path => format!("{path}?last={last}&n={page}"),
            NextLink::Url => format!("{at}?n={page}&last={last}"),
            NextLink::Zero => format!("{path}?last={last}&n=0"),
            NextLink::Cursor("last") => format!("{at}?n={page}&last=opaque.{last}"),
            NextLink::Cursor(name) => format!("{path}?n={page}&{name}=opaque.{last}"),
            NextLink::Never => return None,
        };
        Some(format!("<{target}>; rel=\"next\""))
    }

    fn manifest(&self, reference: &str) -> VendorReply {
        let digest = self.content.tags.get(reference).map_or(reference, String::as_str);
        match self.content.manifests.get(digest) {
            Some((media_type, bytes)) => VendorReply::new(200, media_type, bytes.clone())
                .with("Docker-Content-Digest", digest),
            None => VendorReply::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn blob(&self, digest: &str) -> VendorReply {
        let Some(bytes) = self.content.blobs.get(digest) else {
            return VendorReply::error(404, "BLOB_UNKNOWN");
        };
        match self.traits.blobs {
            BlobHabit::Storage { status, head }
                if self.request.method == "GET" || head != HeadHabit::Answered =>
            {
                // By a name, because clients refuse to be sent to a literal loopback address.
                let storage = format!("http://localhost:{}", self.storage);
                let location = format!("{storage}/{digest}?X-Amz-Signature=canary&Expires=1");
                VendorReply::redirect(status, &location)
            }
            _ => bytes_of(bytes, self.request).with("Docker-Content-Digest", digest),
        }
    }

    fn referrers(&self, digest: &str) -> VendorReply {
        match self.traits.referrers {
            ReferrersHabit::Served => {
                let none = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
                let is_of_image = digest == self.content.image;
                let list = is_of_image.then(|| self.content.referrers.clone());
                VendorReply::new(200, INDEX, list.unwrap_or_else(|| none.to_string().into()))
            }
            ReferrersHabit::NoSuchPath => {
                VendorReply::new(404, "text/plain; charset=utf-8", "404 page not found\n")
            }
            ReferrersHabit::NotFound => VendorReply::error(404, "NOT_FOUND"),
            ReferrersHabit::Elsewhere => {
                let page = format!("http://localhost:{}/-/v2/packages", self.storage);
                VendorReply::redirect(303, &page)
            }
        }
    }
}

/// The storage's answer: a blob to a signed URL alone, and a page of limits to all else.
fn storage(traits: &VendorTraits, content: &VendorContent, request: &VendorRequest) -> VendorReply {
    let Some(bytes) = content.blobs.get(&request.path[1..]) else {
        return VendorReply::new(429, "text/html", "<html>Too many requests</html>\n");
    };
    let refuses_head = matches!(traits.blobs, BlobHabit::Storage { head: HeadHabit::Refused, .. });
    let text = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
    if request.header("authorization").is_some() {
        VendorReply::new(400, "application/xml", text)
    } else if request.method == "HEAD" && refuses_head {
        VendorReply::new(403, "application/xml", text)
    } else {
        bytes_of(bytes, request)
    }
}

/// All of it, or the one range of `Range`.
fn bytes_of(bytes: &[u8], request: &VendorRequest) -> VendorReply {
    let whole = |bytes: &[u8]| {
        let reply = VendorReply::new(200, "application/octet-stream", bytes);
        reply.with("Accept-Ranges", "bytes")
    };
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return whole(bytes);
    };
    let Ok(first) = first.parse::<usize>() else { return whole(bytes) };
    let end = last.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
    if first >= end {
        let size = format!("bytes */{}", bytes.len());
        return VendorReply::error(416, "RANGE_INVALID").with("Content-Range", size);
    }
    let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
    let reply = whole(&bytes[first..end]).with("Content-Range", range);
    VendorReply { status: 206, ..reply }
}

/// The header of Basic authentication.
fn basic(login: &Login) -> String {
    format!("Basic {}", STANDARD.encode(login.to_string()))
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
