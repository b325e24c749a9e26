//! containerd: a `hosts.toml` for each registry, and the directory of them in `config.toml`.

use super::mirrors::MirrorTargets;
use super::plan::{ClientFileError, ExistingFiles, SetupPlan, WRITTEN_BY};
use super::toml_file;
use crate::oci::RegistryName;

pub(super) fn plan(
    targets: &MirrorTargets,
    files: &ExistingFiles<'_>,
) -> Result<SetupPlan, ClientFileError> {
    let config = files.plan("etc/containerd/config.toml", toml_file::containerd)?;
    let is_new = config.before.as_ref() != Some(&config.after);
    let mut planned = vec![config];
    for registry in &targets.registries {
        let path = format!("{HOSTS}/{}/hosts.toml", directory(registry));
        planned.push(files.plan(&path, |_| Ok(hosts(targets, registry)))?);
    }
    let next = if is_new {
        "restart containerd (`systemctl restart containerd`): it reads config.toml at its start"
    } else {
        "the next pull reads it; `ctr` wants `--hosts-dir /etc/containerd/certs.d`"
    };
    Ok(SetupPlan { files: planned, document: None, next: vec![next.to_owned()] })
}

/// The `hosts.toml` of a registry. Larder is its `server` too, so that nothing bypasses it, and the
/// registry is in the path, so that pushes reach it (`docs/clients.md`).
pub(super) fn hosts(targets: &MirrorTargets, registry: &RegistryName) -> String {
    let larder = &targets.larder;
    format!(
        "{WRITTEN_BY}server = \"{larder}/{registry}\"\n\n[host.\"{larder}/{registry}\"]\n\
         capabilities = [\"pull\", \"resolve\"]\n"
    )
}

/// The directory of a registry: containerd looks for `host_port_` before `host:port`.
pub(super) fn directory(registry: &RegistryName) -> String {
    match registry.as_str().rsplit_once(':') {
        Some((host, port)) => format!("{host}_{port}_"),
        None => registry.to_string(),
    }
}

/// The directory that `config_path` names, below the root.
pub(super) const HOSTS: &str = "etc/containerd/certs.d";
