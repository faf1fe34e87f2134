//! The embedded store: one SQLite file, write-ahead log, synced at every commit.
//!
//! Law: a store is read whole or refused: its pages, the digest of its rows and the mark of what was
//! acknowledged must agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};

use super::seal::{Mark, digest_of, sync_directory};
use super::{Change, Contents, Kind, Row, Store, StoreError, backup};

/// File name within the state directory.
pub const FILE_NAME: &str = "netd.db";

/// One step per version of the tables; `user_version` counts those done.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE objects (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        schema INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO revision VALUES (1, 0);
",
    // No digest yet: that of what stands there, computed as the step is done.
    "ALTER TABLE revision ADD COLUMN digest INTEGER;",
];

/// Another process may hold the file for a backup.
const BUSY: Duration = Duration::from_secs(5);

/// A store in one file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
    mark: Mark,
}

/// A store as it was read.
#[derive(Debug)]
struct Reading {
    contents: Contents,
    /// A kind of row that this version does not know.
    unknown: Option<String>,
    /// Digest of the rows read, and the one that stands in the store; none before it had one.
    digests: (u64, Option<u64>),
}

impl SqliteStore {
    /// Opens the store in `state_dir`, made where missing, checked and brought up to date.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(&path, flags)?;
        let mut store = Self { mark: Mark::of(&path), path, connection };
        let opened = store.make_ready();
        opened.map_err(|error| error.with_remedy(&backup::remedy(state_dir)))?;
        sync_directory(state_dir).map_err(|error| StoreError::Open {
            path: store.path.clone(),
            reason: format!("{}: {error}", state_dir.display()),
        })?;
        Ok(store)
    }

    fn make_ready(&mut self) -> Result<(), StoreError> {
        self.prepare().map_err(|error| judge(&self.path, &error))?;
        check_pages(&self.connection, &self.path)?;
        self.migrate()?;
        self.load().map(drop)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.pragma_update(None, "foreign_keys", "ON")
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let judge = |error: rusqlite::Error| judge(&path, &error);
        let done = version(&self.connection, &path)?;
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        for (number, step) in (1..=known).zip(MIGRATIONS).skip(done as usize) {
            let transaction = self.connection.transaction().map_err(judge)?;
            transaction.execute_batch(step).map_err(judge)?;
            transaction.pragma_update(None, "user_version", number).map_err(judge)?;
            transaction.commit().map_err(judge)?;
        }
        let reading = read(&self.connection).map_err(judge)?;
        if let (digest, None) = reading.digests {
            let fill = "UPDATE revision SET digest = ?";
            self.connection.execute(fill, params![digest.cast_signed()]).map_err(judge)?;
        }
        Ok(())
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Contents, StoreError> {
        let reading = read(&self.connection).map_err(|error| judge(&self.path, &error))?;
        let contents = reading.sound(&self.path)?;
        match self.mark.read() {
            Some(acknowledged) if acknowledged > contents.revision => {
                let held = contents.revision;
                let reason =
                    format!("it holds revision {held}, but {acknowledged} was acknowledged");
                Err(damaged(&self.path, reason))
            }
            Some(_) | None => Ok(contents),
        }
    }

    fn commit(&mut self, change: &Change) -> Result<(), StoreError> {
        let failed = |error: rusqlite::Error| StoreError::Commit(error.to_string());
        let transaction = self.connection.transaction().map_err(failed)?;
        write(&transaction, change).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        if let Err(error) = self.mark.write(change.revision) {
            // It is the store that keeps the change; the mark only helps to see damage.
            tracing::warn!(path = %self.mark.path().display(), %error, "the mark was not written");
        }
        Ok(())
    }
}

impl Reading {
    /// What was read, where it is whole.
    fn sound(self, path: &Path) -> Result<Contents, StoreError> {
        if let Some(kind) = self.unknown {
            return Err(damaged(path, format!("objects of unknown kind '{kind}'")));
        }
        match self.digests {
            (_, None) => Ok(self.contents),
            (found, Some(kept)) if found == kept => Ok(self.contents),
            (_, Some(_)) => {
                Err(damaged(path, "its rows are not those that were committed".to_owned()))
            }
        }
    }
}

/// Opens a file and waits for others that hold it.
pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let opened = Connection::open_with_flags(path, flags);
    let ready = opened.and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        Ok(connection)
    });
    ready.map_err(|error| StoreError::Open { path: path.to_owned(), reason: error.to_string() })
}

/// Reads a store whole, and refuses it where it is not sound.
pub(super) fn examine(connection: &Connection, path: &Path) -> Result<Contents, StoreError> {
    check_pages(connection, path)?;
    if version(connection, path)? == 0 {
        return Err(damaged(path, "it holds nothing of netd's".to_owned()));
    }
    read(connection).map_err(|error| judge(path, &error))?.sound(path)
}

/// The version of the tables, 0 for a new file; a newer one than ours is refused.
fn version(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let asked = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let found: u32 = asked.map_err(|error| judge(path, &error))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found) }
}

fn check_pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let asked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let found: String = asked.map_err(|error| judge(path, &error))?;
    if found == "ok" { Ok(()) } else { Err(damaged(path, found)) }
}

/// Everything, as of one moment.
fn read(connection: &Connection) -> rusqlite::Result<Reading> {
    let together = connection.unchecked_transaction()?;
    let (revision, kept) = read_revision(&together)?;
    let mut reading = Reading {
        contents: Contents { revision, ..Contents::default() },
        unknown: None,
        digests: (0, kept),
    };
    let mut select = together.prepare("SELECT kind, id, schema, json FROM objects")?;
    let mut rows = select.query([])?;
    while let Some(found) = rows.next()? {
        let (name, id): (String, String) = (found.get(0)?, found.get(1)?);
        let row = Row { schema: found.get(2)?, json: found.get(3)? };
        reading.digests.0 = reading.digests.0.wrapping_add(digest_of(&name, &id, &row));
        match Kind::from_name(&name) {
            Some(kind) => drop(reading.contents.rows.insert((kind, id), row)),
            None => reading.unknown = Some(name),
        }
    }
    Ok(reading)
}

/// The revision and the digest; none before the version of the tables that has one.
fn read_revision(connection: &Connection) -> rusqlite::Result<(u64, Option<u64>)> {
    connection.query_row("SELECT * FROM revision", [], |row| {
        let digest: Option<i64> =
            if row.as_ref().column_count() > 2 { row.get("digest")? } else { None };
        let revision: i64 = row.get("value")?;
        Ok((revision.cast_unsigned(), digest.map(i64::cast_unsigned)))
    })
}

fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let (_, digest) = read_revision(transaction)?;
    let mut digest = digest.unwrap_or_default();
    let mut select =
        transaction.prepare_cached("SELECT schema, json FROM objects WHERE kind = ? AND id = ?")?;
    let mut delete = transaction.prepare_cached("DELETE FROM objects WHERE kind = ? AND id = ?")?;
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)")?;
    let mut old = |kind: Kind, id: &str| -> rusqlite::Result<u64> {
        let row = |row: &rusqlite::Row<'_>| Ok(Row { schema: row.get(0)?, json: row.get(1)? });
        let held = select.query_row(params![kind.name(), id], row).optional()?;
        Ok(held.map_or(0, |row| digest_of(kind.name(), id, &row)))
    };
    for (kind, id) in &change.delete {
        digest = digest.wrapping_sub(old(*kind, id)?);
        delete.execute(params![kind.name(), id])?;
    }
    for ((kind, id), row) in &change.put {
        digest = digest.wrapping_sub(old(*kind, id)?).wrapping_add(digest_of(kind.name(), id, row));
        put.execute(params![kind.name(), id, row.schema, row.json])?;
    }
    let numbers = params![change.revision.cast_signed(), digest.cast_signed()];
    transaction.execute("UPDATE revision SET value = ?, digest = ?", numbers).map(drop)
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason, remedy: super::NO_REMEDY.to_owned() }
}

pub(super) fn judge(path: &Path, error: &rusqlite::Error) -> StoreError {
    let reason = error.to_string();
    match error.sqlite_error_code() {
        // Unknown: SQLite could read the file, but its tables are none of ours.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
            damaged(path, reason)
        }
        Some(_) => StoreError::Open { path: path.to_owned(), reason },
    }
}
