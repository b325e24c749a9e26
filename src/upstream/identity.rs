//! A user and password, or a refresh token, as they go upstream.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// A user and password. Clones share them; printed by nothing, and wiped with the last clone.
#[derive(Clone)]
pub struct ClientCredential {
    shared: Arc<CredentialSecret>,
}

struct CredentialSecret {
    username: String,
    /// The text after `Basic `, or a refresh token.
    text: SecretString,
    kind: SecretKind,
    tag: Option<CredentialId>,
}

/// The use of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SecretKind {
    /// It goes to registries and token servers.
    Password,
    /// It goes to token servers alone.
    IdentityToken,
}

/// Tells the credentials of clients apart without giving them away: a hash that only this
/// process can compute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId([u8; 32]);

impl CredentialId {
    /// A tag of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// In hexadecimal digits, as part of keys.
impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// It gives nothing away, but is of no use to anybody either.
impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag")
    }
}

impl ClientCredential {
    /// The credential that a client presented.
    ///
    /// # Errors
    ///
    /// [`InvalidUsername`] if the user cannot be one.
    pub fn of_client(
        username: &str,
        password: &SecretString,
        tag: CredentialId,
    ) -> Result<Self, InvalidUsername> {
        Self::new(username, password, Some(tag))
    }

    /// Larder's own user and password.
    ///
    /// # Errors
    ///
    /// [`InvalidUsername`] if the user cannot be one.
    pub(super) fn of_larder(
        username: &str,
        password: &SecretString,
    ) -> Result<Self, InvalidUsername> {
        Self::new(username, password, None)
    }

    /// Larder's own refresh token, for token servers alone.
    pub(super) fn of_identity_token(token: &SecretString) -> Self {
        let shared = CredentialSecret {
            username: String::new(),
            text: token.clone(),
            kind: SecretKind::IdentityToken,
            tag: None,
        };
        Self { shared: Arc::new(shared) }
    }

    fn new(
        username: &str,
        password: &SecretString,
        tag: Option<CredentialId>,
    ) -> Result<Self, InvalidUsername> {
        // RFC 7617, 2: the first colon ends the user.
        if username.contains(|c: char| c == ':' || c.is_control()) {
            return Err(InvalidUsername);
        }
        let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
        let text = SecretString::from(STANDARD.encode(pair.expose_secret()));
        let username = username.to_owned();
        let shared = CredentialSecret { username, text, kind: SecretKind::Password, tag };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The user.
    pub fn username(&self) -> &str {
        &self.shared.username
    }

    /// Tells it apart from other clients' credentials; `None` for Larder's own.
    pub fn tag(&self) -> Option<CredentialId> {
        self.shared.tag
    }

    /// Its bytes.
    pub fn tag_bytes(&self) -> Option<&[u8]> {
        self.shared.tag.as_ref().map(|tag| &tag.0[..])
    }

    /// The value of `Authorization`, marked sensitive; `None` for a refresh token.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let is_password = self.shared.kind == SecretKind::Password;
        is_password.then(|| sensitive("Basic", &self.shared.text))?
    }

    /// The refresh token, if it is one.
    pub(super) fn identity_token(&self) -> Option<&SecretString> {
        (self.shared.kind == SecretKind::IdentityToken).then_some(&self.shared.text)
    }

    /// Whether both show the same to an upstream.
    pub(super) fn has_same_secret(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|it| it.shared.text.expose_secret());
        one == other
    }
}

impl fmt::Debug for ClientCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredential").finish_non_exhaustive()
    }
}

/// `<scheme> <secret>` as a header that is not to be shown.
pub(super) fn sensitive(scheme: &str, secret: &SecretString) -> Option<HeaderValue> {
    let text = SecretString::from(format!("{scheme} {}", secret.expose_secret()));
    let mut header = HeaderValue::from_str(text.expose_secret()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The user has a colon or a control character in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user has a `:` or a control character in it")]
pub struct InvalidUsername;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_shows_neither_user_nor_password() {
        let password = SecretString::from("pw");
        let identity =
            ClientCredential::of_client("me", &password, CredentialId::new([7; 32])).unwrap();
        assert_eq!(identity.header().unwrap(), "Basic bWU6cHc=");
        assert!(identity.header().unwrap().is_sensitive());
        assert_eq!(
            format!("{identity:?} {:?}", identity.header()),
            "ClientCredential { .. } Some(Sensitive)"
        );
        assert!(ClientCredential::of_client("a:b", &password, CredentialId::new([7; 32])).is_err());
    }
}
