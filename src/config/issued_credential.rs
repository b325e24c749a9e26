//! `auth` of the types whose credential comes from something that issues it.

use std::path::PathBuf;
use std::time::Duration;

use super::auth_keys::AuthTable;
use super::diagnostics::ValueFault;
use super::reader::{KeyLocation, Located};
use super::resolver::Resolver;
use super::values::AuthKind;
use crate::credentials::{CredentialOptions, DockerConfigOptions, HelperOptions, KubeletOptions};

/// For how long the answer of a helper is used, unless the configuration says otherwise.
const HELPER_LIFE: Duration = Duration::from_secs(10 * 60);

/// The source that `auth` describes; `None` if it was reported.
pub(super) fn issued(
    auth: AuthTable,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    match auth.r#type {
        AuthKind::Anonymous | AuthKind::Basic => None,
        AuthKind::DockerConfig => docker_config(auth.file, resolver),
        AuthKind::Helper => helper(auth, at, resolver),
        AuthKind::Kubelet => kubelet(auth.command, at, resolver),
    }
}

fn docker_config(
    file: Option<Located<String>>,
    resolver: &mut Resolver<'_>,
) -> Option<CredentialOptions> {
    let file = match file {
        None => None,
        Some(file) => {
            let path = resolver.path(&file.value);
            Some(resolver.accept(&file.at, path)?)
        }
    };
    let environment = resolver.environment.of_credentials();
    Some(CredentialOptions::DockerConfig(DockerConfigOptions { file, environment }))
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
