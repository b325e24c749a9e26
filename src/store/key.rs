//! The key by which uploads under way are sealed, made once for each cache directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::Store;
use super::records::read_small;

impl Store {
    /// The key of this directory; `fresh` from now on, if there is none of that length. Blocks.
    pub fn session_key(&self, fresh: Vec<u8>) -> io::Result<Vec<u8>> {
        let path = self.layout.session_key();
        let len = fresh.len();
        if let Some(key) = read_small(&path, len as u64 + 1)?.filter(|key| key.len() == len) {
            return Ok(key);
        }
        let draft = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&fresh)?;
        // Half a key after a power cut would end every upload under way.
        rustix::fs::fdatasync(&file)?;
        fs::rename(draft, path)?;
        Ok(fresh)
    }
}
