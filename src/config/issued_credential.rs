//! `auth` of the types whose credential comes from something that issues it.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::auth_keys::AuthTable;
use super::diagnostics::ValueFault;
use super::reader::{KeyLocation, Located};
use super::resolver::Resolver;
use super::values::AuthKind;
use crate::credentials::{
    AcrOptions, AwsIdentity, CredentialOptions, DockerConfigOptions, EcrOptions, EntraIdentity,
    GoogleOptions, HelperOptions, KubeletOptions,
};

/// For how long the answer of a helper is used, unless the configuration says otherwise.
const HELPER_LIFE: Duration = Duration::from_secs(10 * 60);

/// The source that `auth` describes for the upstream at `url`; `None` if it was reported.
pub(super) fn issued(
    auth: AuthTable,
    url: &Url,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    match auth.r#type {
        AuthKind::Anonymous | AuthKind::Basic => None,
        AuthKind::Acr => acr(auth, resolver),
        AuthKind::DockerConfig => Some(docker_config(auth.file, resolver)),
        AuthKind::Ecr => ecr(auth, url, at, resolver),
        AuthKind::Google => Some(google(auth.file, resolver)),
        AuthKind::Helper => helper(auth, at, resolver),
        AuthKind::Kubelet => kubelet(auth.command, at, resolver),
    }
}

fn docker_config(file: Option<Located<String>>, resolver: &mut Resolver<'_>) -> CredentialOptions {
    let file = path(file, resolver);
    let environment = resolver.environment.of_credentials();
    CredentialOptions::DockerConfig(DockerConfigOptions { file, environment })
}

/// The path that is given, if any. A wrong one is reported.
fn path(file: Option<Located<String>>, resolver: &mut Resolver<'_>) -> Option<PathBuf> {
    let file = file?;
    let path = resolver.path(&file.value);
    resolver.accept(&file.at, path)
}

fn google(file: Option<Located<String>>, resolver: &mut Resolver<'_>) -> CredentialOptions {
    let file = path(file, resolver);
    let environment = resolver.environment.of_credentials();
    CredentialOptions::Google(GoogleOptions { file, environment })
}

fn acr(auth: AuthTable, resolver: &mut Resolver<'_>) -> Option<CredentialOptions> {
    if let (Some(_), Some(second)) = (&auth.client_secret_file, &auth.client_certificate) {
        let fault = ValueFault::new("a secret and a certificate are given");
        return resolver.accept(&second.at, Err(fault.hint("keep one of them")));
    }
    let text = |value: Option<Located<String>>| value.map(|value| value.value);
    let identity = EntraIdentity {
        tenant: text(auth.tenant),
        client_id: text(auth.client_id),
        secret_file: path(auth.client_secret_file, resolver),
        certificate_file: path(auth.client_certificate, resolver),
        environment: resolver.environment.of_credentials(),
    };
    let authority = auth.authority.map(|authority| authority.value);
    let options = AcrOptions { identity, authority, audience: text(auth.audience) };
    Some(CredentialOptions::Acr(Box::new(options)))
}

fn ecr(
    auth: AuthTable,
    url: &Url,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    let has_region = auth.region.is_some();
    let region = auth.region.and_then(|it| resolver.accept(&it.at, check_region(it.value)));
    let role_arn = auth.role_arn.and_then(|it| resolver.accept(&it.at, check_role(it.value)));
    let options = EcrOptions {
        region,
        identity: AwsIdentity {
            profile: auth.profile.map(|profile| profile.value),
            role_arn,
            environment: resolver.environment.of_credentials(),
        },
        endpoint: auth.endpoint.map(|endpoint| endpoint.value),
        sts_endpoint: auth.sts_endpoint.map(|endpoint| endpoint.value),
    };
    if !has_region && !options.has_region_of(url.host_str().unwrap_or_default()) {
        let fault = ValueFault::new("the host of this registry does not name a region of AWS");
        return resolver.accept(at, Err(fault.hint("give `region`")));
    }
    Some(CredentialOptions::Ecr(Box::new(options)))
}

fn check_region(text: String) -> Result<String, ValueFault> {
    if EcrOptions::is_region(&text) {
        return Ok(text);
    }
    Err(ValueFault::new("a region has lower-case letters, digits and `-`"))
}

fn check_role(text: String) -> Result<String, ValueFault> {
    if text.starts_with("arn:") && text.contains(":role/") {
        return Ok(text);
    }
    let fault = ValueFault::new("this is not the ARN of a role");
    Err(fault.hint("write it as `arn:aws:iam::123456789012:role/name`"))
}

fn helper(
    auth: AuthTable,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    let Some(helper) = auth.helper else {
        let fault = ValueFault::new("`auth` has no `helper`");
        let hint = "it is what follows `docker-credential-` in the name of the program";
        return resolver.accept(at, Err(fault.hint(hint)));
    };
    let name = helper.value.parse().map_err(|fault| ValueFault::new(format!("{fault}")));
    let name = resolver.accept(&helper.at, name)?;
    let lifetime = auth.lifetime.map_or(HELPER_LIFE, |lifetime| lifetime.value.0);
    Some(CredentialOptions::Helper(HelperOptions { name, lifetime }))
}

fn kubelet(
    command: Option<Located<Vec<String>>>,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    let Some(Located { value: command, at }) = command else {
        let fault = ValueFault::new("`auth` has no `command`");
        return resolver.accept(at, Err(fault.hint("give the path of the program in a list")));
    };
    let mut words = command.into_iter();
    let program = PathBuf::from(words.next().unwrap_or_default());
    if !program.is_absolute() {
        let fault = ValueFault::new("the program is not an absolute path");
        return resolver.accept(&at, Err(fault.hint("write it from `/` on")));
    }
    Some(CredentialOptions::Kubelet(KubeletOptions { program, arguments: words.collect() }))
}
