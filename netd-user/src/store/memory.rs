//! A store that forgets at exit and fails on demand: for tests and dry runs.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Contents, Store, StoreError};

/// Cheap to clone: clones share the contents, so that a test can look inside.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    contents: Contents,
    failing: Option<String>,
}

impl MemoryStore {
    /// A store that holds `contents`.
    pub fn with(contents: Contents) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { contents, failing: None })) }
    }

    /// What was committed.
    pub fn contents(&self) -> Contents {
        self.lock(|shared| shared.contents.clone())
    }

    /// From now on each commit fails for `reason`; none heals it.
    pub fn fail(&self, reason: Option<&str>) {
        self.lock(|shared| shared.failing = reason.map(str::to_owned));
    }

    fn lock<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Contents, StoreError> {
        Ok(self.contents())
    }

    fn commit(&mut self, change: &Change) -> Result<(), StoreError> {
        self.lock(|shared| {
            if let Some(reason) = &shared.failing {
                return Err(StoreError::Commit(reason.clone()));
            }
            shared.contents.apply(change);
            Ok(())
        })
    }
}
