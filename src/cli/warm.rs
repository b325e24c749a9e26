//! `larder warm`: a running server fetches images before a client asks for them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::say;
use super::progress::{ProgressLine, bar};
use crate::amounts::bytes;
use crate::control::{ControlFailure, ControlRequest, WarmUpdate, WarmWishes};
use crate::inventory::own_platform;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("wanted").required(true).multiple(true))]
pub(super) struct WarmArguments {
    /// Images, as clients name them: `alpine`, `ghcr.io/owner/app:v1`, `alpine@sha256:…`
    #[arg(value_name = "IMAGE", group = "wanted")]
    images: Vec<String>,
    /// A file with an image on each line; lines that begin with `#` mean nothing
    #[arg(long, value_name = "LIST", group = "wanted")]
    file: Option<PathBuf>,
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
        let names = self.names()?;
        for text in &names {
            let name = cache.image_name(text)?.to_string();
            let line = match self.warm(cache, &name)? {
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
        let error = format!("{failed} of {} images are not complete", names.len());
        let hint = Some("run it again: it goes on where it was".to_owned());
        Err(ControlFailure { error, hint }.into())
    }

    /// The names on the command line, and those in the file.
    fn names(&self) -> Result<Vec<String>, CommandError> {
        let mut names = self.images.clone();
        if let Some(path) = &self.file {
            let text = fs::read_to_string(path).map_err(|error| {
                let error = format!("cannot read {}: {error}", path.display());
                CommandError::Misused(ControlFailure { error, hint: None })
            })?;
            let lines = text.lines().map(str::trim);
            let wanted = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            names.extend(wanted.map(str::to_owned));
        }
        Ok(names)
    }

    fn warm(&self, cache: &CommandCache, name: &str) -> Result<WarmUpdate, CommandError> {
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
            progress.show(&format!("{}  {name}", bar(update.stored_bytes, update.of_bytes)));
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
