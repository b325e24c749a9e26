//! The files of a client: read, compared, written, and put back as they were.
//!
//! Beside a file that `larder setup` has changed lie two others: `FILE.before-larder` with the text
//! from before the first change, unless there was no file, and `FILE.by-larder` with the text that
//! it has from Larder. The second shows whether the file was changed since by others.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::command_cache::CommandError;
use crate::control::ControlFailure;
use crate::setup::PlannedFile;

/// The text of a file, if it exists.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a file before Larder's first change.
pub(super) fn read_original(path: &Path) -> io::Result<Option<String>> {
    let places = FilePlaces::of(path);
    let is_changed = places.by_larder.exists() || places.kept.exists();
    read(if is_changed { &places.kept } else { path })
}

/// The `hosts.toml` files below a directory that Larder has written, one in a directory of each
/// registry, whichever registries they are for.
pub(super) fn written_hosts(dir: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let failed = |error: io::Error| not_written(dir, &error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path().join(HOSTS_FILE)));
    let mut paths = paths.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.retain(|path| FilePlaces::of(path).by_larder.exists());
    paths.sort_unstable();
    Ok(paths)
}

/// The change of a file, as a difference.
pub(super) fn difference(path: &Path, before: Option<&str>, after: Option<&str>) -> String {
    let name = path.display().to_string();
    if before == after {
        return format!("unchanged {name}\n");
    }
    let named = |text: Option<&str>| if text.is_some() { name.clone() } else { NO_FILE.to_owned() };
    let changes = TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default());
    changes.unified_diff().header(&named(before), &named(after)).to_string()
}

/// Writes a file whole or not at all, with the permissions that it has.
pub(super) fn write(file: &PlannedFile) -> Result<String, CommandError> {
    if file.before.as_ref() == Some(&file.after) {
        return Ok(format!("unchanged {}\n", file.path.display()));
    }
    let written = || -> io::Result<()> {
        fs::create_dir_all(file.path.parent().unwrap_or(Path::new("/")))?;
        let places = FilePlaces::of(&file.path);
        let by_larder = read(&places.by_larder)?;
        if file.before.is_some() && file.before != by_larder && !places.kept.exists() {
            fs::copy(&places.file, &places.kept)?;
        }
        let permissions = permissions_of(&places.file);
        // Lines that others have added since would be lost by going back: the old text stays.
        let kept = read(&places.kept)?;
        if by_larder.is_none() || by_larder == file.before || kept == file.before {
            replace(&places.by_larder, &file.after, permissions.clone())?;
        }
        replace(&places.file, &file.after, permissions)
    };
    written().map_err(|error| not_written(&file.path, &error))?;
    Ok(format!("written {}\n", file.path.display()))
}

/// A file that is to be as it was before Larder's first change.
pub(super) struct FileUndo {
    /// Its path, as it is shown.
    path: PathBuf,
    places: FilePlaces,
    now: Option<String>,
    original: Option<String>,
}

impl FileUndo {
    /// The change to undo at a path; an error if others have changed the file since.
    pub(super) fn of(path: &Path) -> Result<Self, CommandError> {
        let places = FilePlaces::of(path);
        let read = || {
            let original = read_original(path)?;
            Ok((read(&places.file)?, read(&places.by_larder)?, original))
        };
        let (now, by_larder, original) = read().map_err(|error| not_written(path, &error))?;
        if now != original && now != by_larder {
            let error = format!("{} was changed since Larder wrote it", path.display());
            let kept = places.kept.display();
            let hint = match original {
                Some(_) => format!("take Larder's lines out; `{kept}` is the file before them"),
                None => "take Larder's lines out, or remove it: there was no such file".to_owned(),
            };
            return Err(ControlFailure { error, hint: Some(hint) }.into());
        }
        Ok(Self { path: path.to_owned(), places, now, original })
    }

    /// Whether the file is another one than before.
    pub(super) fn is_needed(&self) -> bool {
        self.now != self.original
    }

    /// The change, as a difference.
    pub(super) fn difference(&self) -> String {
        difference(&self.path, self.now.as_deref(), self.original.as_deref())
    }

    /// Puts the file back, or removes it. One that was interrupted is begun again.
    pub(super) fn carry_out(&self) -> Result<String, CommandError> {
        let FilePlaces { file, kept, by_larder } = &self.places;
        let undone = || -> io::Result<&str> {
            let deed = match &self.original {
                _ if !self.is_needed() => "unchanged",
                Some(text) => {
                    replace(file, text, permissions_of(kept))?;
                    "restored"
                }
                None => {
                    fs::remove_file(file)?;
                    "removed"
                }
            };
            remove(by_larder)?;
            remove(kept)?;
            if file.ends_with(HOSTS_FILE) && self.original.is_none() {
                // The directory of a registry; one with other files stays.
                file.parent().map(fs::remove_dir);
            }
            Ok(deed)
        };
        let deed = undone().map_err(|error| not_written(&self.path, &error))?;
        Ok(format!("{deed} {}\n", self.path.display()))
    }
}

/// A file of a client, and those that are kept beside it.
struct FilePlaces {
    file: PathBuf,
    kept: PathBuf,
    by_larder: PathBuf,
}

impl FilePlaces {
    /// A link goes on to lead to the file.
    fn of(path: &Path) -> Self {
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let kept = beside(&file, "before-larder");
        let by_larder = beside(&file, "by-larder");
        Self { file, kept, by_larder }
    }
}

fn permissions_of(path: &Path) -> fs::Permissions {
    let there = fs::metadata(path).map(|metadata| metadata.permissions());
    there.unwrap_or_else(|_| fs::Permissions::from_mode(0o644))
}

fn replace(path: &Path, text: &str, permissions: fs::Permissions) -> io::Result<()> {
    let new = beside(path, "new-larder");
    // There may be passwords in it.
    remove(&new)?;
    let mut options = fs::OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(text.as_bytes())?;
    written.set_permissions(permissions)?;
    fs::rename(new, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn not_written(path: &Path, error: &io::Error) -> CommandError {
    let error = format!("cannot write {}: {error}", path.display());
    ControlFailure { error, hint: Some("run it as root".to_owned()) }.into()
}

/// The name of no file in a difference.
const NO_FILE: &str = "/dev/null";

/// The file that has a directory of its own for each registry.
const HOSTS_FILE: &str = "hosts.toml";
