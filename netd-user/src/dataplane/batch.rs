//! The map operations of bpf(2), many entries at a time where the kernel can.
//!
//! Law: keys and values are whole multiples of the map's lengths; every pointer handed to the kernel
//! points into a slice that outlives the call and is as long as the map demands.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::syscall::{Command, bpf};

/// The single-element member of `union bpf_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value_or_next: u64,
    flags: u64,
}

/// The batch member of `union bpf_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `ENOTSUPP`: what maps without batch operations answer; not in libc, being internal to the kernel.
const ENOTSUPP: i32 = 524;

/// A map as the operations see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMap<'a> {
    /// The map.
    pub(super) fd: BorrowedFd<'a>,
    /// Key length in bytes.
    pub(super) key_len: usize,
    /// Value length in bytes as the system call counts: for per-CPU maps of all CPUs together.
    pub(super) value_len: usize,
}

/// Keys and values, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// Keys.
    pub(super) keys: Vec<u8>,
    /// Values.
    pub(super) values: Vec<u8>,
    /// How many.
    pub(super) count: usize,
}

/// Where a walk stands: an opaque position that the kernel hands out.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    position: Option<Vec<u8>>,
}

impl RawMap<'_> {
    /// Writes all entries.
    pub(super) fn update(&self, keys: &[u8], values: &[u8]) -> io::Result<()> {
        let count = keys.len() / self.key_len;
        debug_assert_eq!(values.len(), count * self.value_len, "a value for every key");
        match self.batch(Command::UpdateBatch, keys, values, count) {
            Err(error) if is_unsupported(&error) => self.update_each(keys, values),
            other => other,
        }
    }

    /// Deletes all entries; a missing one is no error.
    pub(super) fn delete(&self, keys: &[u8]) -> io::Result<()> {
        let count = keys.len() / self.key_len;
        match self.batch(Command::DeleteBatch, keys, &[], count) {
            Ok(()) => Ok(()),
            // A batch stops at the first key that is gone: the others still have to go.
            Err(_) => keys.chunks_exact(self.key_len).try_for_each(|key| self.delete_one(key)),
        }
    }

    /// The value under `key`.
    pub(super) fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_len];
        let attr = self.elem(key, value.as_mut_ptr() as u64);
        match call(Command::LookupElem, &attr) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` further entries; none at the end of the walk. Entries that come or go meanwhile
    /// may be missed or seen twice.
    pub(super) fn walk(&self, cursor: &mut Cursor, limit: usize) -> io::Result<Option<Chunk>> {
        match self.walk_batch(cursor, limit) {
            Err(error) if is_unsupported(&error) => self.walk_each(cursor, limit),
            other => other,
        }
    }

    fn walk_batch(&self, cursor: &mut Cursor, limit: usize) -> io::Result<Option<Chunk>> {
        let mut limit = limit;
        loop {
            match self.lookup_batch(cursor, limit) {
                // One bucket of a hash holds more than fit: the kernel asks for more room.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => limit *= 2,
                other => return other,
            }
        }
    }

    fn lookup_batch(&self, cursor: &mut Cursor, limit: usize) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk {
            keys: vec![0; limit * self.key_len],
            values: vec![0; limit * self.value_len],
            count: 0,
        };
        // Hashes keep a bucket number of 4 bytes here, generic maps a key.
        let mut next = vec![0; self.key_len.max(4)];
        let mut attr = BatchAttr {
            in_batch: cursor.position.as_ref().map_or(0, |p| p.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: chunk.keys.as_mut_ptr() as u64,
            values: chunk.values.as_mut_ptr() as u64,
            count: narrow(limit),
            map_fd: self.fd_number(),
            ..BatchAttr::default()
        };
        let outcome = bpf(Command::LookupBatch, &mut attr).map(drop);
        let at_end = match outcome {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        chunk.count = attr.count as usize;
        chunk.keys.truncate(chunk.count * self.key_len);
        chunk.values.truncate(chunk.count * self.value_len);
        if at_end && chunk.count == 0 {
            return Ok(None);
        }
        cursor.position = Some(next);
        Ok(Some(chunk))
    }

    fn walk_each(&self, cursor: &mut Cursor, limit: usize) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk::default();
        while chunk.count < limit {
            let Some(key) = self.next_key(cursor.position.as_deref())? else { break };
            if let Some(value) = self.lookup(&key)? {
                chunk.keys.extend_from_slice(&key);
                chunk.values.extend_from_slice(&value);
                chunk.count += 1;
            }
            cursor.position = Some(key);
        }
        Ok((chunk.count > 0).then_some(chunk))
    }

    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0; self.key_len];
        let attr = ElemAttr {
            map_fd: self.fd_number(),
            key: key.map_or(0, |k| k.as_ptr() as u64),
            value_or_next: next.as_mut_ptr() as u64,
            ..ElemAttr::default()
        };
        match call(Command::GetNextKey, &attr) {
            Ok(()) => Ok(Some(next)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn update_each(&self, keys: &[u8], values: &[u8]) -> io::Result<()> {
        let pairs = keys.chunks_exact(self.key_len).zip(values.chunks_exact(self.value_len));
        for (key, value) in pairs {
            call(Command::UpdateElem, &self.elem(key, value.as_ptr() as u64))?;
        }
        Ok(())
    }

    fn delete_one(&self, key: &[u8]) -> io::Result<()> {
        match call(Command::DeleteElem, &self.elem(key, 0)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn batch(&self, cmd: Command, keys: &[u8], values: &[u8], count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            values: if values.is_empty() { 0 } else { values.as_ptr() as u64 },
            count: narrow(count),
            map_fd: self.fd_number(),
            ..BatchAttr::default()
        };
        bpf(cmd, &mut attr).map(drop)
    }

    fn elem(&self, key: &[u8], value: u64) -> ElemAttr {
        debug_assert_eq!(key.len(), self.key_len, "a whole key");
        ElemAttr {
            map_fd: self.fd_number(),
            key: key.as_ptr() as u64,
            value_or_next: value,
            ..ElemAttr::default()
        }
    }

    fn fd_number(&self) -> u32 {
        self.fd.as_raw_fd().unsigned_abs()
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL))
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn call(command: Command, attr: &ElemAttr) -> io::Result<()> {
    // The kernel does not write to this member.
    let mut attr = *attr;
    bpf(command, &mut attr).map(drop)
}
