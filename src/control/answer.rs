//! The answers: JSON objects, and why there is none.

use std::fmt;
use std::io;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::http::ReplyBody;
use crate::inventory::PinError;

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ControlFailure {
    /// The reason, for people.
    pub error: String,
    /// Advice, if there is any.
    pub hint: Option<String>,
}

impl ControlFailure {
    /// The text is no name of an image.
    pub fn bad_name(text: &str) -> Self {
        Self {
            error: format!("`{}` is not the name of an image", text.escape_debug()),
            hint: Some("write `alpine:3.20`, `ghcr.io/owner/app:v1` or `name@sha256:…`".to_owned()),
        }
    }

    /// There is no such image or content in the cache.
    pub fn not_cached(name: &impl fmt::Display) -> Self {
        let name = name.to_string();
        let repository = name.split(['@', ':']).next().filter(|part| part.contains('/'));
        let hint = repository.map(|part| format!("`larder ls {part}` lists what is"));
        Self { error: format!("{name} is not in the cache"), hint }
    }

    /// The files could not be read.
    pub(super) fn of_files(error: &io::Error) -> Self {
        Self { error: format!("cannot read the cache: {error}"), hint: None }
    }

    /// The image is not pinned.
    pub fn not_pinned(error: &PinError) -> Self {
        let hint = Some("raise `max_size`, or `larder unpin` another image".to_owned());
        Self { error: error.to_string(), hint }
    }

    /// The image is not one that Larder fetches for no client.
    pub(super) fn not_warmed(name: &impl fmt::Display) -> Self {
        let hint = "the registry is not configured, `offline`, or asked with clients' own \
                    credentials, or leaves out the repository";
        Self { error: format!("{name} is not fetched here"), hint: Some(hint.to_owned()) }
    }

    /// The text is no pattern of images.
    pub fn bad_pattern(text: &str) -> Self {
        Self {
            error: format!("`{}` is not a pattern", text.escape_debug()),
            hint: Some("`*` and `?` match within a component, `**` any number of them".to_owned()),
        }
    }
}

/// An object as the body of an answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<ReplyBody> {
    // Structs of strings, numbers and lists of such always serialise.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    let mut response = Response::new(ReplyBody::full(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
