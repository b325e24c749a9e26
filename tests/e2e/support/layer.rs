//! Layers: a Debian root file system by debootstrap, and noise of any length.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::hash::{self, Hashing};
use super::tools;

/// A layer in a file.
pub(crate) struct Layer {
    pub(crate) file: PathBuf,
    pub(crate) media_type: &'static str,
    /// The digest of the tar inside, which the image's configuration lists.
    pub(crate) diff_id: String,
}

/// Debian bookworm, as small as debootstrap makes it; compressed.
///
/// Fails without debootstrap, without root, and without a Debian mirror in reach.
pub(crate) fn debian(dir: &Path) -> Result<Layer, String> {
    let root = dir.join("rootfs");
    debootstrap(&root, &["--variant=minbase"])?;
    Ok(compressed(&root, dir))
}

/// Makes a root file system of Debian bookworm.
pub(crate) fn debootstrap(root: &Path, options: &[&str]) -> Result<(), String> {
    // Not `tools::command`: it may need this machine's proxy.
    let mut debootstrap = Command::new("/usr/sbin/debootstrap");
    tools::run(debootstrap.args(options).arg("bookworm").arg(root)).map(drop)
}

/// `/bin/busybox` under the names that the tests use; compressed.
pub(crate) fn busybox(dir: &Path) -> Layer {
    let root = dir.join("busybox");
    fs::create_dir_all(root.join("bin")).expect("the image's directory can be written");
    fs::create_dir_all(root.join("etc")).expect("the image's directory can be written");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox is here");
    for name in ["sh", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a new link");
    }
    fs::write(root.join("etc/os-release"), "ID=debian\n").expect("a new file can be written");
    compressed(&root, dir)
}

/// A tar with one text file.
pub(crate) fn text(dir: &Path, name: &str, text: &str) -> Layer {
    write(dir.join("text.tar"), name, text.len() as u64, |tar| tar.write_all(text.as_bytes()))
}

/// A tar with one file of `len` bytes that no two blocks of are alike, the same in every run.
pub(crate) fn noise(dir: &Path, len: u64) -> Layer {
    let mut random = fastrand::Rng::with_seed(len);
    let mut chunk = vec![0; CHUNK];
    random.fill(&mut chunk);

    write(dir.join("noise.tar"), "noise", len, |tar| {
        for at in 0..len / CHUNK as u64 {
            // Much cheaper than a new chunk, and enough to notice any that is lost or swapped.
            for block in chunk.chunks_mut(BLOCK) {
                block[..8].copy_from_slice(&at.to_le_bytes());
            }
            tar.write_all(&chunk)?;
        }
        tar.write_all(&vec![0; usize::try_from(len % CHUNK as u64).expect("less than a chunk")])
    })
}

fn compressed(root: &Path, dir: &Path) -> Layer {
    let (tar, gz) = (dir.join("rootfs.tar"), dir.join("rootfs.tar.gz"));
    let mut pack = Command::new("tar");
    pack.args(["--numeric-owner", "--sort=name", "--exclude=./dev/*"]);
    pack.args(["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]);
    pack.args(["--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*"]);
    pack.arg("-C").arg(root).arg("-cf").arg(&tar).arg(".");
    tools::run(&mut pack).expect("tar packs a root file system");
    let mut gzip = Command::new("gzip");
    gzip.args(["-n", "-1", "-c"]).arg(&tar);
    gzip.stdout(File::create(&gz).expect("the image's directory can be written"));
    tools::run(&mut gzip).expect("gzip compresses a layer");

    Layer { file: gz, media_type: TAR_GZIP, diff_id: hash::of_file(&tar) }
}

fn write(
    file: PathBuf,
    name: &str,
    len: u64,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Layer {
    let made = || {
        let mut tar = Hashing::new(BufWriter::with_capacity(CHUNK, File::create(&file)?));
        tar.write_all(&header(name, len))?;
        content(&mut tar)?;
        let padding = len.next_multiple_of(TAR_BLOCK as u64) - len;
        // Two empty blocks end a tar.
        let end = usize::try_from(padding).expect("less than a block") + 2 * TAR_BLOCK;
        tar.write_all(&vec![0; end])?;
        tar.finish()
    };
    let (diff_id, _) = made().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Layer { file, media_type: TAR, diff_id }
}

/// The ustar header of a regular file.
fn header(name: &str, len: u64) -> [u8; TAR_BLOCK] {
    let mut header = [0; TAR_BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{len:011o}\0"));
    put(136, "00000000000\0");
    // The checksum counts its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAR_BLOCK: usize = 512;
const BLOCK: usize = 4096;
const CHUNK: usize = 1 << 20;
