//! What shows that a store holds exactly what was acknowledged: a digest over its rows, kept in the same
//! transaction as the rows, and a mark beside the file that names the last revision acknowledged.
//!
//! Laws: the mark is written after the commit that it tells of, so it is never ahead of a sound store; a
//! mark that can't be read proves nothing and is passed over. SQLite sums up no pages: without the digest
//! a page of an older time would pass for a good one, and without the mark a shortened log for a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Row;

/// What the file's name has beyond the store's.
const SUFFIX: &str = "-acknowledged";

/// What one row adds to the digest; digests of rows add up, wrapping, in any order.
pub(super) fn digest_of(kind: &str, id: &str, row: &Row) -> u64 {
    let fields = [kind.as_bytes(), id.as_bytes(), row.json.as_bytes()];
    let seed = 0xcbf2_9ce4_8422_2325 ^ u64::from(row.schema);
    let hash = fields.into_iter().fold(seed, |hash, field| fnv(fnv(hash, field), &[0xff]));
    mix(hash)
}

/// FNV-1a.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The last step of `MurmurHash3`: sums of hashes that differ in few bits must not cancel out.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The mark beside a store.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: Option<File>,
}

impl Mark {
    /// That of the store at `store`.
    pub(super) fn of(store: &Path) -> Self {
        let mut path = store.as_os_str().to_owned();
        path.push(SUFFIX);
        Self { path: path.into(), file: None }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last revision acknowledged, where it can be told.
    pub(super) fn read(&self) -> Option<u64> {
        fs::read_to_string(&self.path).ok()?.trim().parse().ok()
    }

    /// Writes it in place: twenty digits, which no disk tears.
    pub(super) fn write(&mut self, revision: u64) -> io::Result<()> {
        let text = format!("{revision:020}\n");
        if self.file.is_none() {
            let options = OpenOptions::new().write(true).create(true).truncate(false).clone();
            self.file = Some(options.open(&self.path)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(text.as_bytes(), 0)
    }

    /// Writes it anew, whole and synced.
    pub(super) fn replace(&mut self, revision: u64) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        file.write_all(format!("{revision:020}\n").as_bytes())?;
        file.sync_all()?;
        self.file = Some(file);
        Ok(())
    }
}

/// Makes names in a directory last.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
