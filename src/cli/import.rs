//! `larder import`: images of an archive come into the cache.
//!
//! With a server the archive goes through it; without one the command stores it itself.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use parking_lot::Mutex;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, say};
use super::progress::{ProgressLine, bar};
use crate::amounts::bytes;
use crate::bundle::{ImportJob, ImportUpdate, ImportWishes, PackedDir};
use crate::clock::{SystemClock, WallClock as _};
use crate::control::{ControlFailure, ControlRequest};
use crate::http::LocalBody;

#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    /// A bundle, an OCI layout, an archive of `docker save`, or the tree of a registry: a file, a
    /// directory, or `-` for stdin
    #[arg(value_name = "FILE|DIR|-")]
    source: PathBuf,
    /// The name of the image, or of the repository of all images, in place of those in the archive
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The registry of the repositories in the tree of a registry, such as `docker.io`
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,
    /// Print one JSON object, and no progress
    #[arg(long)]
    json: bool,
}

/// An archive that is open to be read.
struct ImportSource {
    reader: Box<dyn Read + Send>,
    /// Its length in bytes, if it is a file.
    len: Option<u64>,
}

impl ImportSource {
    fn open(import: &ImportArguments) -> Result<Self, CommandError> {
        let path = &import.source;
        let failed = |error: io::Error| {
            let error = format!("cannot read {}: {error}", path.display());
            CommandError::Misused(ControlFailure { error, hint: None })
        };
        if path.as_os_str() == "-" {
            return Ok(Self { reader: Box::new(io::stdin()), len: None });
        }
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            let packed = PackedDir::open(path).map_err(failed)?;
            return Ok(Self { reader: Box::new(packed), len: None });
        }
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Self { reader: Box::new(File::open(path).map_err(failed)?), len })
    }
}

impl ImportArguments {
    /// Imports, and prints what is in the cache then.
    pub(super) fn run(
        &self,
        cache: &CommandCache,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let source = ImportSource::open(self)?;
        let total = source.len;
        let mut progress = (!self.json).then(ProgressLine::new);
        let mut last = ImportUpdate::default();
        let mut show = |update: ImportUpdate| {
            if let Some(progress) = &mut progress {
                progress.show(&progress_of(&update, total));
            }
            last = update;
        };
        let done = self.perform(cache, source, &mut show);
        if let Some(progress) = progress {
            progress.finish();
        }
        done?;
        if let Some(error) = last.error {
            return Err(ControlFailure { error, hint: last.hint }.into());
        }
        if !last.is_done {
            let error = "the server stopped before the import ended".to_owned();
            return Err(ControlFailure { error, hint: Some("run it again".to_owned()) }.into());
        }
        say(out, &if self.json { json(&last) } else { text(&last) });
        match last.left_out.len() {
            0 => Ok(()),
            count => {
                let error = format!("{count} images are not complete in the tree: left out");
                Err(ControlFailure { error, hint: None }.into())
            }
        }
    }

    fn perform(
        &self,
        cache: &CommandCache,
        source: ImportSource,
        show: &mut dyn FnMut(ImportUpdate),
    ) -> Result<(), CommandError> {
        if !cache.has_server()? {
            return self.store(cache, source, show);
        }
        let name = self.name.clone();
        let request = ControlRequest::Import { name, registry: self.registry.clone() };
        let failure = Arc::default();
        let body = feed(source.reader, Arc::clone(&failure));
        let mut is_done = false;
        let mut show_each = |update: ImportUpdate| {
            is_done = update.is_done;
            show(update);
            // The rest of an archive that is refused needs not be sent.
            !is_done
        };
        let asked = cache.ask_each(&request, Some(body), &mut show_each);
        match failure.lock().take() {
            Some(error) if !is_done => Err(unread(&error)),
            _ => asked,
        }
    }
}

impl ImportArguments {
    /// Imports without a server.
    fn store(
        &self,
        cache: &CommandCache,
        source: ImportSource,
        show: &mut dyn FnMut(ImportUpdate),
    ) -> Result<(), CommandError> {
        let wishes = ImportWishes {
            registries: cache.settings.registries.clone(),
            name: self.name.clone(),
            registry: self.registry.clone(),
            keys: cache.settings.import_keys.clone(),
        };
        cache.with_pinned_store(async |store| {
            let mut job = ImportJob::start(store, source.reader, wishes, SystemClock.now());
            while let Some(update) = job.next().await {
                show(update);
            }
            Ok(())
        })
    }
}

fn unread(error: &io::Error) -> CommandError {
    let error = format!("cannot read the archive: {error}");
    ControlFailure { error, hint: None }.into()
}

/// The body of a request that a thread reads from `reader`. An error breaks it off, and is left in
/// `failure`.
fn feed(mut reader: Box<dyn Read + Send>, failure: Arc<Mutex<Option<io::Error>>>) -> LocalBody {
    let (pieces, body) = LocalBody::channel();
    std::thread::spawn(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            match reader.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    if pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = error.kind();
                    *failure.lock() = Some(error);
                    // A server that has gone has said why.
                    drop(pieces.blocking_send(Err(kind.into())));
                    return;
                }
            }
        }
    });
    body
}

fn progress_of(update: &ImportUpdate, total: Option<u64>) -> String {
    let read = update.read_bytes;
    let done = total.map_or_else(|| bytes(read), |total| bar(read, total));
    format!("{done}, {} contents", update.new + update.known)
}

fn text(update: &ImportUpdate) -> String {
    let images = update.images.iter().map(|name| format!("imported {name}\n"));
    let left_out = update.left_out.iter().map(|it| format!("left out {}: {}\n", it.name, it.why));
    let ImportUpdate { new, known, .. } = update;
    let size = bytes(update.new_bytes);
    let total = format!("{new} contents of {size} are new, {known} were in the cache before\n");
    images.chain(left_out).chain([total]).collect()
}

/// Bytes that go to the server at once.
const PIECE_BYTES: usize = 256 << 10;
