//! The argument of every command that reads the configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::ConfigArgs;

/// The place of the configuration.
#[derive(Args, Debug)]
pub(super) struct ConfigArguments {
    /// The configuration file [default: the one that `LARDER_CONFIG` names, else
    /// /etc/larder/config.toml if present]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<ConfigArguments> for ConfigArgs {
    fn from(source: ConfigArguments) -> Self {
        Self { config: source.config, ..Self::default() }
    }
}
