//! The laws of every store, and what the embedded one does about damage.

use std::path::Path;

use super::memory::MemoryStore;
use super::sqlite::{FILE_NAME, SqliteStore};
use super::*;

fn row(json: &str) -> Row {
    Row { schema: SCHEMA, json: json.to_owned() }
}

fn change(revision: u64, put: &[(Kind, &str, &str)], delete: &[(Kind, &str)]) -> Change {
    Change {
        revision,
        put: put.iter().map(|(kind, id, json)| ((*kind, (*id).to_owned()), row(json))).collect(),
        delete: delete.iter().map(|(kind, id)| (*kind, (*id).to_owned())).collect(),
    }
}

fn history() -> [Change; 3] {
    [
        change(1, &[(Kind::Network, "a", "1"), (Kind::Sandbox, "b", "2")], &[]),
        change(2, &[(Kind::Network, "a", "3")], &[(Kind::Sandbox, "b")]),
        change(7, &[(Kind::Endpoint, "c", "{}")], &[(Kind::Sandbox, "never")]),
    ]
}

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory).expect("open")
}

#[test]
fn every_store_holds_what_was_committed() {
    let directory = tempfile::tempdir().expect("directory");
    let stores: [Box<dyn Store>; 2] =
        [Box::new(MemoryStore::default()), Box::new(open(directory.path()))];
    for mut store in stores {
        let mut expected = Contents::default();
        assert_eq!(store.load().expect("empty"), expected);
        for change in history() {
            store.commit(&change).expect("commit");
            expected.apply(&change);
            assert_eq!(store.load().expect("load"), expected);
        }
    }
}

#[test]
fn a_reopened_store_holds_the_same() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    for change in history() {
        store.commit(&change).expect("commit");
    }
    let before = store.load().expect("load");
    drop(store);
    assert_eq!(open(directory.path()).load().expect("load"), before);
}

#[test]
fn a_file_that_is_no_store_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join(FILE_NAME);
    std::fs::write(&file, "not a database, but long enough to look like one".repeat(40))
        .expect("write");
    let error = SqliteStore::open(directory.path()).expect_err("damaged").to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert!(error.contains("restore a backup by `netd store restore FILE`, or move"), "{error}");
}

#[test]
fn a_store_with_torn_pages_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let mut store = open(directory.path());
    let big = "\"x\"".repeat(2000);
    for n in 0..50_u64 {
        store.commit(&change(n, &[(Kind::Network, &n.to_string(), &big)], &[])).expect("commit");
    }
    drop(store);
    let file = directory.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0xa5);
    std::fs::write(&file, bytes).expect("write");
    let error = SqliteStore::open(directory.path()).expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn what_a_newer_netd_wrote_is_refused() {
    let newer = Row { schema: SCHEMA + 1, json: "{}".to_owned() };
    let rows = BTreeMap::from([((Kind::Network, "x".to_owned()), newer)]);
    let error = Contents { revision: 1, rows }.decode().expect_err("newer");
    assert!(error.to_string().contains("newer netd"), "{error}");
}

#[test]
fn a_row_that_does_not_read_back_is_named() {
    let rows = BTreeMap::from([((Kind::Network, "x".to_owned()), row("{"))]);
    let error = Contents { revision: 1, rows }.decode().expect_err("unreadable");
    assert!(error.to_string().starts_with("the store holds a network 'x'"), "{error}");
}

#[test]
fn equal_models_make_no_change() {
    let change = Change::between(&Model::default(), &Model::default(), 4).expect("change");
    assert!(change.is_empty());
}

mod power;
