//! A token that a server issued: how long it is shown, and whether a refused one is replaced.
//!
//! The tokens at hand and the fetches under way are in `credentials::FetchCache`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::identity::sensitive;
use crate::credentials::{FetchCache, Perishable, unverified_claims};

/// The least life that a token must have left to be used.
const REST_MIN: Duration = Duration::from_secs(10);

/// For how long a token that the registry refuses is not replaced. Its clock may be behind that of
/// the token server, or it may not know the server's key yet.
const NOT_YET_VALID_MAX: Duration = Duration::from_secs(30);

/// The tokens at hand.
pub(super) type TokenCache = FetchCache<BearerToken, UpstreamError>;

/// A token that some server issued.
#[derive(Clone)]
pub(super) struct BearerToken(Arc<IssuedToken>);

struct IssuedToken {
    secret: SecretString,
    issued: Instant,
    usable_until: Instant,
    ends: Instant,
    /// Whether the registry has taken it.
    is_taken: AtomicBool,
}

impl BearerToken {
    /// A token received now, good for `life`.
    pub(super) fn new(secret: SecretString, life: Duration) -> Self {
        let rest = (life / 5).max(REST_MIN);
        let issued = Instant::now();
        Self(Arc::new(IssuedToken {
            secret,
            issued,
            usable_until: issued + life.saturating_sub(rest),
            ends: issued + life,
            is_taken: AtomicBool::new(false),
        }))
    }

    /// The registry took it.
    pub(super) fn note_taken(&self) {
        self.0.is_taken.store(true, Ordering::Relaxed);
    }

    /// Whether the registry has not taken it yet and still may: another one would be no better.
    pub(super) fn may_become_valid(&self) -> bool {
        !self.0.is_taken.load(Ordering::Relaxed) && self.0.issued.elapsed() < NOT_YET_VALID_MAX
    }

    /// Whether it says of itself that it does not allow `action` in `repository`. A token that says
    /// nothing in the form of distribution may allow anything.
    pub(super) fn lacks(&self, repository: &str, action: &str) -> bool {
        let claims = unverified_claims::<TokenClaims>(self.0.secret.expose_secret());
        claims.is_some_and(|claims| !claims.access.iter().any(|it| it.allows(repository, action)))
    }

    /// The value of the `Authorization` header, marked sensitive.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        sensitive("Bearer", &self.0.secret)
    }
}

/// The claims that count here (distribution, "Token Authentication Implementation"). They are not
/// verified: the server from which the token came could have refused it as well.
#[derive(Deserialize)]
struct TokenClaims {
    access: Vec<TokenAccess>,
}

/// The actions that a token allows on one thing.
#[derive(Deserialize)]
struct TokenAccess {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl TokenAccess {
    /// Whether it allows `action`, or may: a pattern is taken for one that fits.
    fn allows(&self, repository: &str, action: &str) -> bool {
        let is_there = self.name == repository || self.name.contains('*');
        let is_it = |it: &String| it == action || it == "*";
        self.kind.starts_with("repository") && is_there && self.actions.iter().any(is_it)
    }
}

impl Perishable for BearerToken {
    fn usable_until(&self) -> Instant {
        self.0.usable_until
    }

    fn ends(&self) -> Instant {
        self.0.ends
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::credentials::FetchNeed;

    fn token(life_secs: u64) -> BearerToken {
        BearerToken::new(SecretString::from("t"), Duration::from_secs(life_secs))
    }

    /// Anything else is the registry's to decide.
    #[test]
    fn a_token_lacks_only_what_it_says_that_it_lacks() {
        let token = |claims: &str| {
            let secret = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
            BearerToken::new(SecretString::from(secret), Duration::from_secs(300))
        };
        let access = |name: &str, actions: &str| {
            token(&format!(
                r#"{{"access":[{{"type":"repository","name":"{name}","actions":{actions}}}]}}"#
            ))
        };
        for (token, lacks) in [
            (access("o/a", r#"["pull","push"]"#), false),
            (access("o/a", r#"["*"]"#), false),
            (access("*", r#"["push"]"#), false),
            (access("o/a", r#"["pull"]"#), true),
            (access("o/b", r#"["pull","push"]"#), true),
            (token(r#"{"access":[]}"#), true),
            (token(r#"{"access":null}"#), false),
            (token(r#"{"access":[{"name":"o/a"}]}"#), false),
            (token("{}"), false),
            (token("[]"), false),
            (BearerToken::new(SecretString::from("opaque"), Duration::from_secs(300)), false),
            (BearerToken::new(SecretString::from("a.b.c"), Duration::from_secs(300)), false),
        ] {
            assert_eq!(token.lacks("o/a", "push"), lacks, "{}", token.0.secret.expose_secret());
        }
    }

    async fn is_fresh(tokens: &TokenCache, life_secs: u64) -> bool {
        let obtained =
            tokens.obtain("k", FetchNeed::default(), async move || Ok(token(life_secs))).await;
        obtained.unwrap().unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_replaced_when_a_fifth_of_its_life_is_left() {
        let tokens = TokenCache::default();
        assert!(is_fresh(&tokens, 300).await);
        tokio::time::advance(Duration::from_secs(239)).await;
        assert!(!is_fresh(&tokens, 300).await);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(is_fresh(&tokens, 300).await);
    }

    /// An upload cannot be sent again when its token ends in the middle of it.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_too_soon_for_its_use_is_replaced() {
        let tokens = TokenCache::default();
        let minute = Duration::from_secs(60);
        let is_fresh = async |life_secs, rest_min| {
            let need = FetchNeed { rest_min, since: None };
            let obtained = tokens.obtain("k", need, async move || Ok(token(life_secs))).await;
            obtained.unwrap().unwrap().1
        };
        assert!(is_fresh(200, minute).await);
        tokio::time::advance(Duration::from_secs(141)).await;
        assert!(!is_fresh(200, Duration::ZERO).await);
        assert!(is_fresh(60, minute).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_fresh(60, minute).await, "one of a minute is good for one request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_leader_strands_nobody() {
        let tokens = Arc::new(TokenCache::default());
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(token(300))
        };
        let leader = tokio::spawn({
            let tokens = Arc::clone(&tokens);
            async move { tokens.obtain("k", FetchNeed::default(), slow).await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        leader.abort();

        let follower = tokens
            .obtain("k", FetchNeed::default(), async || panic!("a fetch is under way already"))
            .await;

        assert!(follower.unwrap().unwrap().1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_or_broken_fetch_is_not_kept() {
        let tokens = TokenCache::default();
        let error = UpstreamError::NotFound { host: String::new(), said: None, is_proven: false };
        let failed = tokens.obtain("k", FetchNeed::default(), async move || Err(error)).await;
        assert!(failed.unwrap().is_err());
        let broken = tokens.obtain("k", FetchNeed::default(), async || panic!("on purpose")).await;
        assert!(broken.is_none());
        assert!(is_fresh(&tokens, 300).await);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_that_failed_is_discarded() {
        let tokens = TokenCache::default();
        assert!(is_fresh(&tokens, 300).await);
        tokens.discard("k", &token(300));
        assert!(!is_fresh(&tokens, 300).await);
        let held = tokens
            .obtain("k", FetchNeed::default(), async || Ok(token(300)))
            .await
            .unwrap()
            .unwrap()
            .0;
        tokens.discard("k", &held);
        assert!(is_fresh(&tokens, 300).await);
    }
}
