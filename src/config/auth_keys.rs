//! The keys of `auth`: the types of credential, and what each needs.

use secrecy::SecretString;
use url::Url;

use super::reader::{KeyLocation, Located};
use super::table::table;
use super::values::{AuthKind, PositiveDuration};

table! {
    /// Larder's own credential for an upstream.
    struct AuthTable in "auth" as "`auth`" {
        /// The kind of credential.
        ///
        /// `"anonymous"`: none. `"basic"`: a user name and a password. `"docker-config"`: what
        /// `docker login` or `podman login` has stored. `"helper"`: a program called
        /// `docker-credential-…`. `"kubelet"`: an image credential provider of the kubelet.
        /// `"ecr"`: a password of Amazon ECR, from a credential of AWS.
        r#type: AuthKind, required;
        /// The user name, with `basic`.
        username: Located<String>;
        /// The password itself.
        password: Located<SecretString>;
        /// File with the password, of which one last newline (LF or CRLF) is ignored.
        ///
        /// Newlines before it are part of the password, as in the JSON keys of `_json_key`. It is
        /// read again when it changes.
        password_file: Located<String>;
        /// Environment variable with the password.
        password_env: Located<String>;
        /// With `docker-config`: the `config.json` of docker or the `auth.json` of podman.
        ///
        /// Without it, what `DOCKER_AUTH_CONFIG` holds and the files where docker and podman look.
        file: Located<String>;
        /// With `helper`: what follows `docker-credential-` in the name of the program.
        helper: Located<String>;
        /// With `helper`: for how long its answer is used.
        lifetime: Located<PositiveDuration> => "`\"10m\"`" | "10m";
        /// With `kubelet`: the program, by its absolute path, and its arguments.
        command: Located<Vec<String>>;
        /// With `ecr`: the region, for a registry whose host does not name one.
        region: Located<String>;
        /// With `ecr`: the profile of AWS to use, instead of all that the environment offers.
        profile: Located<String>;
        /// With `ecr`: the role to assume, as an ARN.
        role_arn: Located<String>;
        /// With `ecr`: the URL of the registry's service, if it has another one than AWS gives it.
        endpoint: Located<Url>;
        /// With `ecr`: the URL of the Security Token Service, if it has another one.
        sts_endpoint: Located<Url>;
    }
}

/// Where each key stands that is given, but for `type`.
pub(super) fn given_keys(auth: &AuthTable) -> Vec<(&'static str, &KeyLocation)> {
    // Destructured, so that a new key must be named here.
    let AuthTable {
        r#type: _,
        username,
        password,
        password_file,
        password_env,
        file,
        helper,
        lifetime,
        command,
        region,
        profile,
        role_arn,
        endpoint,
        sts_endpoint,
    } = auth;
    let texts = [
        ("username", username),
        ("password_file", password_file),
        ("password_env", password_env),
        ("file", file),
        ("helper", helper),
        ("region", region),
        ("profile", profile),
        ("role_arn", role_arn),
    ];
    let urls = [("endpoint", endpoint), ("sts_endpoint", sts_endpoint)];
    let mut given: Vec<_> =
        texts.into_iter().filter_map(|(key, value)| Some((key, &value.as_ref()?.at))).collect();
    given.extend(urls.into_iter().filter_map(|(key, value)| Some((key, &value.as_ref()?.at))));
    given.extend(password.as_ref().map(|value| ("password", &value.at)));
    given.extend(lifetime.as_ref().map(|value| ("lifetime", &value.at)));
    given.extend(command.as_ref().map(|value| ("command", &value.at)));
    given
}
