//! The cache as a command finds it: through the server that uses it, else through its files.
//!
//! The directory is that of the configuration, found as `larder serve` finds it.

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::exit::ExitStatus;
use super::output::say;
use crate::config;
use crate::config::{ConfigArgs, Environment, Settings};
use crate::control::{CacheStats, ControlFailure, ControlRequest, socket_path};
use crate::http::{LocalAnswer, LocalBody, ask_address, ask_local};
use crate::inventory::{ImageName, PinBook};
use crate::store::{BootClock, OpenError, Store, StoreView};

/// The cache of a configuration.
pub(super) struct CommandCache {
    pub(super) settings: Settings,
    runtime: Runtime,
}

/// Why a command does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// There is no cache in the directory of the configuration.
    #[error("there is no cache in {0}")]
    NoCache(PathBuf),
    /// The server, or the function that reads the files in its place, says no.
    #[error(transparent)]
    Refused(#[from] ControlFailure),
    /// The server is there, and may not be asked or does not answer.
    #[error("cannot talk to the server at {path}")]
    Server { path: PathBuf, source: io::Error },
    /// The cache directory cannot be had.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The command was given something else than it wants.
    #[error(transparent)]
    Misused(ControlFailure),
    /// The files cannot be read.
    #[error("cannot read the cache")]
    Files(#[from] io::Error),
}

impl CommandError {
    /// Tells the operator, and gives the exit status.
    fn tell(self, err: &mut dyn Write) -> ExitStatus {
        let status = match self {
            Self::Misused(_) => ExitStatus::Misused,
            _ => ExitStatus::Failed,
        };
        let hint = self.hint();
        say(err, &format!("error: {:#}\n", anyhow::Error::from(self)));
        if let Some(hint) = hint {
            say(err, &format!("hint: {hint}\n"));
        }
        status
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoCache(_) => Some(
                "nothing was pulled yet, or the server has another configuration: `--config FILE`"
                    .to_owned(),
            ),
            Self::Refused(failure) | Self::Misused(failure) => failure.hint.clone(),
            Self::Server { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run the command as the user that the server runs as".to_owned())
            }
            Self::Files(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("run the command as the owner of the cache directory".to_owned())
            }
            Self::Store(OpenError::Locked { .. }) => {
                Some("a server that uses it starts or stops: try again".to_owned())
            }
            Self::Server { .. } | Self::Files(_) | Self::Store(_) => None,
        }
    }
}

impl CommandCache {
    /// Has a command work on the cache of a configuration. Tells the operator why one of the two
    /// fails.
    pub(super) fn command(
        arguments: impl Into<ConfigArgs>,
        environment: &Environment,
        err: &mut dyn Write,
        command: impl FnOnce(&Self) -> Result<(), CommandError>,
    ) -> ExitStatus {
        let settings = match config::load(&arguments.into(), environment) {
            Ok(loaded) => loaded.settings,
            Err(problems) => {
                say(err, &format!("{problems}\n"));
                return ExitStatus::Misused;
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(CommandError::Files);
        match done.and_then(|runtime| command(&Self { settings, runtime })) {
            Ok(()) => ExitStatus::Done,
            Err(error) => error.tell(err),
        }
    }

    /// Waits for something in the runtime of the command.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The cache directory.
    pub(super) fn dir(&self) -> &Path {
        &self.settings.store.dir
    }

    /// The image that clients of this configuration mean by a name.
    pub(super) fn image_name(&self, text: &str) -> Result<ImageName, CommandError> {
        let name = ImageName::resolve(text, &self.settings.registries);
        name.map_err(|_| CommandError::Misused(ControlFailure::bad_name(text)))
    }

    /// The answer to a request that only reads: the server's, or that of `of_files` if none runs or
    /// it ends meanwhile.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        of_files: impl FnOnce(&StoreView) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        match self.ask(request) {
            Err(CommandError::Server { source, .. }) if has_no_server(&source) => {
                of_files(&self.view()?)
            }
            answer => answer,
        }
    }

    /// The answer to a request that changes the cache: the server's, or that of `of_files` if none
    /// runs.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        of_files: impl FnOnce(&StoreView) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        match self.ask(request) {
            Err(CommandError::Server { source, .. }) if is_absent(&source) => {
                of_files(&self.view()?)
            }
            answer => answer,
        }
    }

    /// Does something with the store, which no server uses meanwhile.
    pub(super) fn with_store<T>(
        &self,
        change: impl AsyncFnOnce(&Arc<Store>) -> io::Result<T>,
    ) -> Result<T, CommandError> {
        let store = Arc::new(Store::open(self.settings.store.clone(), BootClock::default())?);
        self.runtime.block_on(async {
            let changed = change(&store).await;
            store.close().await;
            Ok(changed?)
        })
    }

    /// As [`Self::with_store`], where evictions keep what is pinned. Makes the cache if there is
    /// none.
    pub(super) fn with_pinned_store<T>(
        &self,
        change: impl AsyncFnOnce(&Arc<Store>) -> io::Result<T>,
    ) -> Result<T, CommandError> {
        self.with_store(async |store| {
            let pins = PinBook::new(self.settings.pins.clone(), &store.pin_list()?);
            store.set_pins(Arc::new(pins));
            change(store).await
        })
    }

    /// Whether a server uses the cache.
    pub(super) fn has_server(&self) -> Result<bool, CommandError> {
        match self.ask::<CacheStats>(&ControlRequest::Stats) {
            Err(CommandError::Server { source, .. }) if is_absent(&source) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Shows each object of an answer of many: the server's, or those of `of_files` if none runs,
    /// until `show` returns false.
    pub(super) fn each<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        show: &mut dyn FnMut(T) -> bool,
        of_files: impl FnOnce(&StoreView, &mut dyn FnMut(T) -> bool) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        let mut is_begun = false;
        let mut show_asked = |object| {
            is_begun = true;
            show(object)
        };
        match self.ask_each(request, None, &mut show_asked) {
            Err(CommandError::Server { source, .. }) if has_no_server(&source) && !is_begun => {
                Ok(of_files(&self.view()?, show)?)
            }
            answer => answer,
        }
    }

    /// Shows each object of an answer of many to a request that changes the cache: the server's, or
    /// those of `of_files` if none runs.
    pub(super) fn change_each<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        show: &mut dyn FnMut(T) -> bool,
        of_files: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        match self.ask_each(request, None, show) {
            Err(CommandError::Server { source, .. }) if is_absent(&source) => {
                self.view()?;
                of_files(show)
            }
            answer => answer,
        }
    }

    /// Shows each object of the server's answer to a request with a body.
    pub(super) fn ask_each<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
        body: Option<LocalBody>,
        show: &mut dyn FnMut(T) -> bool,
    ) -> Result<(), CommandError> {
        let path = socket_path(self.dir());
        let failed = |source| CommandError::Server { path: path.clone(), source };
        self.runtime.block_on(async {
            let asked = ask_local(&path, request.method(), &request.target(), body).await;
            let mut answer = asked.map_err(failed)?;
            while let Some(line) = answer.line().await.map_err(failed)? {
                if !show(read_line(&answer, &line)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The answer of the server.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        request: &ControlRequest,
    ) -> Result<T, CommandError> {
        let path = socket_path(self.dir());
        let asked = self.runtime.block_on(async {
            let mut answer = ask_local(&path, request.method(), &request.target(), None).await?;
            let line = answer.line().await?.unwrap_or_default();
            Ok((answer, line))
        });
        let (answer, line) = asked.map_err(|source| CommandError::Server { path, source })?;
        read_line(&answer, &line)
    }

    /// Fails unless the server answers.
    pub(super) fn ask_alive(&self) -> Result<(), CommandError> {
        self.ask::<CacheStats>(&ControlRequest::Stats).map(drop)
    }

    /// Whether the admin port at `address` says that the server is ready, and what it says.
    pub(super) fn ask_ready(&self, address: SocketAddr) -> io::Result<(bool, String)> {
        self.runtime.block_on(async {
            let mut answer = ask_address(address, "/readyz").await?;
            let report = answer.line().await?.unwrap_or_default();
            let report = String::from_utf8_lossy(&report);
            Ok((answer.status.is_success(), format!("{report}\n")))
        })
    }

    /// The files.
    pub(super) fn view(&self) -> Result<StoreView, CommandError> {
        let dir = self.dir().to_owned();
        let view = StoreView::open(dir.clone()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CommandError::NoCache(dir),
            _ => CommandError::Files(error),
        })?;
        let pins = self.pin_book(&view)?;
        Ok(view.with_pins(pins))
    }

    /// The rules for what is kept.
    pub(super) fn pin_book(&self, view: &StoreView) -> Result<Arc<PinBook>, CommandError> {
        Ok(Arc::new(PinBook::new(self.settings.pins.clone(), &view.pin_list()?)))
    }
}

/// An object of an answer, which is a failure unless the status is 200.
fn read_line<T: DeserializeOwned>(answer: &LocalAnswer, line: &[u8]) -> Result<T, CommandError> {
    if answer.status.is_success() {
        return serde_json::from_slice(line).map_err(|error| malformed(&error));
    }
    Err(match serde_json::from_slice::<ControlFailure>(line) {
        Ok(failure) => failure.into(),
        Err(error) => malformed(&error),
    })
}

fn malformed(error: &serde_json::Error) -> CommandError {
    let hint = "the command is of another version of Larder than the server".to_owned();
    ControlFailure { error: format!("cannot read the answer: {error}"), hint: Some(hint) }.into()
}

/// Whether no server listens.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Whether no server listens, or the one that did has ended.
fn has_no_server(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::TimedOut)
}
