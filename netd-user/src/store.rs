//! Durable state: what was asked for and granted, as JSON rows under one revision.
//!
//! Laws: a commit is all or nothing; what was committed is what the next load sees; a store of a newer
//! schema or a damaged one is refused with the remedy, never guessed at.

pub mod backup;
pub mod memory;
mod seal;
pub mod sqlite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::Ipv6Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Model, Proto};

/// Schema of the JSON in the rows; a row of a newer one is refused.
pub const SCHEMA: u32 = 1;

const SETTINGS_ID: &str = "model";

/// A durable home for the model.
pub trait Store: Send + 'static {
    /// Everything, as last committed; empty for a new store.
    fn load(&mut self) -> Result<Contents, StoreError>;

    /// Writes a change, all or nothing; on return it survives a power cut.
    fn commit(&mut self, change: &Change) -> Result<(), StoreError>;
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Revision of the last commit, 0 for a new store.
    pub revision: u64,
    /// All rows by kind and id.
    pub rows: BTreeMap<(Kind, String), Row>,
}

/// One atomic step from one revision to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Revision after the change.
    pub revision: u64,
    /// New and changed rows.
    pub put: BTreeMap<(Kind, String), Row>,
    /// Rows that go.
    pub delete: Vec<(Kind, String)>,
}

/// What a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A network.
    Network,
    /// An endpoint.
    Endpoint,
    /// A sandbox.
    Sandbox,
    /// A pool that an engine has asked for on its own.
    Lease,
    /// What belongs to no object.
    Memory,
}

/// An object as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Schema of the text.
    pub schema: u32,
    /// The object.
    pub json: String,
}

/// What is remembered beside objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// ULA /48 of this installation (RFC 4193), drawn once.
    pub ula_prefix: Ipv6Network,
    /// Where the search for the next random port begins.
    pub next_port: BTreeMap<Proto, u16>,
}

/// Why the store refuses.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be opened or made.
    #[error("the store {} can't be opened: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's or SQLite's answer.
        reason: String,
    },
    /// The file is no store or is broken.
    #[error("the store {} is damaged ({reason}): {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found.
        reason: String,
        /// What to do: which backup to restore, where there is one.
        remedy: String,
    },
    /// A newer netd wrote it.
    #[error(
        "the store was written by a newer netd (schema {found}, this one knows {known}): run that one"
    )]
    Newer {
        /// Schema found.
        found: u32,
        /// Schema known.
        known: u32,
    },
    /// A row does not read back.
    #[error("the store holds a {kind} '{id}' that does not read back: {source}")]
    Row {
        /// Kind of the row.
        kind: &'static str,
        /// Its id.
        id: String,
        /// The parser's answer.
        source: serde_json::Error,
    },
    /// A commit failed; nothing of it is kept.
    #[error("the change could not be stored: {0}")]
    Commit(String),
    /// A copy can't be made or put in place.
    #[error("the copy {} can't be made: {reason}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// The system's or SQLite's answer.
        reason: String,
    },
}

/// What helps with a damaged file where nothing is known of others.
const NO_REMEDY: &str = "use another backup";

impl StoreError {
    /// The same with the remedy that fits where the file lies.
    #[must_use]
    fn with_remedy(self, remedy: &str) -> Self {
        match self {
            Self::Damaged { path, reason, .. } => {
                Self::Damaged { path, reason, remedy: remedy.to_owned() }
            }
            other @ (Self::Open { .. }
            | Self::Newer { .. }
            | Self::Row { .. }
            | Self::Commit(_)
            | Self::Copy { .. }) => other,
        }
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Network, Self::Endpoint, Self::Sandbox, Self::Lease, Self::Memory];

    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Endpoint => "endpoint",
            Self::Sandbox => "sandbox",
            Self::Lease => "lease",
            Self::Memory => "memory",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Contents {
    /// Reads the rows back; no memory in a new store.
    pub fn decode(&self) -> Result<(Model, Option<Memory>), StoreError> {
        let mut model = Model::default();
        let mut memory = None;
        for ((kind, id), row) in &self.rows {
            match kind {
                Kind::Network => insert(&mut model.networks, *kind, id, row)?,
                Kind::Endpoint => insert(&mut model.endpoints, *kind, id, row)?,
                Kind::Sandbox => insert(&mut model.sandboxes, *kind, id, row)?,
                Kind::Lease => insert(&mut model.leases, *kind, id, row)?,
                Kind::Memory => memory = Some(parse::<Memory>(*kind, id, row)?),
            }
        }
        if let Some(memory) = &memory {
            model.next_port.clone_from(&memory.next_port);
        }
        Ok((model, memory))
    }

    /// Applies a change, as every store does.
    pub fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        for key in &change.delete {
            self.rows.remove(key);
        }
        self.rows.extend(change.put.iter().map(|(key, row)| (key.clone(), row.clone())));
    }
}

impl Change {
    /// The rows that differ between two models. Shared objects are equal without a look inside.
    pub fn between(old: &Model, new: &Model, revision: u64) -> Result<Self, StoreError> {
        let mut change = Self { revision, ..Self::default() };
        change.objects(Kind::Network, &old.networks, &new.networks)?;
        change.objects(Kind::Endpoint, &old.endpoints, &new.endpoints)?;
        change.objects(Kind::Sandbox, &old.sandboxes, &new.sandboxes)?;
        change.objects(Kind::Lease, &old.leases, &new.leases)?;
        Ok(change)
    }

    /// Adds what is remembered beside objects.
    pub fn remember(&mut self, memory: &Memory) -> Result<(), StoreError> {
        self.put.insert((Kind::Memory, SETTINGS_ID.to_owned()), row(memory)?);
        Ok(())
    }

    /// Whether nothing but the revision changes.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }

    fn objects<K, V>(
        &mut self,
        kind: Kind,
        old: &BTreeMap<K, Arc<V>>,
        new: &BTreeMap<K, Arc<V>>,
    ) -> Result<(), StoreError>
    where
        K: Ord + ToString,
        V: PartialEq + Serialize,
    {
        for (id, object) in new {
            let same = |held: &Arc<V>| Arc::ptr_eq(held, object) || held == object;
            if !old.get(id).is_some_and(same) {
                self.put.insert((kind, id.to_string()), row(object.as_ref())?);
            }
        }
        let gone = old.keys().filter(|id| !new.contains_key(id));
        self.delete.extend(gone.map(|id| (kind, id.to_string())));
        Ok(())
    }
}

fn row<T: Serialize>(object: &T) -> Result<Row, StoreError> {
    let json = serde_json::to_string(object).map_err(|e| StoreError::Commit(e.to_string()))?;
    Ok(Row { schema: SCHEMA, json })
}

fn parse<T: DeserializeOwned>(kind: Kind, id: &str, row: &Row) -> Result<T, StoreError> {
    if row.schema > SCHEMA {
        return Err(StoreError::Newer { found: row.schema, known: SCHEMA });
    }
    let unreadable = |source| StoreError::Row { kind: kind.name(), id: id.to_owned(), source };
    serde_json::from_str(&row.json).map_err(unreadable)
}

fn insert<K, V>(
    objects: &mut BTreeMap<K, Arc<V>>,
    kind: Kind,
    id: &str,
    row: &Row,
) -> Result<(), StoreError>
where
    K: Ord + std::str::FromStr,
    V: DeserializeOwned,
{
    let object = parse(kind, id, row)?;
    let key = id.parse().map_err(|_| {
        let source = serde::de::Error::custom("its id is no id");
        StoreError::Row { kind: kind.name(), id: id.to_owned(), source }
    })?;
    objects.insert(key, Arc::new(object));
    Ok(())
}

#[cfg(test)]
mod tests;
