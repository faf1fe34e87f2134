//! Power loss: whatever is cut off or torn out of the store's files, what opens is what was acknowledged,
//! and what does not open names the backup to restore.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::backup;

/// Sizes that disks write whole.
const SECTOR_LEN: usize = 512;

/// How a file lost what stands behind a point.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// It ends there.
    Cut,
    /// It keeps its length, but one sector is of another time.
    Torn,
    /// All behind the point was never written.
    Zeroed,
}

const LOSSES: [Loss; 3] = [Loss::Cut, Loss::Torn, Loss::Zeroed];

fn lose(path: &Path, at: usize, loss: Loss) {
    let mut bytes = fs::read(path).expect("read");
    match loss {
        Loss::Cut => bytes.truncate(at),
        Loss::Torn => {
            let end = (at + SECTOR_LEN).min(bytes.len());
            bytes[at..end].fill(0xa5);
        }
        Loss::Zeroed => bytes[at..].fill(0),
    }
    fs::write(path, bytes).expect("write");
}

/// Copies the store's files, as they lie on the disk while the store is in use.
fn snapshot(from: &Path, to: &Path) {
    fs::create_dir_all(to.join(backup::DIRECTORY)).expect("directory");
    for entry in fs::read_dir(from)
        .expect("list")
        .chain(fs::read_dir(from.join(backup::DIRECTORY)).expect("list"))
    {
        let path = entry.expect("entry").path();
        if path.is_file() && path.extension().is_none_or(|it| it != "db-shm") {
            let within = path.strip_prefix(from).expect("within");
            fs::copy(&path, to.join(within)).expect("copy");
        }
    }
}

/// A store in the middle of its life: some of it in the file, some in the log, and a copy of its youth.
struct Life {
    directory: tempfile::TempDir,
    acknowledged: Contents,
    _open: SqliteStore,
}

impl Life {
    fn lead(checkpoint: bool) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut store = open(directory.path());
        let mut acknowledged = Contents::default();
        let mut commit = |store: &mut SqliteStore, revision: u64| {
            let id = format!("{:064x}", revision % 5);
            let json = format!("\"{}\"", "x".repeat(700 + 100 * (revision % 7) as usize));
            let gone = format!("{:064x}", (revision + 2) % 5);
            let change = change(revision, &[(Kind::Memory, &id, &json)], &[(Kind::Memory, &gone)]);
            store.commit(&change).expect("commit");
            acknowledged.apply(&change);
        };
        for revision in 1..=4 {
            commit(&mut store, revision);
        }
        Self::copy(directory.path());
        for revision in 5..=8 {
            commit(&mut store, revision);
        }
        if checkpoint {
            // Closing puts the log into the file.
            drop(store);
            store = open(directory.path());
        }
        for revision in 9..=12 {
            commit(&mut store, revision);
        }
        Self { directory, acknowledged, _open: store }
    }

    /// The rows of this life are no memory that reads back, so it is not `backup::create` that copies.
    fn copy(directory: &Path) {
        let copies = directory.join(backup::DIRECTORY);
        fs::create_dir_all(&copies).expect("directory");
        let other = tempfile::tempdir().expect("directory");
        let mut sound = open(other.path());
        sound.commit(&change(4, &[], &[])).expect("commit");
        drop(sound);
        let target = copies.join("netd-00000000004-r4.db");
        fs::copy(other.path().join(FILE_NAME), target).expect("copy");
    }

    /// Loses in a copy of the files, and opens that.
    fn after(&self, file: &str, at: usize, loss: Loss) -> Result<Contents, StoreError> {
        let copy = tempfile::tempdir().expect("directory");
        snapshot(self.directory.path(), copy.path());
        lose(&copy.path().join(file), at, loss);
        SqliteStore::open(copy.path()).and_then(|mut store| store.load())
    }

    fn len(&self, file: &str) -> usize {
        usize::try_from(fs::metadata(self.directory.path().join(file)).expect("file").len())
            .expect("length")
    }
}

#[test]
fn whatever_power_loss_does_to_its_files_a_store_opens_as_acknowledged_or_names_a_backup() {
    let (mut opened, mut refused) = (0, 0);
    for life in [Life::lead(false), Life::lead(true)] {
        for file in [FILE_NAME, "netd.db-wal"] {
            let points = (0..life.len(file)).step_by(SECTOR_LEN);
            for (at, loss) in points.flat_map(|at| LOSSES.map(|loss| (at, loss))) {
                match life.after(file, at, loss) {
                    Ok(contents) => {
                        assert_eq!(contents, life.acknowledged, "{file} {loss:?} at {at}");
                        opened += 1;
                    }
                    Err(error) => {
                        let error = error.to_string();
                        let names = "restore revision 4 by `netd store restore /";
                        assert!(error.contains(names), "{file} {loss:?} at {at}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(opened > 10 && refused > 100, "{opened} opened, {refused} refused");
}

#[test]
fn log_that_was_torn_behind_what_was_acknowledged_does_no_harm() {
    let life = Life::lead(true);
    let copy = tempfile::tempdir().expect("directory");
    snapshot(life.directory.path(), copy.path());
    let log = copy.path().join("netd.db-wal");
    let mut bytes = fs::read(&log).expect("read");
    bytes.extend([0xa5; 5000]);
    fs::write(&log, bytes).expect("write");
    assert_eq!(open(copy.path()).load().expect("load"), life.acknowledged);
}

#[test]
fn store_without_a_mark_or_with_a_torn_one_opens() {
    let life = Life::lead(true);
    for mark in [None, Some(""), Some("0000\0\0")] {
        let copy = tempfile::tempdir().expect("directory");
        snapshot(life.directory.path(), copy.path());
        let path = copy.path().join("netd.db-acknowledged");
        match mark {
            Some(text) => fs::write(&path, text),
            None => fs::remove_file(&path),
        }
        .expect("mark");
        assert_eq!(open(copy.path()).load().expect("load"), life.acknowledged);
    }
}

#[test]
fn store_of_the_first_version_gets_its_digest() {
    let directory = tempfile::tempdir().expect("directory");
    let old = rusqlite::Connection::open(directory.path().join(FILE_NAME)).expect("open");
    old.execute_batch(
        "CREATE TABLE objects (kind TEXT NOT NULL, id TEXT NOT NULL, schema INTEGER NOT NULL,
             json TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
         CREATE TABLE revision (one INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
         INSERT INTO revision VALUES (1, 3);
         INSERT INTO objects VALUES ('network', 'a', 1, '1');
         PRAGMA user_version = 1;",
    )
    .expect("old store");
    drop(old);
    let mut store = open(directory.path());
    store.commit(&change(4, &[(Kind::Network, "b", "2")], &[])).expect("commit");
    drop(store);
    let contents = open(directory.path()).load().expect("load");
    assert_eq!((contents.revision, contents.rows.len()), (4, 2));
}

fn memory() -> Change {
    let mut change = change(1, &[], &[]);
    let prefix = "fd00:1234:5678::/48".parse().expect("prefix");
    change.remember(&Memory { ula_prefix: prefix, next_port: BTreeMap::new() }).expect("row");
    change
}

fn files(directory: &Path) -> Vec<PathBuf> {
    backup::copies(directory)
}

#[test]
fn copy_of_a_store_in_use_is_put_back_and_what_it_replaces_is_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    store.commit(&memory()).expect("commit");
    let before = store.load().expect("load");
    let copy = backup::create(directory.path(), None).expect("copy");
    assert_eq!((copy.revision, copy.objects), (1, [0, 0, 0]));
    store.commit(&change(2, &[(Kind::Network, "a", "1")], &[])).expect("commit");
    drop(store);
    backup::restore(directory.path(), &copy.path).expect("restore");
    assert_eq!(open(directory.path()).load().expect("load"), before);
    assert!(directory.path().join("netd.db.replaced").exists());
    assert!(!directory.path().join("netd.db.incoming").exists());
}

#[test]
fn copies_are_made_when_something_changed_and_the_oldest_go() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    store.commit(&memory()).expect("commit");
    assert!(backup::rotate(directory.path()).expect("copy").is_some());
    assert!(backup::rotate(directory.path()).expect("copy").is_none());
    for revision in 2..=20 {
        store.commit(&change(revision, &[], &[])).expect("commit");
        backup::rotate(directory.path()).expect("copy");
    }
    assert_eq!(files(directory.path()).len(), 8);
    let revisions: Vec<u64> = files(directory.path())
        .iter()
        .map(|path| backup::verify(path).expect("sound").revision)
        .collect();
    assert!(revisions.contains(&20) && !revisions.contains(&1), "{revisions:?}");
}

#[test]
fn damaged_copy_is_neither_verified_nor_restored() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    store.commit(&memory()).expect("commit");
    let copy = backup::create(directory.path(), None).expect("copy").path;
    lose(&copy, 8192, Loss::Zeroed);
    for refused in [backup::verify(&copy), backup::restore(directory.path(), &copy)] {
        let sentence = refused.expect_err("damaged").to_string();
        assert!(
            sentence.contains("is damaged") && sentence.ends_with("use another backup"),
            "{sentence}"
        );
    }
    assert_eq!(store.load().expect("untouched").revision, 1);
}

#[test]
fn file_that_is_there_already_is_not_overwritten_by_a_copy() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    store.commit(&memory()).expect("commit");
    let target = directory.path().join("mine");
    fs::write(&target, "precious").expect("write");
    let refused = backup::create(directory.path(), Some(&target)).expect_err("there");
    assert!(refused.to_string().contains("exists already"), "{refused}");
    assert_eq!(fs::read_to_string(&target).expect("read"), "precious");
}
