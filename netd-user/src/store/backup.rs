//! Copies of the embedded store: made while it is in use, kept by turns, checked, and put back.
//!
//! Laws: a copy appears under its name complete, checked and synced, or not at all; what is put back was
//! checked before, and what it replaces stays beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, backup::Backup as Copying};

use super::seal::{Mark, sync_directory};
use super::sqlite::{FILE_NAME, connect, examine, judge};
use super::{Contents, StoreError};

/// Directory of the copies, within the state directory.
pub const DIRECTORY: &str = "backups";

/// How many copies are kept; the oldest goes first.
const KEPT: usize = 8;

/// What a store that was replaced is called from then on.
const REPLACED: &str = "netd.db.replaced";

/// SQLite's own files beside the store.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A store or a copy of one that was found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// The file.
    pub path: PathBuf,
    /// Its revision.
    pub revision: u64,
    /// How many networks, sandboxes and endpoints it holds.
    pub objects: [usize; 3],
}

/// Copies the store of `state_dir`, which may be in use, to `target` or to the next place in turn.
pub fn create(state_dir: &Path, target: Option<&Path>) -> Result<Sound, StoreError> {
    let store = state_dir.join(FILE_NAME);
    let (source, contents) = open_sound(&store, state_dir)?;
    if let Some(target) = target {
        if target.exists() {
            return Err(failed(target)("it exists already: name another file"));
        }
        copy(&source, target)?;
        return verify(target);
    }
    let directory = state_dir.join(DIRECTORY);
    fs::create_dir_all(&directory).map_err(failed_io(&directory))?;
    let target = directory.join(name(contents.revision));
    copy(&source, &target)?;
    let sound = verify(&target)?;
    for old in copies(state_dir).into_iter().rev().skip(KEPT) {
        fs::remove_file(&old).map_err(failed_io(&old))?;
    }
    Ok(sound)
}

/// Copies the store in turn, unless the newest copy holds the same revision.
pub fn rotate(state_dir: &Path) -> Result<Option<Sound>, StoreError> {
    let (_, contents) = open_sound(&state_dir.join(FILE_NAME), state_dir)?;
    let newest = copies(state_dir).pop().and_then(|path| revision_in(&path));
    if newest == Some(contents.revision) { Ok(None) } else { create(state_dir, None).map(Some) }
}

/// Checks a store or a copy: its pages, its digest, and that every object reads back.
pub fn verify(file: &Path) -> Result<Sound, StoreError> {
    open(file).map(|(_, contents)| contents).and_then(|contents| sound(file, &contents))
}

/// Checks the store of `state_dir`, also against the mark of what was acknowledged.
pub fn verify_store(state_dir: &Path) -> Result<Sound, StoreError> {
    let store = state_dir.join(FILE_NAME);
    let (_, contents) = open_sound(&store, state_dir)?;
    sound(&store, &contents)
}

/// Every copy made in turn, oldest first.
pub fn copies(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| revision_in(path).is_some()).collect();
    found.sort();
    found
}

/// Puts `file` in the place of the store of `state_dir`. The caller holds the lock of the directory.
pub fn restore(state_dir: &Path, file: &Path) -> Result<Sound, StoreError> {
    let (source, contents) = open(file)?;
    let checked = sound(file, &contents)?;
    let store = state_dir.join(FILE_NAME);
    let incoming = state_dir.join(format!("{FILE_NAME}.incoming"));
    remove(&incoming)?;
    copy(&source, &incoming)?;
    // From here to the last step there is no store, which the mark tells the next start.
    for companion in ["", COMPANIONS[0], COMPANIONS[1]] {
        let from = state_dir.join(format!("{FILE_NAME}{companion}"));
        let to = state_dir.join(format!("{REPLACED}{companion}"));
        remove(&to)?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed_io(&from)(error));
            }
            _ => {}
        }
    }
    fs::rename(&incoming, &store).map_err(failed_io(&store))?;
    let mut mark = Mark::of(&store);
    let marked = mark.replace(contents.revision).and_then(|()| sync_directory(state_dir));
    marked.map_err(failed_io(&store))?;
    Ok(Sound { path: store, ..checked })
}

/// What to do about a damaged store: the newest sound copy is named.
pub(super) fn remedy(state_dir: &Path) -> String {
    let start_empty = format!(
        "move {FILE_NAME}, {FILE_NAME}-wal and {FILE_NAME}-acknowledged away to start empty"
    );
    match copies(state_dir).into_iter().rev().find_map(|path| verify(&path).ok()) {
        Some(sound) => format!(
            "restore revision {} by `netd store restore {}`, or {start_empty}",
            sound.revision,
            sound.path.display()
        ),
        None => format!("restore a backup by `netd store restore FILE`, or {start_empty}"),
    }
}

/// The live store, sound and with all that was acknowledged.
fn open_sound(store: &Path, state_dir: &Path) -> Result<(Connection, Contents), StoreError> {
    let remedied = |error: StoreError| error.with_remedy(&remedy(state_dir));
    let (connection, contents) = open(store).map_err(remedied)?;
    match Mark::of(store).read() {
        Some(acknowledged) if acknowledged > contents.revision => {
            // A commit may have come in between: the store is read first, the mark second.
            let again = examine(&connection, store).map_err(remedied)?;
            if again.revision >= acknowledged {
                return Ok((connection, again));
            }
            let held = again.revision;
            let reason = format!("it holds revision {held}, but {acknowledged} was acknowledged");
            Err(StoreError::Damaged { path: store.to_owned(), reason, remedy: remedy(state_dir) })
        }
        Some(_) | None => Ok((connection, contents)),
    }
}

fn open(file: &Path) -> Result<(Connection, Contents), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(file, flags)?;
    let contents = examine(&connection, file)?;
    Ok((connection, contents))
}

fn sound(file: &Path, contents: &Contents) -> Result<Sound, StoreError> {
    let (model, _) = contents.decode()?;
    let objects = [model.networks.len(), model.sandboxes.len(), model.endpoints.len()];
    Ok(Sound { path: file.to_owned(), revision: contents.revision, objects })
}

/// A file of its own, without a log beside it, under its name only when it is whole.
fn copy(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let mut unfinished = target.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    remove(&unfinished)?;
    let copied = copy_pages(source, &unfinished).and_then(|()| {
        let synced = fs::File::open(&unfinished).and_then(|file| file.sync_all());
        let named = synced.and_then(|()| fs::rename(&unfinished, target));
        let directory = target.parent().filter(|path| !path.as_os_str().is_empty());
        named
            .and_then(|()| sync_directory(directory.unwrap_or(Path::new("."))))
            .map_err(failed_io(target))
    });
    if copied.is_err() {
        remove(&unfinished)?;
    }
    copied
}

fn copy_pages(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let told = |error: rusqlite::Error| failed(target)(&error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = connect(target, flags)?;
    let copying = Copying::new(source, &mut copy).map_err(told)?;
    // All pages in one step: readers don't hold up a store with a write-ahead log.
    copying.run_to_completion(i32::MAX, Duration::from_millis(50), None).map_err(told)?;
    drop(copying);
    let turned = copy.pragma_update(None, "journal_mode", "DELETE");
    turned.map_err(|error| judge(target, &error))?;
    copy.close().map_err(|(_, error)| told(error))
}

/// Sorts by time: seconds since 1970, then the revision.
fn name(revision: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("netd-{:011}-r{revision:010}.db", now.as_secs())
}

fn revision_in(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("netd-")?.strip_suffix(".db")?.split_once("-r")?.1.parse().ok()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed_io(path)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl Fn(&str) -> StoreError {
    let path = path.to_owned();
    move |reason| StoreError::Copy { path: path.clone(), reason: reason.to_owned() }
}

fn failed_io(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let failed = failed(path);
    move |error| failed(&error.to_string())
}
