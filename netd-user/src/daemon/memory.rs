//! What the daemon frees serves all of it, or goes back to the system.
//!
//! Law: set before the first thread; on a C library that is not glibc there is nothing to set.

/// Arenas that all threads share. By itself glibc makes eight for each CPU, and what a thread that
/// has ended leaves free in one serves nobody until another thread happens on it.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// So much may lie free at an arena's end. A compilation takes and leaves about as much; by itself
/// glibc keeps twice the largest piece that was ever freed, such as a scrape's text. A value of our own
/// also fixes at 128 KiB the length from which a piece is mapped by itself (mallopt(3)).
#[cfg(target_env = "gnu")]
const SPARE_LEN: libc::c_int = 4 << 20;

/// Sets the allocator up.
#[cfg(target_env = "gnu")]
pub(super) fn set_up() {
    for (parameter, value) in [(libc::M_ARENA_MAX, ARENAS), (libc::M_TRIM_THRESHOLD, SPARE_LEN)] {
        // SAFETY: a number is set in the allocator, which no other thread uses yet.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Nothing to set.
#[cfg(not(target_env = "gnu"))]
pub(super) fn set_up() {}
