//! JSON Web Tokens as stand-ins of clouds make them and look at them.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// A key of RSA.
pub struct TestKey {
    pub pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl TestKey {
    pub fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self { pkcs8: pkcs8.as_ref().to_vec(), public: public.as_ref().to_vec() }
    }

    /// The private key as PEM.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.pkcs8);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }

    /// Header and claims of a token that this key signed; `None` if it did not.
    pub fn verified(&self, token: &str) -> Option<(Value, Value)> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        let (header, claims) = (part(header)?, part(claims)?);
        let algorithm: &'static RsaParameters = match header["alg"].as_str()? {
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return None,
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(algorithm, &self.public);
        key.verify(signed.as_bytes(), &signature).ok()?;
        Some((header, claims))
    }
}

/// A token that a cloud issues, with no signature. `mark` makes it recognisable.
pub fn issued(claims: &str, mark: &str) -> String {
    format!("{}.{}.{mark}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
}
