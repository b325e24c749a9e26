//! `larder setup`: the configuration of a client, so that it pulls through this Larder.
//!
//! The text of the files is decided in `crate::setup`. Nothing is written without `--write` or
//! `--undo`; how files are written and put back is decided in `setup_files.rs`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::command_cache::{CommandCache, CommandError};
use super::healthcheck::from_here;
use super::output::say;
use super::setup_check::SetupCheck;
use super::setup_files::{FileUndo, difference, read, read_original, write, written_hosts};
use crate::config::Settings;
use crate::control::ControlFailure;
use crate::http::HostPort;
use crate::oci::RegistryName;
use crate::setup::{
    ClientFileError, ClientProgram, LarderAddress, MirrorTargets, SetupPlan, hosts_directory, plan,
    undo_plan,
};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("deed").args(["write", "dry_run", "check"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct SetupArguments {
    /// The client
    #[arg(value_name = "CLIENT", value_enum)]
    client: ClientArgument,
    /// The address at which the client reaches Larder, such as `https://larder.corp` [default: that
    /// of the first listener]
    #[arg(long, value_name = "URL")]
    address: Option<LarderAddress>,
    /// A registry that an entry with a pattern serves; may be repeated
    #[arg(long, value_name = "NAME")]
    registry: Vec<RegistryName>,
    /// Write the files; what they said before is kept in FILE.before-larder
    #[arg(long)]
    write: bool,
    /// Put the files back as they were before --write, and remove those that were not there
    #[arg(long, conflicts_with_all = ["write", "check"])]
    undo: bool,
    /// Show what would change in the files
    #[arg(long)]
    dry_run: bool,
    /// Have the client pull an image, and tell whether it came through Larder, and which registries
    /// no client has asked for
    #[arg(long)]
    check: bool,
    /// The image for --check
    #[arg(long, value_name = "IMAGE", default_value = "docker.io/library/hello-world:latest")]
    image: String,
    /// How long the pull of --check may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The directory below which the client's files lie, as of a machine image that is being built
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientArgument {
    /// buildkitd
    Buildkit,
    /// containerd
    Containerd,
    /// CRI-O
    #[value(name = "cri-o")]
    CriO,
    /// dockerd
    Dockerd,
    /// k3s and RKE2
    K3s,
    /// The containerd of every node
    Kubernetes,
    /// podman, buildah and skopeo
    Podman,
}

impl ClientArgument {
    fn program(self) -> ClientProgram {
        match self {
            Self::Buildkit => ClientProgram::Buildkit,
            Self::Containerd => ClientProgram::Containerd,
            Self::CriO => ClientProgram::CriO,
            Self::Dockerd => ClientProgram::Docker,
            Self::K3s => ClientProgram::K3s,
            Self::Kubernetes => ClientProgram::Kubernetes,
            Self::Podman => ClientProgram::Podman,
        }
    }
}

impl SetupArguments {
    /// Prints, shows, writes or checks the configuration of the client.
    pub(super) fn run(
        &self,
        cache: &CommandCache,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let client = self.client.program();
        if self.check {
            let check = SetupCheck { cache, image: &self.image, limit: self.timeout };
            return check.run(client, out);
        }
        let targets = mirror_targets(&cache.settings, self.address.clone(), &self.registry);
        if self.undo {
            return self.undo(client, &targets, out);
        }
        let plan = plan(client, &targets, &self.root, &read).map_err(|error| refused(&error))?;
        self.say_document(&plan, out)?;
        for file in &plan.files {
            let text = match (self.write, self.dry_run) {
                (true, _) => write(file)?,
                (_, true) => difference(&file.path, file.before.as_deref(), Some(&file.after)),
                _ => format!("# {}\n{}\n", file.path.display(), file.after),
            };
            say(out, &text);
        }
        let mark = if self.write { "" } else { "# " };
        let next = plan.next.iter().filter(|_| !self.dry_run);
        next.for_each(|next| say(out, &format!("{mark}then: {next}\n")));
        Ok(())
    }

    /// Prints what is applied and not written.
    fn say_document(&self, plan: &SetupPlan, out: &mut dyn Write) -> Result<(), CommandError> {
        let Some(document) = &plan.document else { return Ok(()) };
        if self.write || self.dry_run {
            let error = "this is applied to a cluster, not written to a file".to_owned();
            return Err(CommandError::Misused(ControlFailure { error, hint: None }));
        }
        say(out, document);
        Ok(())
    }

    /// Puts back the files of the client, all of them or none.
    fn undo(
        &self,
        client: ClientProgram,
        targets: &MirrorTargets,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        if let Some(plan) = undo_plan(client, targets) {
            self.say_document(&plan, out)?;
            plan.next.iter().for_each(|next| say(out, &format!("# then: {next}\n")));
            return Ok(());
        }
        let plan = plan(client, targets, &self.root, &read_original);
        let plan = plan.map_err(|error| refused(&error))?;
        let mut paths: Vec<_> = plan.files.iter().map(|file| file.path.clone()).collect();
        // Those of registries that the configuration does not have any more.
        let written = hosts_directory(client, &self.root).map(|dir| written_hosts(&dir));
        let others = written.transpose()?.unwrap_or_default();
        paths.extend(
            others.into_iter().filter(|path| !plan.files.iter().any(|it| it.path == *path)),
        );
        let files = paths.iter().map(|path| FileUndo::of(path));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let is_needed = files.iter().any(FileUndo::is_needed);
        for file in files {
            say(out, &if self.dry_run { file.difference() } else { file.carry_out()? });
        }
        let next = plan.next.iter().filter(|_| is_needed && !self.dry_run);
        next.for_each(|next| say(out, &format!("then: {next}\n")));
        Ok(())
    }
}

/// The registries of a configuration and `more`, and the address of its first listener as this
/// machine reaches it.
fn mirror_targets(
    settings: &Settings,
    address: Option<LarderAddress>,
    more: &[RegistryName],
) -> MirrorTargets {
    let exact = settings.registries.iter().filter(|registry| registry.pattern.is_none());
    let names = exact.map(|registry| registry.name.clone());
    let larder = address.unwrap_or_else(|| {
        let Some(listener) = settings.listeners.first() else {
            return LarderAddress { is_tls: false, authority: DEFAULT_AUTHORITY.to_owned() };
        };
        let port = listener.address.port();
        let own_name = listener.names.first().map(|name| {
            HostPort { port: Some(name.port.unwrap_or(port)), ..name.clone() }.to_string()
        });
        let authority = own_name.unwrap_or_else(|| from_here(listener.address).to_string());
        LarderAddress { is_tls: listener.tls.is_some(), authority }
    });
    MirrorTargets { larder, registries: names.chain(more.iter().cloned()).collect() }
}

fn refused(error: &ClientFileError) -> CommandError {
    let hint = match error {
        ClientFileError::ByHand { .. } | ClientFileError::Unreadable { .. } => None,
        ClientFileError::Malformed { .. } => Some("correct the file, or move it away".to_owned()),
    };
    ControlFailure { error: error.to_string(), hint }.into()
}

const DEFAULT_AUTHORITY: &str = "127.0.0.1:5000";
