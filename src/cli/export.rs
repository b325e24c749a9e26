//! `larder export`: images leave the cache as a bundle that other tools and other caches read.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

use super::command_cache::{CommandCache, CommandError};
use super::output::say;
use super::progress::{ProgressLine, bar};
use crate::amounts::bytes;
use crate::bundle::{BundleError, BundleSigner, ExportPlan, HeldContents};
use crate::clock::{SystemClock, WallClock as _};
use crate::control::ControlFailure;
use crate::inventory::{
    CarriedImage, ImageName, ImagePattern, ImageRow, carried_image, list_images,
};
use crate::store::StoreView;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("chosen").required(true).multiple(true))]
pub(super) struct ExportArguments {
    /// Images, as clients name them: `alpine`, `ghcr.io/owner/app:v1`, `alpine@sha256:…`
    #[arg(value_name = "IMAGE", group = "chosen")]
    images: Vec<String>,
    /// Every complete image that was pulled in so long, such as `30d`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, group = "chosen")]
    pulled_since: Option<Duration>,
    /// Every complete image that is pinned
    #[arg(long, group = "chosen")]
    pinned: bool,
    /// Leave out the layers that this file lists, which `larder inventory` has printed elsewhere
    #[arg(long, value_name = "INVENTORY")]
    minus: Option<PathBuf>,
    /// A PEM file with a private key of ECDSA over P-256, by which the bundle is signed
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// The bundle to write; `-` for stdout
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ExportArguments {
    /// Writes the bundle. All else goes to stderr, for stdout may be the bundle.
    pub(super) fn run(
        &self,
        cache: &CommandCache,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let signer = self.signer()?;
        let view = cache.view()?;
        let images = self.images(cache, &view)?;
        let held = self.held()?;
        let names: Vec<String> = images.iter().map(name_of).collect();
        let mut plan = ExportPlan::new(images, &held);
        if let Some(signer) = &signer {
            plan = plan.signed(signer).map_err(|error| failure(&error))?;
        }
        let (count, total) = plan.totals();
        let mut progress = ProgressLine::new();
        let mut written = 0;
        let mut wrote = |more: u64| {
            written += more;
            progress.show(&bar(written, total));
        };
        let done = if self.output.as_os_str() == "-" {
            plan.write(&view, out, &mut wrote)
        } else {
            write_file(&plan, &view, &self.output, &mut wrote)
        };
        progress.finish();
        done.map_err(|error| failure(&error))?;
        let err = &mut io::stderr();
        for name in names {
            say(err, &format!("exported {name}\n"));
        }
        say(err, &format!("{} in {count} contents\n", bytes(total)));
        Ok(())
    }

    /// The images that are asked for, each once.
    fn images(
        &self,
        cache: &CommandCache,
        view: &StoreView,
    ) -> Result<Vec<CarriedImage>, CommandError> {
        let mut names = Vec::new();
        for text in &self.images {
            names.push(cache.image_name(text)?);
        }
        let asked_for = names.len();
        let now = SystemClock.now();
        if self.pinned || self.pulled_since.is_some() {
            let mut add = |row: ImageRow| {
                if self.wants(&row, now) {
                    names.extend(row.name.parse::<ImageName>().ok());
                }
                true
            };
            list_images(view, &ImagePattern::default(), &mut add)?;
        }
        let mut images: Vec<CarriedImage> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let found = carried_image(view, name)?;
            let image = found.ok_or_else(|| ControlFailure::not_cached(name))?;
            if let Some(missing) = image.missing.first() {
                if at < asked_for {
                    return Err(incomplete(name, &missing.to_string()).into());
                }
                say(&mut io::stderr(), &format!("left out {name}: {missing} is missing\n"));
            } else if !images.contains(&image) {
                images.push(image);
            }
        }
        if images.is_empty() {
            let error = "there is no complete image to export".to_owned();
            return Err(ControlFailure { error, hint: None }.into());
        }
        Ok(images)
    }

    fn wants(&self, row: &ImageRow, now: SystemTime) -> bool {
        let is_recent = self.pulled_since.is_some_and(|since| row.last_pull.age(now) <= since);
        is_recent || (self.pinned && row.is_pinned)
    }

    fn signer(&self) -> Result<Option<BundleSigner>, CommandError> {
        let Some(path) = &self.sign else { return Ok(None) };
        let unusable = |why: &dyn fmt::Display, hint: Option<&str>| {
            let error = format!("cannot sign with {}: {why}", path.display());
            CommandError::Misused(ControlFailure { error, hint: hint.map(str::to_owned) })
        };
        let pem = fs::read(path).map_err(|error| unusable(&error, None))?;
        let signer = BundleSigner::from_pem(&pem);
        signer.map(Some).map_err(|error| unusable(&error, Some(error.hint())))
    }

    /// The contents that the receiver holds.
    fn held(&self) -> Result<HeldContents, CommandError> {
        let Some(path) = &self.minus else { return Ok(HeldContents::default()) };
        let read = File::open(path).and_then(|file| HeldContents::read(BufReader::new(file)));
        read.map_err(|error| {
            let error = format!("cannot read the inventory {}: {error}", path.display());
            CommandError::Misused(ControlFailure { error, hint: None })
        })
    }
}

fn name_of(image: &CarriedImage) -> String {
    let place = format!("{}/{}", image.registry, image.repository);
    match image.roots.first() {
        Some(root) => match &root.tag {
            Some(tag) => format!("{place}:{tag}"),
            None => format!("{place}@{}", root.digest),
        },
        None => place,
    }
}

fn incomplete(name: &ImageName, missing: &str) -> ControlFailure {
    let error = format!("{name} is not complete: {missing} is not in the cache");
    ControlFailure {
        error,
        hint: Some(format!("pull it through Larder; see `larder show {name}`")),
    }
}

/// Writes a file that has its name only when it is whole.
fn write_file(
    plan: &ExportPlan,
    view: &StoreView,
    path: &Path,
    wrote: &mut dyn FnMut(u64),
) -> Result<(), BundleError> {
    if path.exists() && !path.is_file() {
        // A device or a pipe.
        let file = fs::OpenOptions::new().write(true).open(path);
        return plan.write(view, file.map_err(BundleError::Unwritten)?, wrote);
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".partial");
    let draft = PathBuf::from(draft);
    let written = File::create(&draft).map_err(BundleError::Unwritten).and_then(|file| {
        plan.write(view, &file, wrote)?;
        file.sync_all().map_err(BundleError::Unwritten)?;
        fs::rename(&draft, path).map_err(BundleError::Unwritten)
    });
    // One that cannot be removed is overwritten by the next.
    written.inspect_err(|_| drop(fs::remove_file(&draft)))
}

fn failure(error: &BundleError) -> CommandError {
    ControlFailure { error: error.to_string(), hint: error.hint().map(str::to_owned) }.into()
}
