//! The clients that Larder knows, and the files of each.

use std::io;
use std::path::{Path, PathBuf};

use super::mirrors::{LarderAddress, MirrorTargets};
use super::plan::{ClientFileError, ExistingFiles, SetupPlan, WRITTEN_BY};
use super::{containerd, docker, kubernetes, toml_file};

/// A client that Larder knows how to set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProgram {
    /// buildkitd.
    Buildkit,
    /// containerd, with Kubernetes or alone.
    Containerd,
    /// CRI-O.
    CriO,
    /// dockerd.
    Docker,
    /// k3s; RKE2 reads the same file elsewhere.
    K3s,
    /// The containerd of every node, through a `DaemonSet`.
    Kubernetes,
    /// podman, buildah and skopeo.
    Podman,
}

/// The steps after which a client pulls `targets` through Larder. Files lie below `root`, and
/// are read by `read`.
///
/// # Errors
///
/// If a file that exists cannot be read, or cannot be changed without losing what it says.
pub fn plan(
    client: ClientProgram,
    targets: &MirrorTargets,
    root: &Path,
    read: &dyn Fn(&Path) -> io::Result<Option<String>>,
) -> Result<SetupPlan, ClientFileError> {
    let files = ExistingFiles { root, read };
    match client {
        ClientProgram::Buildkit => buildkit(targets, &files),
        ClientProgram::Containerd => containerd::plan(targets, &files),
        ClientProgram::CriO => containers(targets, &files, "run `systemctl reload crio`"),
        ClientProgram::Docker => docker::plan(targets, &files),
        ClientProgram::K3s => k3s(targets, &files),
        ClientProgram::Kubernetes => Ok(kubernetes::plan(targets)),
        ClientProgram::Podman => containers(targets, &files, "the next pull reads it"),
    }
}

/// The steps that undo those of a client that is set up by a document; `None` for one of files.
pub fn undo_plan(client: ClientProgram, targets: &MirrorTargets) -> Option<SetupPlan> {
    (client == ClientProgram::Kubernetes).then(|| kubernetes::undo(targets))
}

/// The directory below `root` in which a client has another one with a `hosts.toml` for each
/// registry.
pub fn hosts_directory(client: ClientProgram, root: &Path) -> Option<PathBuf> {
    match client {
        ClientProgram::Containerd => Some(root.join(containerd::HOSTS)),
        ClientProgram::Docker => Some(root.join(docker::HOSTS)),
        _ => None,
    }
}

fn buildkit(
    targets: &MirrorTargets,
    files: &ExistingFiles<'_>,
) -> Result<SetupPlan, ClientFileError> {
    let file =
        files.plan("etc/buildkit/buildkitd.toml", |text| toml_file::buildkitd(text, targets))?;
    let next = vec!["restart buildkitd".to_owned()];
    Ok(SetupPlan { files: vec![file], document: None, next })
}

/// For podman, buildah, skopeo and CRI-O, which all read containers-registries.conf.d(5).
fn containers(
    targets: &MirrorTargets,
    files: &ExistingFiles<'_>,
    next: &str,
) -> Result<SetupPlan, ClientFileError> {
    let LarderAddress { is_tls, authority } = &targets.larder;
    let insecure = if *is_tls { "" } else { "insecure = true\n" };
    let mirrors = targets.registries.iter().map(|registry| {
        format!(
            "\n[[registry]]\nlocation = \"{registry}\"\n\n[[registry.mirror]]\nlocation = \
             \"{authority}/{registry}\"\n{insecure}"
        )
    });
    let text = format!("{WRITTEN_BY}{}", mirrors.collect::<String>());
    let file = files.plan("etc/containers/registries.conf.d/larder.conf", |_| Ok(text))?;
    Ok(SetupPlan { files: vec![file], document: None, next: vec![next.to_owned()] })
}

/// A file that others may have written is YAML, whose comments and order a program would lose.
fn k3s(targets: &MirrorTargets, files: &ExistingFiles<'_>) -> Result<SetupPlan, ClientFileError> {
    let larder = &targets.larder;
    let mirrors = targets
        .registries
        .iter()
        .map(|registry| format!("  \"{registry}\":\n    endpoint:\n      - \"{larder}\"\n"));
    let lines = format!("mirrors:\n{}", mirrors.collect::<String>());
    let text = format!("{WRITTEN_BY}{lines}");
    let file = files.plan("etc/rancher/k3s/registries.yaml", |_| Ok(text))?;
    if file.before.as_ref().is_some_and(|before| !before.starts_with(WRITTEN_BY)) {
        return Err(ClientFileError::ByHand { path: file.path, lines });
    }
    let next = vec!["restart k3s (`systemctl restart k3s`) on each node".to_owned()];
    Ok(SetupPlan { files: vec![file], document: None, next })
}
