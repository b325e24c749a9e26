//! The entries of a tar archive, and nothing else than plain names and plain files of it.
//!
//! Nothing is unpacked, so no path is ever opened. Sparse files are refused: a few bytes of them
//! are terabytes. The only place that reads or writes the format.

use std::cell::Cell;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::rc::Rc;

use tar::{Archive, Builder, EntryType, Header};

use super::BundleError;

/// An entry of an archive.
pub(super) struct ArchiveEntry<'a> {
    /// Its path, without `.` and doubled slashes.
    pub(super) name: String,
    pub(super) content: EntryContent<'a>,
}

/// The content of an entry.
pub(super) enum EntryContent<'a> {
    /// A file of so many bytes, as the archive states it.
    File(u64, &'a mut dyn Read),
    /// A symbolic link with this target, as it is written.
    Link(String),
}

/// Shows each file and link of an archive, in their order. The rest of a file that is not
/// read to its end is skipped.
///
/// # Errors
///
/// [`BundleError::Unreadable`], [`BundleError::BadPath`], [`BundleError::NotAFile`], and those of
/// `show`.
pub(super) fn each_entry(
    reader: impl Read,
    show: &mut dyn FnMut(ArchiveEntry<'_>) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let left = Rc::new(Cell::new(HEADER_BYTES_MAX));
    let mut archive = Archive::new(HeaderMeter { inner: reader, left: Rc::clone(&left) });
    let mut entries = archive.entries().map_err(BundleError::Unreadable)?;
    loop {
        left.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(BundleError::Unreadable)?;
        left.set(u64::MAX);
        let kind = entry.header().entry_type();
        let name = plain_name(&entry.path_bytes())?;
        if kind.is_file() || kind.is_contiguous() {
            let len = entry.size();
            let content = EntryContent::File(len, &mut entry);
            show(ArchiveEntry { name, content })?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let content = EntryContent::Link(String::from_utf8_lossy(&target).into_owned());
            show(ArchiveEntry { name, content })?;
        } else if !kind.is_dir() && !kind.is_pax_global_extensions() {
            return Err(BundleError::NotAFile { name, kind: kind_name(kind) });
        }
        io::copy(&mut entry, &mut io::sink()).map_err(BundleError::Unreadable)?;
    }
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown kind",
    }
}

/// The path of an entry as it is compared; empty for the archive's root.
fn plain_name(bytes: &[u8]) -> Result<String, BundleError> {
    let bad = || BundleError::BadPath(String::from_utf8_lossy(bytes).escape_debug().to_string());
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let is_plain = |part: &&str| *part != ".." && !part.contains(char::is_control);
    if bytes.len() > NAME_BYTES_MAX || text.starts_with('/') || !parts.iter().all(is_plain) {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

/// Bounds what the parser reads for one header, long names and extensions with it.
struct HeaderMeter<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for HeaderMeter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::other("a header of it is too long"))?;
        self.left.set(left);
        Ok(count)
    }
}

/// Writes an archive: the same entries make the same bytes. Without [`ArchiveWriter::finish`] it
/// has no end.
#[derive(Debug)]
pub(super) struct ArchiveWriter<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(WRITE_BYTES, out) }
    }

    /// Appends a file of exactly `len` bytes.
    pub(super) fn file(&mut self, name: &str, len: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(len);
        let mut bytes = BufReader::with_capacity(WRITE_BYTES, bytes).take(len);
        let mut builder = Builder::new(&mut self.out);
        let written = builder.append_data(&mut header, name, &mut bytes);
        // Its drop would end the archive.
        std::mem::forget(builder);
        written?;
        if bytes.limit() > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()
    }
}

/// Bytes that are read and written at once.
const WRITE_BYTES: usize = 256 << 10;

/// A path of a bundle takes 140 bytes, that of a registry's tree some hundred more.
const NAME_BYTES_MAX: usize = 1024;

/// Headers take 512 bytes, and some times that with extensions.
const HEADER_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut show = |entry: ArchiveEntry<'_>| {
            names.push(entry.name);
            Ok(())
        };
        let read = each_entry(archive, &mut show);
        read.map(|()| names).map_err(|error| error.to_string())
    }

    /// An archive of one entry, whose name is written as it is.
    fn one(kind: EntryType, name: &str, size: u64, data: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
        archive
    }

    #[test]
    fn names_are_plain_and_lead_nowhere_else() {
        for (name, want) in [("a/b", "a/b"), ("./a//b", "a/b"), ("a/./b", "a/b")] {
            assert_eq!(names(&one(EntryType::Regular, name, 0, b"")).unwrap(), [want], "{name}");
        }
        for name in ["/a", "../a", "a/../../b", "a/..", "a\nb", "\u{1b}[2J"] {
            let refused = names(&one(EntryType::Regular, name, 0, b"")).unwrap_err();
            assert!(refused.contains("no path in the archive"), "{name}: {refused}");
        }
    }

    #[test]
    fn only_files_and_symbolic_links_are_shown() {
        for (kind, why) in [
            (EntryType::Link, "a hard link"),
            (EntryType::Char, "a device"),
            (EntryType::Block, "a device"),
            (EntryType::Fifo, "a pipe"),
            (EntryType::new(b'Z'), "of an unknown kind"),
        ] {
            let refused = names(&one(kind, "a", 0, b"")).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert_eq!(names(&one(EntryType::Directory, "a", 0, b"")).unwrap(), [""; 0]);
        assert_eq!(names(&one(EntryType::Symlink, "a", 0, b"")).unwrap(), ["a"]);
    }

    /// A name of gigabytes would be read into memory.
    #[test]
    fn a_header_of_any_length_costs_a_mebibyte() {
        let name = vec![b'a'; 3 << 20];
        let refused = names(&one(EntryType::GNULongName, "x", name.len() as u64, &name));
        assert!(refused.unwrap_err().contains("too long"));
    }

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let written = || {
            let mut out = Vec::new();
            let mut writer = ArchiveWriter::new(&mut out);
            writer.file("a/b", 3, &mut &b"abc"[..]).unwrap();
            writer.finish().unwrap();
            out
        };
        assert_eq!(written(), written());
        assert_eq!(names(&written()).unwrap(), ["a/b"]);
    }
}
