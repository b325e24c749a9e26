//! The keys of `auth`: the types of credential, and what each needs.

use secrecy::SecretString;
use serde_json::{Value, json};
use toml::de::DeValue;
use url::Url;

use super::diagnostics::ValueFault;
use super::reader::{FromToml, KeyLocation, Located, TomlValue};
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
        /// `"ecr"`: a password of Amazon ECR, from a credential of AWS. `"acr"`: a token of an
        /// Azure registry, from an identity of Entra. `"google"`: an access token of Google Cloud.
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
        /// With `docker-config`: the `config.json` of docker or the `auth.json` of podman. With
        /// `google`: a credentials file.
        ///
        /// Without it, what `DOCKER_AUTH_CONFIG` holds and the files where docker and podman look;
        /// or the file that `GOOGLE_APPLICATION_CREDENTIALS` names.
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
        /// With `acr`: the tenant of Entra, if `AZURE_TENANT_ID` does not say it.
        tenant: Located<String>;
        /// With `acr`: the application, or the managed identity, if `AZURE_CLIENT_ID` does not.
        client_id: Located<String>;
        /// With `acr`: the file with the secret of a service principal.
        client_secret_file: Located<String>;
        /// With `acr`: the PEM file with the certificate and the key of a service principal.
        client_certificate: Located<String>;
        /// With `acr`: the URL of Entra, for a cloud that the registry's host does not tell.
        authority: Located<Url>;
        /// With `acr`: the resource that tokens of Entra are for, if it is not that of the cloud.
        audience: Located<String>;
    }
}

/// The credentials for an upstream, at least one.
#[derive(Debug)]
pub(super) struct AuthList(pub Vec<Located<AuthTable>>);

/// The most logins of one upstream.
const LOGINS_MAX: usize = 8;

impl FromToml for AuthList {
    const EXPECTED: &'static str = "a table or a list of tables";
    const IS_TABLE: bool = true;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let Some(items) = value.get().as_array() else {
            value.expect::<Self, _>(DeValue::as_table)?;
            return Located::read(value).map(|auth| Self(vec![auth]));
        };
        if items.is_empty() {
            let fault = ValueFault::new("the list of logins is empty");
            value.report(fault.hint("leave the key out for none"));
        } else if items.len() > LOGINS_MAX {
            value.report(ValueFault::new(format!("there are more than {LOGINS_MAX} logins")));
        }
        Vec::read(value).map(Self)
    }

    fn schema() -> Value {
        json!({ "anyOf": [AuthTable::schema(), Vec::<AuthTable>::schema()] })
    }
}

/// Where each key stands that is given, but for `type`.
pub(super) fn given_keys(auth: &AuthTable) -> Vec<(&'static str, &KeyLocation)> {
    /// Destructures, so that a new key must be named here.
    macro_rules! places {
        ($($key:ident)*) => {{
            let AuthTable { r#type: _, $($key),* } = auth;
            [$((stringify!($key), $key.as_ref().map(|it| &it.at))),*]
        }};
    }
    let places = places!(
        username password password_file password_env file helper lifetime command
        region profile role_arn endpoint sts_endpoint
        tenant client_id client_secret_file client_certificate authority audience
    );
    places.into_iter().filter_map(|(key, at)| Some((key, at?))).collect()
}
