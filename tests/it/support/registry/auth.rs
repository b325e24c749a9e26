//! Who may ask, and the token server that says so.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use super::answer::Answer;
use super::asked::Asked;

/// What a registry wants from those who ask.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// A user and a password with every request.
    Basic { username: String, password: String },
    /// A token.
    Bearer(Bearer),
    /// Nothing.
    #[default]
    Open,
}

/// Where tokens come from, and for whom.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The token server's URL; `/token` at any host of the registry is one.
    pub realm: String,
    /// Who gets a token; `None` is everybody.
    pub account: Option<(String, String)>,
    /// How long a token is good, in seconds.
    pub expires_in: u64,
}

impl Auth {
    pub fn basic(username: &str, password: &str) -> Self {
        Self::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    /// Tokens for everybody.
    pub fn tokens(realm: &str) -> Self {
        Self::Bearer(Bearer { realm: realm.to_owned(), account: None, expires_in: 300 })
    }

    /// Tokens for one account.
    pub fn tokens_for(realm: &str, username: &str, password: &str) -> Self {
        let account = Some((username.to_owned(), password.to_owned()));
        Self::Bearer(Bearer { realm: realm.to_owned(), account, expires_in: 300 })
    }
}

/// The guard at the door: the rule, and the tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) auth: Auth,
    tokens: HashMap<String, Token>,
    issued: usize,
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    expires: Instant,
}

impl Guard {
    /// Forgets every token given out.
    pub(super) fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// `None` for a request that may pass, else its 401.
    pub(super) fn refusal(&self, asked: &Asked, repository: Option<&str>) -> Option<Answer> {
        let given = asked.header("authorization");
        match &self.auth {
            Auth::Open => None,
            Auth::Basic { username, password } => {
                let wanted = basic(username, password);
                (given != Some(wanted.as_str()))
                    .then(|| unauthorized(r#"Basic realm="scripted""#.to_owned()))
            }
            Auth::Bearer(bearer) => {
                let token = given.and_then(|text| text.strip_prefix("Bearer "));
                let token = token.and_then(|token| self.tokens.get(token));
                let actions = match asked.method.as_str() {
                    "GET" | "HEAD" if !asked.path().contains("/blobs/uploads/") => "pull",
                    "DELETE" => "pull,push,delete",
                    _ => "pull,push",
                };
                let scope = repository.map(|name| format!("repository:{name}:{actions}"));
                let is_good = token.is_some_and(|token| {
                    let covers = |wanted: &String| token.scopes.iter().any(|it| grants(it, wanted));
                    token.expires > Instant::now() && scope.as_ref().is_none_or(covers)
                });
                (!is_good).then(|| unauthorized(challenge(bearer, scope.as_deref())))
            }
        }
    }

    /// The token server's answer.
    pub(super) fn issue(&mut self, asked: &Asked) -> Answer {
        let Auth::Bearer(bearer) = &self.auth else { return Answer::error(404, "NO_TOKENS_HERE") };
        if let Some((username, password)) = &bearer.account
            && asked.header("authorization") != Some(basic(username, password).as_str())
        {
            return Answer::error(401, "UNAUTHORIZED");
        }
        let scopes = asked.query("scope");
        if asked.method != "GET" || asked.query("service") != ["scripted"] {
            return Answer::error(400, "NOT_A_TOKEN_REQUEST");
        }
        self.issued += 1;
        let name = format!("token-{}", self.issued);
        let expires = Instant::now() + Duration::from_secs(bearer.expires_in);
        self.tokens.insert(name.clone(), Token { scopes, expires });
        Answer::json(200, &format!(r#"{{"token":"{name}","expires_in":{}}}"#, bearer.expires_in))
    }
}

/// Whether a token for `have` is good for `want`: every action of it, in the same repository.
fn grants(have: &str, want: &str) -> bool {
    let (Some((place, have)), Some((wanted, want))) =
        (have.rsplit_once(':'), want.rsplit_once(':'))
    else {
        return false;
    };
    place == wanted && want.split(',').all(|action| have.split(',').any(|it| it == action))
}

/// The header of Basic authentication.
pub fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn challenge(bearer: &Bearer, scope: Option<&str>) -> String {
    let scope = scope.map(|scope| format!(r#",scope="{scope}""#)).unwrap_or_default();
    format!(r#"Bearer realm="{}",service="scripted"{scope}"#, bearer.realm)
}

fn unauthorized(challenge: String) -> Answer {
    let mut answer = Answer::error(401, "UNAUTHORIZED");
    answer.header("WWW-Authenticate", challenge);
    answer
}
