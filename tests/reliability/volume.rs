//! File systems of their own on loop devices: cloned at one instant, frozen, or over storage that
//! promises more than it has. All of it takes root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system that can clone files at one instant (XFS), in a file.
pub struct Lab {
    dir: TempDir,
}

impl Lab {
    /// Or why there can be none here.
    pub fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let this = Self { dir };
        let image = this.dir.path().join("base.img");
        sh("truncate", &["-s", "8G", &show(&image)])?;
        sh("mkfs.xfs", &["-q", "-m", "reflink=1", &show(&image)])?;
        std::fs::create_dir(this.base()).map_err(|error| error.to_string())?;
        sh("mount", &["-o", "loop", &show(&image), &show(&this.base())])?;
        Ok(this)
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(sh("umount", &["-l", &show(&self.base())]));
    }
}

/// A mounted file system in a file.
pub struct Volume {
    image: PathBuf,
    mount: PathBuf,
    kind: &'static str,
    clones: u32,
}

impl Volume {
    /// An `ext4` or `xfs` in a file of the lab.
    pub fn new(lab: &Lab, kind: &'static str) -> Result<Self, String> {
        Self::in_file(&lab.base(), &lab.dir.path().join(kind), kind)
    }

    /// The same in a file of any directory, mounted where there is nothing yet.
    pub fn in_file(dir: &Path, mount: &Path, kind: &'static str) -> Result<Self, String> {
        let image = dir.join(format!("{kind}.img"));
        sh("truncate", &["-s", "512M", &show(&image)])?;
        sh(&format!("mkfs.{kind}"), &["-q", &show(&image)])?;
        std::fs::create_dir_all(mount).map_err(|error| error.to_string())?;
        let this = Self { image, mount: mount.to_owned(), kind, clones: 0 };
        this.mount()?;
        Ok(this)
    }

    pub fn cache(&self) -> PathBuf {
        self.mount.join("cache")
    }

    fn mount(&self) -> Result<(), String> {
        let options = if self.kind == "xfs" { "loop,nouuid" } else { "loop" };
        sh("mount", &["-o", options, &show(&self.image), &show(&self.mount)])
    }

    /// A copy of the disk as it is at this instant; the rest is in memory only. It takes the place
    /// of the disk at the next [`Volume::cut`].
    pub fn snapshot(&mut self) -> Result<PathBuf, String> {
        self.clones += 1;
        let clone = self.image.with_file_name(format!("{}{}.img", self.kind, self.clones));
        sh("cp", &["--reflink=always", &show(&self.image), &show(&clone)])?;
        Ok(clone)
    }

    /// The machine has lost power when the snapshot was taken, and is on again. Nothing may have a
    /// file of the volume open.
    pub fn cut(&mut self, snapshot: PathBuf) -> Result<(), String> {
        sh("umount", &["-l", &show(&self.mount)])?;
        drop(std::fs::remove_file(&self.image));
        self.image = snapshot;
        self.mount()
    }

    /// Every change waits from now on, or goes on.
    pub fn freeze(&self, is_frozen: bool) -> Result<(), String> {
        sh("fsfreeze", &[if is_frozen { "-f" } else { "-u" }, &show(&self.mount)])
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        drop(sh("umount", &["-l", &show(&self.mount)]));
    }
}

/// Runs a command as root; its complaint if it fails.
pub fn sh(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program} cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
