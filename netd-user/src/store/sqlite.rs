//! The embedded store: one SQLite file, write-ahead log, synced at every commit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

use super::{Change, Contents, Kind, Row, Store, StoreError};

/// File name within the state directory.
pub const FILE_NAME: &str = "netd.db";

/// One step per version of the tables; `user_version` counts those done.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE objects (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        schema INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO revision VALUES (1, 0);
"];

/// Another process may hold the file for a backup.
const BUSY: Duration = Duration::from_secs(5);

/// A store in one file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
}

impl SqliteStore {
    /// Opens the store in `state_dir`, made where missing, checked and brought up to date.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .map_err(|error| StoreError::Open { path: path.clone(), reason: error.to_string() })?;
        let mut store = Self { path, connection };
        store.prepare().map_err(|error| store.judge(&error))?;
        store.check()?;
        store.migrate()?;
        Ok(store)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY)?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.pragma_update(None, "foreign_keys", "ON")
    }

    fn check(&self) -> Result<(), StoreError> {
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.judge(&error))?;
        match found.as_str() {
            "ok" => Ok(()),
            reason => Err(self.damaged(reason)),
        }
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let judge = |error: rusqlite::Error| judge(&path, &error);
        let done: u32 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(judge)?;
        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        if done > known {
            return Err(StoreError::Newer { found: done, known });
        }
        for (version, step) in (1..=known).zip(MIGRATIONS).skip(done as usize) {
            let transaction = self.connection.transaction().map_err(judge)?;
            transaction.execute_batch(step).map_err(judge)?;
            transaction.pragma_update(None, "user_version", version).map_err(judge)?;
            transaction.commit().map_err(judge)?;
        }
        Ok(())
    }

    fn read(&self) -> rusqlite::Result<(Contents, Option<String>)> {
        let revision: i64 =
            self.connection.query_row("SELECT value FROM revision", [], |row| row.get(0))?;
        let mut contents = Contents { revision: revision.cast_unsigned(), ..Contents::default() };
        let mut unknown = None;
        let mut select = self.connection.prepare("SELECT kind, id, schema, json FROM objects")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            match Kind::from_name(&name) {
                Some(kind) => {
                    let object = Row { schema: row.get(2)?, json: row.get(3)? };
                    contents.rows.insert((kind, row.get(1)?), object);
                }
                None => unknown = Some(name),
            }
        }
        Ok((contents, unknown))
    }

    fn judge(&self, error: &rusqlite::Error) -> StoreError {
        judge(&self.path, error)
    }

    fn damaged(&self, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: reason.to_owned() }
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Contents, StoreError> {
        let (contents, unknown) = self.read().map_err(|error| self.judge(&error))?;
        match unknown {
            None => Ok(contents),
            Some(kind) => Err(self.damaged(&format!("objects of unknown kind '{kind}'"))),
        }
    }

    fn commit(&mut self, change: &Change) -> Result<(), StoreError> {
        let failed = |error: rusqlite::Error| StoreError::Commit(error.to_string());
        let transaction = self.connection.transaction().map_err(failed)?;
        write(&transaction, change).map_err(failed)?;
        transaction.commit().map_err(failed)
    }
}

fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM objects WHERE kind = ? AND id = ?")?;
    for (kind, id) in &change.delete {
        delete.execute(params![kind.name(), id])?;
    }
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)")?;
    for ((kind, id), row) in &change.put {
        put.execute(params![kind.name(), id, row.schema, row.json])?;
    }
    transaction.execute("UPDATE revision SET value = ?", params![change.revision.cast_signed()])?;
    Ok(())
}

fn judge(path: &Path, error: &rusqlite::Error) -> StoreError {
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path: path.to_owned(), reason }
        }
        Some(_) | None => StoreError::Open { path: path.to_owned(), reason },
    }
}
