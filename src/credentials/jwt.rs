//! JSON Web Tokens (RFC 7519): signed ones that say who Larder is, and the claims of those that
//! clouds issue.
//!
//! No signature is verified here: a token of a cloud is for the cloud, and its claims only say when
//! it ends.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::CredentialError;
use crate::clock::unix_seconds;

/// The algorithm of a signature, by its name in the header (RFC 7518, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigningAlgorithm {
    Ps256,
    Rs256,
}

/// A private key of RSA.
pub(super) struct SigningKey {
    key: RsaKeyPair,
}

impl SigningKey {
    /// The key in a PEM, as PKCS #8 or PKCS #1.
    ///
    /// # Errors
    ///
    /// If there is none. The text shows nothing of it.
    pub(super) fn of_pem(pem: &[u8]) -> Result<Self, CredentialError> {
        let unusable = || CredentialError::new("there is no private key of RSA in it");
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())? {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(unusable()),
        };
        key.map(|key| Self { key }).map_err(|_| unusable())
    }

    /// A token with these claims, signed. `key_name` and `key_id` say in its header which key it
    /// is.
    ///
    /// # Errors
    ///
    /// If the key cannot sign.
    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        key_name: &str,
        key_id: &str,
        claims: &Value,
    ) -> Result<SecretString, CredentialError> {
        let (name, encoding): (_, &'static dyn RsaEncoding) = match algorithm {
            SigningAlgorithm::Ps256 => ("PS256", &RSA_PSS_SHA256),
            SigningAlgorithm::Rs256 => ("RS256", &RSA_PKCS1_SHA256),
        };
        let header = json!({ "alg": name, "typ": "JWT", key_name: key_id });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut text = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| CredentialError::new("its private key cannot sign"))?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(SecretString::from(text))
    }
}

/// The fingerprint of the certificate in a PEM, as a header has it (RFC 7515, 4.1.8).
///
/// # Errors
///
/// If there is none.
pub(super) fn certificate_print(pem: &[u8]) -> Result<String, CredentialError> {
    let certificate = CertificateDer::from_pem_slice(pem);
    let certificate = certificate.map_err(|_| CredentialError::new("it has no certificate"))?;
    Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &certificate)))
}

/// An id that no other token has.
///
/// # Errors
///
/// If the system has no random numbers.
pub(super) fn unique_id() -> Result<String, CredentialError> {
    let mut bytes = [0; 16];
    let failed = |_| CredentialError::new("the system has no random numbers");
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The times in a token that is signed now and good for `life`: not before, at, and not after.
pub(super) fn validity(now: SystemTime, life: Duration) -> [u64; 3] {
    let now = unix_seconds(now);
    [now, now, now.saturating_add(life.as_secs())]
}

/// The claims of a token, if they are of this form. Its signature is not verified.
pub fn unverified_claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let claims = token.split('.').nth(1)?.trim_end_matches('=');
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// The claims of a token, whose signature is not verified.
pub(super) struct UnverifiedClaims(Value);

impl UnverifiedClaims {
    /// Those of `token`; none if it is no JSON Web Token.
    pub(super) fn of(token: &str) -> Self {
        Self(unverified_claims(token).unwrap_or(Value::Null))
    }

    /// When it ends.
    pub(super) fn end(&self) -> Option<SystemTime> {
        let end = self.0.get("exp")?.as_u64()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))
    }

    /// A text among them.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_of_what_is_no_token_are_none() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let end = |text: &str| UnverifiedClaims::of(text).end();
        let at = |secs| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(end(&token(r#"{"exp":1000,"tid":"t"}"#)), at(1000));
        assert_eq!(UnverifiedClaims::of(&token(r#"{"tid":"t"}"#)).text("tid"), Some("t"));
        for odd in ["", "opaque", "a.b.c", &token("[]"), &token(r#"{"exp":-1}"#), &token("{")] {
            assert_eq!(end(odd), None, "{odd}");
        }
        assert_eq!(end(&token(r#"{"exp":18446744073709551615}"#)), None);
    }

    #[test]
    fn what_is_no_key_is_named_without_a_word_of_it() {
        for odd in ["", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"] {
            let error = SigningKey::of_pem(odd.as_bytes()).err().unwrap().to_string();
            assert_eq!(error, "there is no private key of RSA in it");
        }
    }
}
