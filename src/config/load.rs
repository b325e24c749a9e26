//! Finding the configuration and reading it: command line over environment over file over
//! defaults.

use std::path::{Path, PathBuf};

use super::changed_key::ChangedKey;
use super::diagnostics::{Diagnostic, Diagnostics, SourcePlace, ValueFault};
use super::document::Document;
use super::environment::{self, Environment};
use super::file::ConfigFile;
use super::keys::{FileTable, home_of, single_keys};
use super::reader::TomlReader;
use super::resolver::Resolver;
use super::settings::{self, Settings};

/// The arguments of the command line that are about the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigArgs {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--listen`, each time it was given.
    pub listen: Vec<String>,
}

/// The sources of a configuration, kept so that a reload reads them again.
#[derive(Clone)]
pub struct ConfigSource {
    /// The command line.
    pub arguments: ConfigArgs,
    /// The environment, as it was at the start.
    pub environment: Environment,
}

impl ConfigSource {
    /// Reads the configuration as it is now.
    pub fn load(&self) -> Result<LoadedConfig, Diagnostics> {
        load(&self.arguments, &self.environment)
    }
}

/// Settings, and where they are from.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The settings, defaults included.
    pub settings: Settings,
    /// The keys that differ from their defaults; `push` comes first.
    pub changed: Vec<ChangedKey>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// The variables and arguments that said something, over the file.
    pub overrides: Vec<String>,
}

/// Reads the configuration that `arguments` and `environment` point to.
///
/// Touches nothing, so it can be called again at any time to see what has changed.
pub fn load(
    arguments: &ConfigArgs,
    environment: &Environment,
) -> Result<LoadedConfig, Diagnostics> {
    load_with(arguments, environment, Path::new(SYSTEM_FILE))
}

/// Like [`load`], with the file that is read when none is named.
pub(super) fn load_with(
    arguments: &ConfigArgs,
    environment: &Environment,
    system_file: &Path,
) -> Result<LoadedConfig, Diagnostics> {
    let (path, file) = read(arguments, environment, system_file)?;
    let mut document = Document::parse(path.as_deref(), &file.bytes)?;
    let overrides = set_overrides(&mut document, arguments, environment)?;
    let (settings, changed) =
        resolve(&document, environment, path.as_deref(), file.is_world_readable)?;
    Ok(LoadedConfig { settings, changed, file: path, overrides })
}

/// Gives the keys of a document their meaning.
pub(super) fn resolve(
    document: &Document<'_>,
    environment: &Environment,
    path: Option<&Path>,
    is_world_readable: bool,
) -> Result<(Settings, Vec<ChangedKey>), Diagnostics> {
    let mut reader = TomlReader::new(document, home_of);
    let written = reader.read::<FileTable>();
    let Some(written) = written.filter(|_| !reader.is_malformed) else {
        return reader.into_result(None);
    };
    let mut changed = std::mem::take(&mut reader.changed);
    changed.sort_by_key(|it| it.key.rsplit('.').next() != Some("push"));
    let resolver = Resolver::new(reader, environment, path, is_world_readable);
    let mut settings = settings::resolve(written, resolver)?;
    settings.warnings.extend(unset_variables(document));
    Ok((settings, changed))
}

/// Warns of values such as `${TOKEN}`, which other programs would replace. The value itself is not
/// shown: it may be a password all the same.
fn unset_variables(document: &Document<'_>) -> Vec<Diagnostic> {
    let mut texts = document.texts();
    texts.retain(|(_, text)| is_variable(text));
    texts.sort_unstable();
    let warning = |(at, _)| {
        let fault = ValueFault::new("this reads like a variable, and is taken as it is");
        let hint = "Larder replaces no variables in the file; `password_env` names one, and \
                    `LARDER_…` variables win over keys";
        fault.hint(hint).at(document.place(at), None)
    };
    texts.into_iter().map(warning).collect()
}

/// Whether a text is `$NAME` or `${NAME}` and nothing else.
fn is_variable(text: &str) -> bool {
    let Some(name) = text.strip_prefix('$') else { return false };
    let name = name.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(name);
    !name.is_empty() && name.chars().all(|it| it.is_ascii_uppercase() || "_0123456789".contains(it))
}

/// The file that is named, else the system's, else none, which is as good as an empty one.
fn read(
    arguments: &ConfigArgs,
    environment: &Environment,
    system_file: &Path,
) -> Result<(Option<PathBuf>, ConfigFile), Diagnostics> {
    let named = arguments.config.clone().or_else(|| environment.path(environment::CONFIG));
    let path = named.clone().unwrap_or_else(|| system_file.to_owned());
    let file = match named {
        Some(_) => ConfigFile::read_present(&path, FILE_LEN_MAX).map(Some),
        None => ConfigFile::read(&path, FILE_LEN_MAX),
    };
    match file {
        Ok(Some(file)) => Ok((Some(path), file)),
        Ok(None) => Ok((None, ConfigFile::default())),
        Err(fault) => Err(fault.at(SourcePlace::WholeFile(path), None).into()),
    }
}

fn set_overrides(
    document: &mut Document<'_>,
    arguments: &ConfigArgs,
    environment: &Environment,
) -> Result<Vec<String>, Diagnostics> {
    let mut overrides = Vec::new();
    for (table, key) in single_keys() {
        let name = environment::variable(table, key);
        let Some(value) = environment.text(&name) else { continue };
        let place = SourcePlace::Variable(name.clone());
        let value = value.map_err(|fault: ValueFault| fault.at(place.clone(), None))?;
        document.set(table, key, value.to_owned(), place);
        overrides.push(name);
    }
    if !arguments.listen.is_empty() {
        document.set("", "listen", arguments.listen.join(","), SourcePlace::Argument("--listen"));
        overrides.push("--listen".to_owned());
    }
    Ok(overrides)
}

/// The file that is read when none is named, if it is there.
const SYSTEM_FILE: &str = "/etc/larder/config.toml";

/// A thousand registries fit in a megabyte.
const FILE_LEN_MAX: u64 = 10 << 20;
