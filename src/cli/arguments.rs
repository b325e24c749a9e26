//! The command line: commands and their arguments.
//!
//! Output goes to writers that are handed in: results to the first, everything else to the second.
//! Neither is worth failing for, since `larder check | head` closes its pipe early.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use super::cache_commands::CacheCommand;
use super::check_online::OnlineSubjects;
use super::config_arguments::ConfigArguments;
use super::exit::ExitStatus;
use super::logging::FormatArgument;
use super::output::say;
use super::{check, completions, healthcheck, serve};
use crate::app;
use crate::config::{self, ConfigArgs, Environment};

/// Runs the command that `arguments` (the first is the program's name) ask for.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    let commands = match CommandLine::try_parse_from(arguments) {
        Ok(commands) => commands,
        Err(error) if error.use_stderr() => {
            say(err, &error.render().to_string());
            return ExitStatus::Misused;
        }
        // Help and version arrive as errors, too.
        Err(error) => {
            say(out, &error.render().to_string());
            return ExitStatus::Done;
        }
    };
    perform(commands.command, environment, out, err)
}

fn perform(
    command: Command,
    variables: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    match command {
        Command::Check { source, json: true, .. } => {
            check::run_json(&source.into(), variables, out)
        }
        Command::Check { source, online, host, repository, json: false } => {
            let online = online.then_some(OnlineSubjects { hosts: host, repositories: repository });
            check::run(&source.into(), online.as_ref(), variables, out, err)
        }
        Command::CheckIndex { db } => check_index(&db, out),
        Command::Config { command: ConfigCommand::Schema } => print_schema(out),
        Command::Completions { shell } => completions::print(shell, CommandLine::command(), out),
        Command::Healthcheck { source } => healthcheck::run(source, variables, out, err),
        Command::ManPages { dir } => completions::man_pages(&dir, CommandLine::command(), err),
        Command::Serve { source, listen, log_format } => {
            let arguments = ConfigArgs { listen, ..source.into() };
            serve::run(&arguments, variables, log_format, err)
        }
        Command::OfCache(command) => command.run(variables, out, err),
    }
}

fn print_schema(out: &mut dyn Write) -> ExitStatus {
    say(out, &config::schema());
    ExitStatus::Done
}

fn check_index(db: &Path, out: &mut dyn Write) -> ExitStatus {
    let checked = app::check_index(db);
    let status = if checked.is_ok() { ExitStatus::Done } else { ExitStatus::Failed };
    say(out, &checked.unwrap_or_else(|why| why));
    status
}

/// A pull-through caching registry proxy and mirror for container images
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy; without a configuration it mirrors docker.io on 127.0.0.1:5000
    Serve {
        #[command(flatten)]
        source: ConfigArguments,
        /// Listen on this IP address and port and on no other; may be repeated
        #[arg(long, value_name = "ADDR")]
        listen: Vec<String>,
        /// The format of log lines [default: `log_format` of the configuration]
        #[arg(long, value_name = "FORMAT", value_enum)]
        log_format: Option<FormatArgument>,
    },
    /// For Larder itself: check an index before it is opened
    #[command(name = app::CHECK_COMMAND, hide = true)]
    CheckIndex {
        /// The directory of the database
        db: PathBuf,
    },
    /// Read the configuration and report the settings that result
    Check {
        #[command(flatten)]
        source: ConfigArguments,
        /// Print one JSON object: problems, and the keys that differ from their defaults
        #[arg(long, conflicts_with = "online")]
        json: bool,
        /// Ask each upstream, too, and report what it says to Larder's credential
        #[arg(long)]
        online: bool,
        /// Ask the registry of this name, too, which a pattern of the configuration matches; may be
        /// repeated
        #[arg(long, value_name = "HOST", requires = "online")]
        host: Vec<String>,
        /// Report what Larder may do in this repository, such as `docker.io/library/alpine`; may
        /// be repeated
        #[arg(long, value_name = "REPOSITORY", requires = "online")]
        repository: Vec<String>,
    },
    /// Print a script that completes the commands and options of Larder in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Ask the running server whether it is ready; for health checks of containers
    Healthcheck {
        #[command(flatten)]
        source: ConfigArguments,
    },
    /// For packages: write the manual pages into a directory
    #[command(hide = true)]
    ManPages {
        /// The directory, which exists
        dir: PathBuf,
    },
    #[command(flatten)]
    OfCache(CacheCommand),
    /// Describe the configuration file
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON schema of the file, for editors that know TOML
    Schema,
}

const AFTER_HELP: &str = "\
Logs go to stderr; LARDER_LOG selects them, as in LARDER_LOG=info,larder::upstream=debug
Exit codes: 0 done, 1 failed, 2 bad usage or configuration";

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(arguments: &[&str], variables: &[(&str, &str)]) -> (ExitStatus, String, String) {
        let environment = variables.iter().copied().collect();
        let arguments = std::iter::once("larder").chain(arguments.iter().copied());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(arguments.map(OsString::from), &environment, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn asking_for_help_or_the_version_is_no_failure_but_bad_usage_is_2() {
        for good in [
            &["--version"][..],
            &["help"],
            &["--help"],
            &["help", "serve"],
            &["check", "-h"],
            &["help", "stats"],
            &["config", "schema"],
            &["completions", "bash"],
            &["completions", "zsh"],
            &["completions", "fish"],
        ] {
            let (exit, out, err) = outcome(good, &[]);
            assert_eq!((exit, err.as_str()), (ExitStatus::Done, ""), "{good:?}");
            assert!(!out.is_empty(), "{good:?}");
        }
        for bad in [
            &[][..],
            &["sreve"],
            &["serve", "--colour"],
            &["serve", "--config"],
            &["serve", "--log-format", "xml"],
            &["check", "--listen", "127.0.0.1:1"],
            &["check", "extra"],
            &["stats", "extra"],
            &["ls", "a", "b"],
            &["show"],
            &["rm", "--dry-run"],
            &["pin"],
            &["ls", "--sort", "colour"],
            &["ls", "--unused", "soon"],
            &["pulls", "--since", "soon"],
            &["verify", "--subset", "0%"],
            &["verify", "--subset", "5"],
            &["completions", "dos"],
            &["healthcheck", "extra"],
            &["config"],
            &["config", "example"],
        ] {
            let (exit, out, err) = outcome(bad, &[]);
            assert_eq!((exit, out.as_str()), (ExitStatus::Misused, ""), "{bad:?}");
            assert!(!err.is_empty(), "{bad:?}");
        }
        let (_, version, _) = outcome(&["--version"], &[]);
        assert_eq!(version, format!("larder {}\n", env!("CARGO_PKG_VERSION")));
    }

    /// `serve` must refuse before it opens anything, and say why on stderr.
    #[test]
    fn a_bad_configuration_is_2_for_serve_and_check() {
        let home = [("HOME", "/home/test")];
        let none = ["--config", "/nowhere/config.toml"];
        for command in ["serve", "check"] {
            let (exit, out, err) = outcome(&[command, none[0], none[1]], &home);
            assert_eq!((exit, out.as_str()), (ExitStatus::Misused, ""));
            assert_eq!(err, "error: there is no such file\n --> /nowhere/config.toml\n");
        }
        let (exit, _, err) = outcome(&["serve", "--listen", "localhost"], &home);
        assert_eq!(exit, ExitStatus::Misused);
        assert!(err.contains(" --> argument --listen\n key: listen\nhint: "), "{err}");
        let (exit, _, err) =
            outcome(&["serve"], &[("HOME", "/home/test"), ("LARDER_LOG", "larder=loud")]);
        assert_eq!(exit, ExitStatus::Misused);
        assert!(err.contains(" --> environment variable LARDER_LOG"), "{err}");
    }
}
