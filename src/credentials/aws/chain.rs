//! The credential of AWS that this machine has: the standard chain of its SDKs.
//!
//! Environment, web identity, profile (keys, IAM Identity Center, `credential_process`), container
//! credentials, instance metadata. The first source that is there decides: if it fails, the others
//! are not asked, or a role with other rights would be taken in silence.

use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential,
    ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider,
    ProcessCredentialProvider, ProfileCredentialProvider, RequestSigner, SSOCredentialProvider,
    StaticCredentialProvider,
};
use reqsign_core::{ProvideCredential, ProvideCredentialDyn, Signer};
use url::Url;

use super::super::cloud_client::is_loopback;
use super::super::environment::CredentialEnvironment;
use super::super::error::CredentialError;
use super::context::AwsContext;
use crate::http::HostPort;

/// Which credential of AWS is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsIdentity {
    /// The profile to use, instead of all that the environment offers.
    pub profile: Option<String>,
    /// The role that is assumed with it.
    pub role_arn: Option<String>,
    /// The variables that name the sources.
    pub environment: CredentialEnvironment,
}

/// The name of Larder's sessions in the logs of AWS.
const SESSION: &str = "larder";

/// The metadata of instances, and the credentials of containers in ECS and EKS.
const LOCAL_HOSTS: [&str; 5] =
    ["169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

type Provider = (&'static str, Box<dyn ProvideCredentialDyn<Credential = Credential>>);

/// The services of this machine that may be called, by the rules of the SDKs: the URL of container
/// credentials may lead to this machine, to the two addresses of ECS and EKS, and elsewhere over
/// TLS only.
pub(super) fn local_hosts(environment: &CredentialEnvironment) -> Vec<HostPort> {
    let mut hosts: Vec<HostPort> =
        LOCAL_HOSTS.iter().filter_map(|text| text.parse().ok()).collect();
    let host = |name| HostPort::of(&Url::parse(environment.text(name)?).ok()?);
    hosts.extend(host("AWS_EC2_METADATA_SERVICE_ENDPOINT"));
    let full = host("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    hosts.extend(full.filter(|full| is_loopback(&full.host)));
    hosts
}

/// The credential of AWS, after the role was assumed with it.
///
/// # Errors
///
/// If there is none, or its source fails.
pub(super) async fn obtain(
    context: &AwsContext,
    identity: &AwsIdentity,
    region: &str,
) -> Result<Credential, CredentialError> {
    let credential = walk(context, identity, region).await?;
    let Some(role) = &identity.role_arn else { return Ok(credential) };
    let given =
        StaticCredentialProvider::new(&credential.access_key_id, &credential.secret_access_key);
    let given = match &credential.session_token {
        Some(token) => given.with_session_token(token),
        None => given,
    };
    let signer = Signer::new(context.library(), given, RequestSigner::new("sts", region));
    let provider = AssumeRoleCredentialProvider::new(role.clone(), signer)
        .with_role_session_name(SESSION.to_owned())
        .with_region(region.to_owned())
        .with_regional_sts_endpoint();
    let assumed = provider.provide_credential(&context.library()).await;
    assumed.ok().flatten().ok_or_else(|| failed(context, "assuming `role_arn`"))
}

async fn walk(
    context: &AwsContext,
    identity: &AwsIdentity,
    region: &str,
) -> Result<Credential, CredentialError> {
    for (name, provider) in providers(identity, region) {
        context.take_fault();
        match provider.provide_credential_dyn(&context.library()).await {
            Ok(Some(credential)) => return Ok(credential),
            Ok(None) => {}
            Err(_) => return Err(failed(context, name)),
        }
    }
    let reason = match &identity.profile {
        Some(profile) => format!("the profile `{profile}` of AWS has no credential"),
        None => "no source has a credential of AWS".to_owned(),
    };
    Err(CredentialError::new(reason))
}

fn failed(context: &AwsContext, name: &str) -> CredentialError {
    let fault = context.take_fault().unwrap_or_else(|| "what it gives is unusable".to_owned());
    CredentialError::new(format!("{name}: {fault}"))
}

/// The sources in the order of the SDKs. A profile that is named is the only one.
fn providers(identity: &AwsIdentity, region: &str) -> Vec<Provider> {
    let mut keys = ProfileCredentialProvider::new();
    let mut sso = SSOCredentialProvider::new();
    let mut process = ProcessCredentialProvider::new();
    if let Some(profile) = &identity.profile {
        keys = keys.with_profile(profile);
        sso = sso.with_profile(profile);
        process = process.with_profile(profile);
    }
    let profile: [Provider; 3] = [
        ("the profile of AWS", Box::new(keys)),
        ("IAM Identity Center", Box::new(sso)),
        ("`credential_process`", Box::new(process)),
    ];
    if identity.profile.is_some() {
        return profile.into();
    }
    let web_identity = AssumeRoleWithWebIdentityCredentialProvider::new()
        .with_region(region.to_owned())
        .with_regional_sts_endpoint();
    let web_identity = match identity.environment.text("AWS_ROLE_SESSION_NAME") {
        Some(_) => web_identity,
        None => web_identity.with_role_session_name(SESSION.to_owned()),
    };
    let before: [Provider; 2] = [
        ("the environment", Box::new(EnvCredentialProvider::new())),
        ("web identity", Box::new(web_identity)),
    ];
    let after: [Provider; 2] = [
        ("container credentials", Box::new(ECSCredentialProvider::new())),
        ("instance metadata", Box::new(IMDSv2CredentialProvider::new())),
    ];
    before.into_iter().chain(profile).chain(after).collect()
}
