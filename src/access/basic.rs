//! Reads `Authorization: Basic` (RFC 7617) of a request.
//!
//! This is the only reader of that header, so no two parts of Larder can see two users in it.
//! Whether the password is right is not decided here.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use super::AccessDenied;

/// A user and password, as a client sent them. Not verified.
#[derive(Debug)]
pub(super) struct BasicCredential {
    pub(super) username: String,
    pub(super) password: SecretString,
}

impl BasicCredential {
    /// Reads the header; `None` if the request has none, or one with an empty user and an empty
    /// password. podman, skopeo and CRI-O send that where `/v2/` challenges and they have no login.
    ///
    /// # Errors
    ///
    /// [`AccessDenied::DuplicateHeader`] if there is more than one, and
    /// [`AccessDenied::BadCredentials`] if it is not RFC 7617's, has a password without a user, or
    /// is longer than 16 KiB.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, AccessDenied> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(AccessDenied::DuplicateHeader);
        }
        let presented = parse(line.as_bytes()).ok_or(AccessDenied::BadCredentials)?;
        Ok((!presented.username.is_empty()).then_some(presented))
    }
}

fn parse(line: &[u8]) -> Option<BasicCredential> {
    let (scheme, rest) = line.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || line.len() > LINE_LEN_MAX {
        return None;
    }
    let decoded = BASE64.decode(rest.trim_ascii_start()).ok()?;
    // From here on the type of the secret wipes it when it is dropped.
    let pair = match String::from_utf8(decoded) {
        Ok(pair) => SecretString::from(pair),
        Err(error) => {
            drop(secrecy::SecretSlice::from(error.into_bytes()));
            return None;
        }
    };
    let (username, password) = secrecy::ExposeSecret::expose_secret(&pair).split_once(':')?;
    // Some hash libraries end a password at a NUL, and others do not.
    let is_bad = (username.is_empty() && !password.is_empty())
        || username.len() > USERNAME_LEN_MAX
        || username.contains(char::is_control)
        || password.contains('\0');
    (!is_bad).then(|| BasicCredential { username: username.to_owned(), password: password.into() })
}

const SCHEME: &[u8] = b"Basic ";

/// In bytes. Tokens of cloud registries, which clients send as passwords, take up to 4 KiB.
const LINE_LEN_MAX: usize = 16 << 10;

/// In bytes.
const USERNAME_LEN_MAX: usize = 256;

/// Some clients omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;
    use secrecy::ExposeSecret;

    use super::*;

    fn read(lines: &[&str]) -> Result<Option<(String, String)>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let read = BasicCredential::read(&headers).map_err(|denied| denied.to_string())?;
        Ok(read.map(|it| (it.username, it.password.expose_secret().to_owned())))
    }

    fn pair(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn the_first_colon_ends_the_user_and_the_rest_is_the_password() {
        let some = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[&pair("me:pw")]), some("me", "pw"));
        assert_eq!(read(&[&pair("me:p:w:")]), some("me", "p:w:"));
        assert_eq!(read(&[&pair("me:")]), some("me", ""));
        assert_eq!(read(&[&pair("zoë:pässword")]), some("zoë", "pässword"));
        assert_eq!(read(&["bAsIc  bWU6cHc="]), some("me", "pw"));
        assert_eq!(read(&["Basic bWU6cHc"]), some("me", "pw"), "without padding");
        for nothing in [&pair(":"), "basic  Og", "BASIC Og=="] {
            assert_eq!(read(&[nothing]), Ok(None), "{nothing}");
        }
    }

    /// Each of these headers let an attacker into some server.
    #[test]
    fn an_ambiguous_or_malformed_header_is_refused() {
        let (one, long) = (pair("me:pw"), pair(format!("me:{}", "p".repeat(20_000))));
        let user = pair(format!("{}:pw", "u".repeat(257)));
        assert_eq!(read(&[&one, &one]), Err(AccessDenied::DuplicateHeader.to_string()));
        assert_eq!(read(&[&one, "Bearer x"]), Err(AccessDenied::DuplicateHeader.to_string()));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basicx bWU6cHc=",
            "Bearer bWU6cHc=",
            "bWU6cHc=",
            "Basic bWU6cHc= x",
            "Basic bWU6cHc=,Basic bWU6cHc=",
            &pair("me"),
            &pair(":pw"),
            &pair(""),
            &pair("m\ne:pw"),
            &pair("m\0e:pw"),
            &pair("me:p\0w"),
            &pair([b'm', b'e', b':', 0xff]),
            &long,
            &user,
        ] {
            assert_eq!(read(&[bad]), Err(AccessDenied::BadCredentials.to_string()), "{bad:.40}");
        }
    }
}
