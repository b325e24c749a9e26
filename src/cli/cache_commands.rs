//! The commands that look at the cache and change it: their arguments, and which file does each.

use std::io::Write;

use clap::Subcommand;

use super::command_cache::{CommandCache, CommandError};
use super::config_arguments::ConfigArguments;
use super::exit::ExitStatus;
use super::export::ExportArguments;
use super::import::ImportArguments;
use super::ls::ListArguments;
use super::pin::PinArguments;
use super::pulls::PullArguments;
use super::rm::RemovalArguments;
use super::setup::SetupArguments;
use super::stats::StatsArguments;
use super::verify::VerifyArguments;
use super::warm::WarmArguments;
use super::{inventory, ls, pin, pulls, rm, show, stats, verify, why};
use crate::config::Environment;

/// A command that looks at the cache or changes it.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Write images as a bundle: an OCI image layout in a tar archive
    Export {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        export: ExportArguments,
    },
    /// Bring the images of a bundle, an archive or a registry's tree into the cache
    Import {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        import: ImportArguments,
    },
    /// List the contents in the cache, for `larder export --minus` on another machine
    Inventory {
        #[command(flatten)]
        source: ConfigArguments,
    },
    /// List the images in the cache
    Ls {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        list: ListArguments,
    },
    /// Keep an image in the cache, whatever else has to go; also before its first pull
    Pin {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// Let an image be evicted in its turn again
    Unpin {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        pin: PinArguments,
    },
    /// List who pulled which image and when, as far as the bounded log goes
    Pulls {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        pulls: PullArguments,
    },
    /// Remove an image, or a content, from the cache; the upstream is not asked and keeps it
    Rm {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        removal: RemovalArguments,
    },
    /// Print, write or check the configuration of a client that is to pull through this Larder
    Setup {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        setup: SetupArguments,
    },
    /// Show an image: its manifests, platforms and layers, and what is missing
    Show {
        #[command(flatten)]
        source: ConfigArguments,
        /// The image, as clients name it: `alpine`, `ghcr.io/owner/app:v1`, `alpine@sha256:…`
        image: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the figures of the cache: its size, hits, evictions
    Stats {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        stats: StatsArguments,
    },
    /// Read stored contents from the disk and verify them; what is wrong is fetched again
    Verify {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        verify: VerifyArguments,
    },
    /// Have a running server fetch images before a client asks for them
    Warm {
        #[command(flatten)]
        source: ConfigArguments,
        #[command(flatten)]
        warm: WarmArguments,
    },
    /// Tell what would happen to a pull of an image now, and why
    Why {
        #[command(flatten)]
        source: ConfigArguments,
        /// The image, as clients name it
        image: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl CacheCommand {
    /// Does what was asked for.
    pub(super) fn run(
        self,
        environment: &Environment,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> ExitStatus {
        let mut on = |source: ConfigArguments, run: &mut CacheAction<'_>| {
            CommandCache::command(source, environment, err, run)
        };
        match self {
            Self::Export { source, export } => on(source, &mut |cache| export.run(cache, out)),
            Self::Import { source, import } => on(source, &mut |cache| import.run(cache, out)),
            Self::Inventory { source } => on(source, &mut |cache| inventory::run(cache, out)),
            Self::Ls { source, list } => on(source, &mut |cache| ls::run(cache, &list, out)),
            Self::Pin { source, pin } => on(source, &mut |cache| pin::run(cache, &pin, true, out)),
            Self::Unpin { source, pin } => {
                on(source, &mut |cache| pin::run(cache, &pin, false, out))
            }
            Self::Pulls { source, pulls: wanted } => {
                on(source, &mut |cache| pulls::run(cache, &wanted, out))
            }
            Self::Rm { source, removal } => on(source, &mut |cache| rm::run(cache, &removal, out)),
            Self::Setup { source, setup } => on(source, &mut |cache| setup.run(cache, out)),
            Self::Show { source, image, json } => {
                on(source, &mut |cache| show::run(cache, &image, json, out))
            }
            Self::Stats { source, stats } => {
                on(source, &mut |cache| stats::run(cache, &stats, out))
            }
            Self::Verify { source, verify } => {
                on(source, &mut |cache| verify::run(cache, &verify, out))
            }
            Self::Warm { source, warm } => on(source, &mut |cache| warm.run(cache, out)),
            Self::Why { source, image, json } => {
                on(source, &mut |cache| why::run(cache, &image, json, out))
            }
        }
    }
}

/// A command, on the cache of its configuration.
type CacheAction<'a> = dyn FnMut(&CommandCache) -> Result<(), CommandError> + 'a;
