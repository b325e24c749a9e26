//! `larder warm`: a running server fetches images before a client asks for them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::say;
use super::progress::{ProgressLine, bar};
use crate::amounts::bytes;
use crate::control::{ControlFailure, ControlRequest, LayerProgress, WarmUpdate, WarmWishes};
use crate::inventory::{ImageName, own_platform};
use crate::workloads::{ImageFileError, ListedImage, read_images};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("wanted").required(true).multiple(true))]
pub(super) struct WarmArguments {
    /// Images, as clients name them: `alpine`, `ghcr.io/owner/app:v1`, `alpine@sha256:…`
    #[arg(value_name = "IMAGE", group = "wanted")]
    images: Vec<String>,
    /// A file with an image on each line, a compose file, or manifests of Kubernetes; `-` for
    /// stdin; may be repeated
    #[arg(long, value_name = "FILE", group = "wanted")]
    file: Vec<PathBuf>,
    /// A platform of an index, such as `linux/arm64`; may be repeated [default: that of this
    /// machine]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Vec<String>,
    /// Every platform of an index
    #[arg(long)]
    all_platforms: bool,
    /// Signatures and other referrers too
    #[arg(long)]
    referrers: bool,
}

impl WarmArguments {
    /// Has the images fetched, one after the other, and tells which are there.
    pub(super) fn run(
        &self,
        cache: &CommandCache,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        if !cache.has_server()? {
            let error = "no server uses the cache, and only a server fetches images".to_owned();
            let hint = Some("start `larder serve` first".to_owned());
            return Err(ControlFailure { error, hint }.into());
        }
        let mut failed = 0;
        let images = self.images(cache)?;
        for (done, name) in images.iter().enumerate() {
            let name = name.to_string();
            let line = match self.warm(cache, &name, done, images.len())? {
                WarmUpdate { error: Some(error), .. } => {
                    failed += 1;
                    format!("failed {name}: {error}\n")
                }
                update => {
                    let size = bytes(update.stored_bytes);
                    format!("warm {name}: {size} in {} contents\n", update.stored)
                }
            };
            say(out, &line);
        }
        if failed == 0 {
            return Ok(());
        }
        let error = format!("{failed} of {} images are not complete", images.len());
        let hint = Some("run it again: it goes on where it was".to_owned());
        Err(ControlFailure { error, hint }.into())
    }

    /// The images on the command line, and those in the files, each once.
    fn images(&self, cache: &CommandCache) -> Result<Vec<ImageName>, CommandError> {
        let mut images = Vec::new();
        for text in &self.images {
            images.push(cache.image_name(text)?);
        }
        for path in &self.file {
            let is_stdin = path.as_os_str() == "-";
            let shown = if is_stdin { Path::new("stdin") } else { path };
            let read = if is_stdin { read_images(io::stdin()) } else { read_file(path) };
            for image in read.map_err(|error| not_read(shown, &error))? {
                images.extend(named(cache, shown, &image)?);
            }
        }
        let mut seen = HashSet::new();
        images.retain(|name| seen.insert(name.to_string()));
        Ok(images)
    }

    /// Has an image fetched, behind so many of so many others.
    fn warm(
        &self,
        cache: &CommandCache,
        name: &str,
        done: usize,
        of: usize,
    ) -> Result<WarmUpdate, CommandError> {
        let platforms = match (self.all_platforms, self.platform.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![own_platform()],
            (false, false) => self.platform.clone(),
        };
        let wishes = WarmWishes { platforms, with_referrers: self.referrers };
        let request = ControlRequest::Warm { name: name.to_owned(), wishes };
        let mut last = WarmUpdate::default();
        let mut progress = ProgressLine::new();
        let mut show = |update: WarmUpdate| {
            let layers: Vec<_> = update.fetching.iter().map(layer_line).collect();
            let fetched: u64 = update.fetching.iter().map(|layer| layer.stored_bytes).sum();
            let total = bar(update.stored_bytes + fetched, update.of_bytes);
            let number = if of > 1 { format!("  {} of {of}", done + 1) } else { String::new() };
            progress.show_with(&format!("{total}{number}  {name}"), &layers);
            last = update;
            true
        };
        let asked = cache.ask_each(&request, None, &mut show);
        progress.finish();
        match asked {
            // One image that the server does not fetch is no reason to leave out the others.
            Err(CommandError::Refused(failure)) => {
                last.error = Some(failure.error);
                last.is_done = true;
            }
            asked => asked?,
        }
        if !last.is_done {
            last.error = Some("the server stopped".to_owned());
        }
        Ok(last)
    }
}

/// A layer that is fetched, by the begin of its digest as `docker pull` shows it.
fn layer_line(layer: &LayerProgress) -> String {
    let hex = layer.digest.split_once(':').map_or(&*layer.digest, |(_, hex)| hex);
    let short: String = hex.chars().take(12).collect();
    format!("{}  {short}", bar(layer.stored_bytes, layer.of_bytes))
}

fn read_file(path: &Path) -> Result<Vec<ListedImage>, ImageFileError> {
    let file = File::open(path).map_err(ImageFileError::Unreadable)?;
    read_images(file)
}

/// The image that a file names. A text that needs not be a name, and is none, is told.
fn named(
    cache: &CommandCache,
    file: &Path,
    image: &ListedImage,
) -> Result<Option<ImageName>, CommandError> {
    let failure = match &image.name {
        Ok(text) => match cache.image_name(text) {
            Ok(name) => return Ok(Some(name)),
            Err(CommandError::Misused(failure)) => failure,
            Err(error) => return Err(error),
        },
        Err(fault) => {
            let hint = fault.hint().map(str::to_owned);
            ControlFailure { error: fault.to_string(), hint }
        }
    };
    let error = format!("{}:{}: {}", file.display(), image.place, failure.error);
    if image.is_required {
        return Err(CommandError::Misused(ControlFailure { error, ..failure }));
    }
    say(&mut io::stderr(), &format!("left out {error}\n"));
    Ok(None)
}

fn not_read(file: &Path, error: &ImageFileError) -> CommandError {
    let place = error.place().map(|place| format!(":{place}")).unwrap_or_default();
    let why = format!("cannot take images from {}{place}: {error}", file.display());
    let hint = error.hint().map(str::to_owned);
    CommandError::Misused(ControlFailure { error: why, hint })
}
