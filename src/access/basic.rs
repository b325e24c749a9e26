//! What a client presents: reads `Authorization` (RFC 7617), and nothing else.
//!
//! There is one reader of this header, so that no two parts of Larder can see two users in it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

/// A user and password, as a client wrote them.
#[derive(Debug)]
pub(super) struct BasicCredential {
    pub(super) username: String,
    pub(super) password: SecretString,
}

/// What is wrong with the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadBasic {
    /// It is not what we challenge for, or not what it says it is.
    Unreadable,
    /// It stands there more than once.
    Twice,
}

impl BasicCredential {
    /// Reads it; `None` if there is none.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, BadBasic> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(BadBasic::Twice);
        }
        parse(line.as_bytes()).map(Some).ok_or(BadBasic::Unreadable)
    }
}

fn parse(line: &[u8]) -> Option<BasicCredential> {
    let (scheme, rest) = line.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || line.len() > LINE_LEN_MAX {
        return None;
    }
    let decoded = BASE64.decode(rest.trim_ascii_start()).ok()?;
    // From here on the secret has a type that wipes it.
    let pair = match String::from_utf8(decoded) {
        Ok(pair) => SecretString::from(pair),
        Err(error) => {
            drop(secrecy::SecretSlice::from(error.into_bytes()));
            return None;
        }
    };
    let (username, password) = secrecy::ExposeSecret::expose_secret(&pair).split_once(':')?;
    // A NUL ends a password for some who hash it and not for others.
    let is_bad = username.is_empty()
        || username.len() > USERNAME_LEN_MAX
        || username.contains(char::is_control)
        || password.contains('\0');
    (!is_bad).then(|| BasicCredential { username: username.to_owned(), password: password.into() })
}

const SCHEME: &[u8] = b"Basic ";

/// Tokens of cloud registries, which are presented as passwords, take up to 4 KiB.
const LINE_LEN_MAX: usize = 16 << 10;

const USERNAME_LEN_MAX: usize = 256;

/// Some clients leave the padding out.
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

    fn read(lines: &[&str]) -> Result<Option<(String, String)>, BadBasic> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let read = BasicCredential::read(&headers)?;
        Ok(read.map(|it| (it.username, it.password.expose_secret().to_owned())))
    }

    fn pair(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_pair_is_read_whole_and_the_first_colon_ends_the_user() {
        let some = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[&pair("me:pw")]), some("me", "pw"));
        assert_eq!(read(&[&pair("me:p:w:")]), some("me", "p:w:"));
        assert_eq!(read(&[&pair("me:")]), some("me", ""));
        assert_eq!(read(&[&pair("zoë:pässword")]), some("zoë", "pässword"));
        assert_eq!(read(&["bAsIc  bWU6cHc="]), some("me", "pw"));
        assert_eq!(read(&["Basic bWU6cHc"]), some("me", "pw"), "without padding");
    }

    /// Each of these let somebody in somewhere.
    #[test]
    fn what_can_be_read_two_ways_or_not_at_all_is_nobody() {
        let (one, long) = (pair("me:pw"), pair(format!("me:{}", "p".repeat(20_000))));
        let user = pair(format!("{}:pw", "u".repeat(257)));
        assert_eq!(read(&[&one, &one]), Err(BadBasic::Twice));
        assert_eq!(read(&[&one, "Bearer x"]), Err(BadBasic::Twice));
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
            assert_eq!(read(&[bad]), Err(BadBasic::Unreadable), "{bad:.40}");
        }
    }
}
