//! Waiting for a condition, with a deadline: the only place of the harness that looks at a clock.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until `look` finds what it looks for; after `deadline` the error says `what` never came.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {deadline:?}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_named() {
        let waited = eventually("a miracle", Duration::from_millis(20), || Ok(None::<()>));
        assert!(waited.unwrap_err().to_string().contains("a miracle"));
    }

    #[test]
    fn what_comes_later_is_found() {
        let mut looks = 0;
        let found = eventually("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }
}
