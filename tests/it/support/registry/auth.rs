//! Logins of a registry, and its token server.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::time::Instant;

use super::answer::Answer;
use super::asked::Asked;

/// The login that a registry wants.
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

/// The token server of a registry.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The token server's URL; `/token` at any host of the registry is one.
    pub realm: String,
    /// The account that gets a token; `None` is any.
    pub account: Option<(String, String)>,
    /// The users that get tokens, if not all get the same; no one else gets any.
    pub users: Vec<User>,
    /// The repositories that an anonymous token is good for, if there are users.
    pub public: Vec<String>,
    /// Whether who may nothing of what is asked for is refused a token, as GHCR does.
    pub is_strict: bool,
    /// Whether its tokens say what they are good for, as those of distribution do.
    pub says_access: bool,
    /// How long a token is good, in seconds.
    pub expires_in: u64,
}

/// A user with rights of its own.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub password: String,
    /// `<repository>:<actions>`; a repository that ends in `*` is all that begin so.
    pub may: Vec<String>,
}

impl User {
    pub fn new(name: &str, password: &str, may: &[&str]) -> Self {
        let may = may.iter().map(|right| (*right).to_owned()).collect();
        Self { name: name.to_owned(), password: password.to_owned(), may }
    }
}

impl Auth {
    pub fn basic(username: &str, password: &str) -> Self {
        Self::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    /// Tokens for everybody.
    pub fn tokens(realm: &str) -> Self {
        Self::bearer(realm, None, Vec::new())
    }

    /// Tokens for one account.
    pub fn tokens_for(realm: &str, username: &str, password: &str) -> Self {
        let account = Some((username.to_owned(), password.to_owned()));
        Self::bearer(realm, account, Vec::new())
    }

    /// Tokens for these, each for what they may.
    pub fn users(realm: &str, users: &[User]) -> Self {
        Self::bearer(realm, None, users.to_vec())
    }

    fn bearer(realm: &str, account: Option<(String, String)>, users: Vec<User>) -> Self {
        let (realm, public) = (realm.to_owned(), Vec::new());
        let (is_strict, says_access, expires_in) = (false, false, 300);
        Self::Bearer(Bearer { realm, account, users, public, is_strict, says_access, expires_in })
    }
}

/// The guard at the door: the rule, and the tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) auth: Auth,
    /// Whether requests without a credential are answered 404, not 401.
    pub(super) hides: bool,
    tokens: HashMap<String, Token>,
    /// The user that each was issued to.
    owners: HashMap<String, String>,
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
        if self.hides && given.is_none() && repository.is_some() {
            return Some(Answer::error(404, "NAME_UNKNOWN"));
        }
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
                // As distribution says which it is (RFC 6750, 3.1).
                let fault = match token {
                    None if given.is_none() => "",
                    Some(token) if token.expires > Instant::now() => "insufficient_scope",
                    _ => "invalid_token",
                };
                (!is_good).then(|| unauthorized(challenge(bearer, scope.as_deref(), fault)))
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
        let mut scopes = asked.query("scope");
        let owner = match bearer.owner(asked) {
            Ok(owner) => owner,
            Err(refused) => return *refused,
        };
        if !bearer.users.is_empty() {
            let may = owner.map_or(&bearer.public, |owner| &owner.may);
            let wanted = scopes.len();
            scopes = scopes.iter().filter_map(|scope| granted(may, scope)).collect();
            if bearer.is_strict && wanted > 0 && scopes.is_empty() {
                return Answer::error(403, "DENIED");
            }
        }
        if asked.method != "GET" || asked.query("service") != ["scripted"] {
            return Answer::error(400, "NOT_A_TOKEN_REQUEST");
        }
        self.issued += 1;
        let mut name = format!("canary-of-token-{}", self.issued);
        if bearer.says_access {
            name = format!("{name}.{}.signature", access_claim(&scopes));
        }
        let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.name.clone());
        self.owners.insert(name.clone(), owner);
        let expires = Instant::now() + Duration::from_secs(bearer.expires_in);
        self.tokens.insert(name.clone(), Token { scopes, expires });
        Answer::json(200, &format!(r#"{{"token":"{name}","expires_in":{}}}"#, bearer.expires_in))
    }
}

impl Guard {
    /// With whose credential something was asked; `None` for none.
    pub(super) fn asker(&self, asked: &Asked) -> Option<String> {
        let given = asked.header("authorization")?;
        if let Some(token) = given.strip_prefix("Bearer ") {
            return self.owners.get(token).cloned();
        }
        let Auth::Bearer(bearer) = &self.auth else { return Some(given.to_owned()) };
        let owner = bearer.users.iter().find(|user| basic(&user.name, &user.password) == given);
        Some(owner.map_or_else(|| given.to_owned(), |user| user.name.clone()))
    }
}

impl Bearer {
    /// The user that wants a token; `None` is an anonymous client.
    fn owner(&self, asked: &Asked) -> Result<Option<&User>, Box<Answer>> {
        let Some(given) = asked.header("authorization").filter(|_| !self.users.is_empty()) else {
            return Ok(None);
        };
        let user = self.users.iter().find(|user| basic(&user.name, &user.password) == given);
        let status = if self.is_strict { 403 } else { 401 };
        user.map(Some).ok_or_else(|| Box::new(Answer::error(status, "UNAUTHORIZED")))
    }
}

/// The part of a scope that a user may have, which the token server grants without a word about the
/// rest.
fn granted(may: &[String], scope: &str) -> Option<String> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let right = may.iter().find_map(|right| {
        let (place, rights) = right.rsplit_once(':').unwrap();
        let is_it = match place.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == place,
        };
        is_it.then_some(rights)
    })?;
    let actions = actions.split(',').filter(|action| right.split(',').any(|it| it == *action));
    let actions: Vec<_> = actions.collect();
    (!actions.is_empty()).then(|| format!("repository:{name}:{}", actions.join(",")))
}

/// The claims of a token (distribution, "Token Authentication Implementation").
fn access_claim(scopes: &[String]) -> String {
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| {
            let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
            let actions: Vec<_> = actions.split(',').collect();
            Some(serde_json::json!({ "type": "repository", "name": name, "actions": actions }))
        })
        .collect();
    URL_SAFE_NO_PAD.encode(serde_json::json!({ "access": access }).to_string())
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

fn challenge(bearer: &Bearer, scope: Option<&str>, fault: &str) -> String {
    let scope = scope.map(|scope| format!(r#",scope="{scope}""#)).unwrap_or_default();
    let error = if fault.is_empty() { String::new() } else { format!(r#",error="{fault}""#) };
    format!(r#"Bearer realm="{}",service="scripted"{scope}{error}"#, bearer.realm)
}

fn unauthorized(challenge: String) -> Answer {
    let mut answer = Answer::error(401, "UNAUTHORIZED");
    answer.header("WWW-Authenticate", challenge);
    answer
}
