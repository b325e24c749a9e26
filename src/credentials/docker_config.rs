//! The `config.json` of Docker and the `auth.json` of podman as a source of credentials
//! (docker/cli, `configfile`; containers-auth.json(5)).
//!
//! The file is read again after a minute, so that `docker login` takes no restart. An entry may
//! be for a registry, or for repositories below a path; the longest that fits counts. Where
//! entries are is decided here, and how a helper is run in `docker_helper.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

use super::docker_helper::HelperName;
use super::environment::CredentialEnvironment;
use super::error::CredentialError;
use super::fetch_cache::{FetchCache, FetchNeed};
use super::issued::{IssuedCredential, IssuedSecret};
use super::source::{CredentialSource, PendingCredential};

/// The longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The life of an entry, of which four fifths pass before the file is read again.
const ENTRY_LIFE: Duration = Duration::from_secs(75);

/// For how long the answer of a helper that a file names is used.
const HELPER_LIFE: Duration = Duration::from_secs(10 * 60);

/// The hosts by which Docker Hub is known, and the key that `docker login` writes for it.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// `type = "docker-config"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfigOptions {
    /// The file; `None` for those that docker and podman would read.
    pub file: Option<PathBuf>,
    /// The variables that say which those are.
    pub environment: CredentialEnvironment,
}

/// Files of docker and podman as the source of an upstream's credential.
pub(super) struct DockerConfigSource {
    options: DockerConfigOptions,
    /// The upstream's host, and its port if the URL has one.
    host: String,
    of_helpers: FetchCache<IssuedCredential, CredentialError>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, AuthEntry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    identitytoken: String,
    registrytoken: String,
    username: String,
    password: String,
}

/// Where the credential of a repository is.
enum EntryPlace<'c> {
    Entry(&'c str, &'c AuthEntry),
    /// A helper, and the server that it is asked for.
    Helper(&'c str, String),
}

impl DockerConfigSource {
    pub(super) fn new(options: DockerConfigOptions, host: String) -> Self {
        Self { options, host, of_helpers: FetchCache::default() }
    }

    async fn find(&self, repository: Option<&str>) -> Result<IssuedCredential, CredentialError> {
        for (origin, text) in self.texts().await? {
            let config = parse(&text).map_err(|fault| {
                CredentialError::new(format!("{origin} is not a configuration of docker: {fault}"))
            })?;
            let Some(place) = place_of(&config, &self.host, repository) else { continue };
            let secret = match place {
                EntryPlace::Entry(key, entry) => read_entry(entry).map_err(|fault| {
                    CredentialError::new(format!("{origin}, entry `{key}`: {fault}"))
                })?,
                EntryPlace::Helper(name, server) => {
                    let issued = self.ask_helper(&origin, name, server).await?;
                    if !matches!(issued.secret(), IssuedSecret::Nothing) {
                        return Ok(issued);
                    }
                    match entry_of(&config, &self.host, repository) {
                        Some((_, entry)) => read_entry(entry).map_err(CredentialError::new)?,
                        None => continue,
                    }
                }
            };
            return Ok(IssuedCredential::new(secret, ENTRY_LIFE));
        }
        Ok(IssuedCredential::new(IssuedSecret::Nothing, ENTRY_LIFE))
    }

    /// The helper's answer, which many repositories share.
    async fn ask_helper(
        &self,
        origin: &str,
        name: &str,
        server: String,
    ) -> Result<IssuedCredential, CredentialError> {
        let helper: HelperName = name.parse().map_err(|fault| {
            CredentialError::new(format!("{origin} names a helper that cannot be one: {fault}"))
        })?;
        let key = format!("{name} {server}");
        let fetch =
            || async move { Ok(IssuedCredential::new(helper.get(&server).await?, HELPER_LIFE)) };
        let obtained = self.of_helpers.obtain(&key, FetchNeed::default(), fetch).await;
        let lost = || Err(CredentialError::new("the task that ran the helper was lost"));
        obtained.unwrap_or_else(lost).map(|(issued, _)| issued)
    }

    /// The configurations that are there, in the order in which they are looked at.
    async fn texts(&self) -> Result<Vec<(String, Vec<u8>)>, CredentialError> {
        let environment = &self.options.environment;
        if let Some(file) = &self.options.file {
            let text = read(file).await?.ok_or_else(|| {
                CredentialError::new(format!("{} does not exist", file.display()))
            })?;
            return Ok(vec![(file.display().to_string(), text)]);
        }
        let mut texts = Vec::new();
        if let Some(text) = environment.text("DOCKER_AUTH_CONFIG") {
            texts.push(("DOCKER_AUTH_CONFIG".to_owned(), text.as_bytes().to_vec()));
        }
        for file in usual_files(environment) {
            if let Some(text) = read(&file).await? {
                texts.push((file.display().to_string(), text));
            }
        }
        Ok(texts)
    }
}

impl CredentialSource for DockerConfigSource {
    fn kind(&self) -> &'static str {
        "docker-config"
    }

    /// Entries may be for repositories below a path.
    fn key(&self, repository: Option<&str>) -> String {
        repository.unwrap_or_default().to_owned()
    }

    fn fetch(self: Arc<Self>, repository: Option<String>) -> PendingCredential {
        Box::pin(async move { self.find(repository.as_deref()).await })
    }
}

/// Shows nothing of the text but where its fault is.
fn parse(text: &[u8]) -> Result<DockerConfig, String> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no JSON object".to_owned());
    }
    let fault = |error: serde_json::Error| {
        format!("JSON fault at line {}, column {}", error.line(), error.column())
    };
    serde_json::from_slice(text).map_err(fault)
}

/// The files of docker and podman, the more particular first.
fn usual_files(environment: &CredentialEnvironment) -> Vec<PathBuf> {
    let home = |below: &str| environment.path("HOME").map(|home| home.join(below));
    let docker = environment.path("DOCKER_CONFIG").or_else(|| home(".docker"));
    let config = environment.path("XDG_CONFIG_HOME").or_else(|| home(".config"));
    let runtime = environment.path("XDG_RUNTIME_DIR");
    [
        environment.path("REGISTRY_AUTH_FILE"),
        docker.map(|dir| dir.join("config.json")),
        runtime.map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The content of a file; `None` if there is none.
async fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialError> {
    let cannot = |fault: String| CredentialError::new(format!("{}: {fault}", path.display()));
    match super::file::read(path, FILE_LEN_MAX).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(error.to_string())),
    }
}

/// Where `config` has the credential of `repository` at `host`. A helper of a registry goes before
/// its entry, and the helper of all registries, too, as docker looks at them.
fn place_of<'c>(
    config: &'c DockerConfig,
    host: &str,
    repository: Option<&str>,
) -> Option<EntryPlace<'c>> {
    let names = names_of(host);
    let helper =
        config.cred_helpers.iter().find(|(key, _)| names.iter().any(|name| same_host(key, name)));
    if let Some((key, helper)) = helper {
        return Some(EntryPlace::Helper(helper, key.clone()));
    }
    if let Some(helper) = config.creds_store.as_deref().filter(|helper| !helper.is_empty()) {
        let server = if names.len() > 1 { HUB_KEY } else { host };
        return Some(EntryPlace::Helper(helper, server.to_owned()));
    }
    entry_of(config, host, repository).map(|(key, entry)| EntryPlace::Entry(key, entry))
}

/// The entry with the longest key that fits.
fn entry_of<'c>(
    config: &'c DockerConfig,
    host: &str,
    repository: Option<&str>,
) -> Option<(&'c str, &'c AuthEntry)> {
    let names = names_of(host);
    let fits = |key: &str| {
        let key = bare(key);
        names.iter().any(|name| match key.strip_prefix(name.as_str()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('/').is_some_and(|path| is_above(path, repository)),
            None => false,
        })
    };
    let entries = config.auths.iter().filter(|(key, entry)| !entry.is_empty() && fits(key));
    let longest = entries.max_by_key(|(key, _)| bare(key).len());
    longest.map(|(key, entry)| (key.as_str(), entry))
}

/// Whether `path` is `repository`, or above it.
fn is_above(path: &str, repository: Option<&str>) -> bool {
    let rest = repository.and_then(|repository| repository.strip_prefix(path));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The names under which the registry at `host` may be in a file.
fn names_of(host: &str) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    if HUB_HOSTS.contains(&host.as_str()) {
        return HUB_HOSTS.map(str::to_owned).to_vec();
    }
    vec![host]
}

/// A key without its scheme and the path of an API. Old clients wrote both.
fn bare(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let key = key.trim_end_matches('/');
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = host.to_ascii_lowercase();
    if matches!(path, "" | "v1" | "v2") { host } else { format!("{host}/{path}") }
}

fn same_host(key: &str, name: &str) -> bool {
    bare(key) == name
}

impl AuthEntry {
    /// Whether it says nothing: `docker login` with a helper leaves such entries.
    fn is_empty(&self) -> bool {
        let Self { auth, identitytoken, registrytoken, username, password } = self;
        [auth, identitytoken, registrytoken, username, password].iter().all(|text| text.is_empty())
    }
}

/// The credential in an entry; an identity token goes before a password.
fn read_entry(entry: &AuthEntry) -> Result<IssuedSecret, &'static str> {
    if !entry.identitytoken.is_empty() {
        return Ok(IssuedSecret::IdentityToken(SecretString::from(entry.identitytoken.as_str())));
    }
    if !entry.auth.is_empty() {
        let pair = STANDARD.decode(entry.auth.trim()).map_err(|_| "its `auth` is not base64")?;
        let pair = String::from_utf8(pair).map_err(|_| "its `auth` is not UTF-8")?;
        let (username, password) = pair.split_once(':').ok_or("its `auth` has no colon")?;
        return Ok(password_of(username, password.trim_end_matches('\0')));
    }
    if entry.username.is_empty() {
        return Err("it has no user name, and a `registrytoken` cannot be used");
    }
    Ok(password_of(&entry.username, &entry.password))
}

fn password_of(username: &str, password: &str) -> IssuedSecret {
    IssuedSecret::Password { username: username.to_owned(), password: SecretString::from(password) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    /// The credential that a file with this text has for a repository, as `user:password`,
    /// `token` or the error.
    async fn found(text: &str, host: &str, repository: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        let environment = CredentialEnvironment::default();
        let options = DockerConfigOptions { file: Some(file), environment };
        let source = Arc::new(DockerConfigSource::new(options, host.to_owned()));
        match source.fetch(repository.map(str::to_owned)).await {
            Ok(issued) => match issued.secret() {
                IssuedSecret::Nothing => "nothing".to_owned(),
                IssuedSecret::Password { username, password } => {
                    format!("{username}:{}", password.expose_secret())
                }
                IssuedSecret::IdentityToken(token) => format!("token {}", token.expose_secret()),
            },
            Err(error) => error.to_string().replace(dir.path().to_str().unwrap(), "DIR"),
        }
    }

    fn auth(pair: &str) -> String {
        format!(r#"{{ "auth": "{}" }}"#, STANDARD.encode(pair))
    }

    #[tokio::test]
    async fn the_longest_key_that_fits_counts() {
        let text = format!(
            r#"{{ "auths": {{ "quay.io": {}, "quay.io/org": {}, "quay.io/org/team": {},
               "https://index.docker.io/v1/": {}, "Reg.Test:5000": {} }} }}"#,
            auth("host:1"),
            auth("org:2"),
            auth("team:3"),
            auth("hub:4"),
            auth("port:5")
        );
        for (host, repository, want) in [
            ("quay.io", None, "host:1"),
            ("quay.io", Some("other/app"), "host:1"),
            ("quay.io", Some("org"), "org:2"),
            ("quay.io", Some("org/app"), "org:2"),
            ("quay.io", Some("organisation/app"), "host:1"),
            ("quay.io", Some("org/team/app"), "team:3"),
            ("registry-1.docker.io", Some("library/alpine"), "hub:4"),
            ("docker.io", None, "hub:4"),
            ("reg.test:5000", Some("a"), "port:5"),
            ("reg.test", Some("a"), "nothing"),
            ("evil.quay.io", Some("org/app"), "nothing"),
            ("quay.io.evil.test", None, "nothing"),
        ] {
            assert_eq!(found(&text, host, repository).await, want, "{host} {repository:?}");
        }
    }

    #[tokio::test]
    async fn every_form_of_an_entry_is_read() {
        for (entry, want) in [
            (r#"{ "username": "u", "password": "p:q" }"#.to_owned(), "u:p:q"),
            (auth("u:p:q"), "u:p:q"),
            (auth("u:p\0\0"), "u:p"),
            (r#"{ "identitytoken": "t" }"#.to_owned(), "token t"),
            (r#"{ "auth": "dTpw", "identitytoken": "t" }"#.to_owned(), "token t"),
            ("{}".to_owned(), "nothing"),
            (
                r#"{ "auth": "***" }"#.to_owned(),
                "DIR/config.json, entry `r.test`: its `auth` is not base64",
            ),
            (auth("u"), "DIR/config.json, entry `r.test`: its `auth` has no colon"),
            (
                r#"{ "registrytoken": "t" }"#.to_owned(),
                "DIR/config.json, entry `r.test`: it has no user name, and a `registrytoken` \
                 cannot be used",
            ),
        ] {
            let text = format!(r#"{{ "auths": {{ "r.test": {entry} }} }}"#);
            assert_eq!(found(&text, "r.test", None).await, want, "{entry}");
        }
    }

    #[tokio::test]
    async fn a_text_that_is_no_configuration_is_refused_without_showing_it() {
        for text in ["", "[]", "hunter2", &"[".repeat(100_000), r#"{ "auths": "hunter2" }"#] {
            let got = found(text, "r.test", None).await;
            assert!(got.starts_with("DIR/config.json is not a configuration of docker"), "{got}");
            assert!(!got.contains("hunter2"), "{got}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_long_or_that_any_user_could_have_written_is_not_read() {
        let long = format!(r#"{{ "auths": {{ }} {} }}"#, " ".repeat(10 << 20));
        let got = found(&long, "r.test", None).await;
        assert_eq!(got, "DIR/config.json: it is longer than 1048576 bytes");

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, "{}").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = read(&file).await.unwrap_err().to_string();
        assert!(error.ends_with("every user of this machine can write it"), "{error}");
        let error = read(dir.path()).await.unwrap_err().to_string();
        assert!(error.ends_with("it is not a file"), "{error}");
    }

    #[tokio::test]
    async fn a_helper_whose_name_could_mean_something_to_a_shell_is_not_run() {
        for name in ["../../bin/sh", "x; rm -rf ~", "", "-x", "a b", "a/b", ".hidden", "$(id)"] {
            let helpers = format!(r#"{{ "credHelpers": {{ "r.test": "{name}" }} }}"#);
            let got = found(&helpers, "r.test", None).await;
            assert!(got.contains("names a helper that cannot be one"), "{name}: {got}");
        }
        let store = found(r#"{ "credsStore": "../sh" }"#, "r.test", None).await;
        assert!(store.contains("names a helper that cannot be one"), "{store}");
        let unknown = found(r#"{ "credsStore": "nobody-has-this" }"#, "r.test", None).await;
        assert!(unknown.contains("cannot run `docker-credential-nobody-has-this`"), "{unknown}");
    }
}
