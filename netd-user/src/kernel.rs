//! The kernel that netd runs on.
//!
//! Law: what is too old is refused by its version, before anything is made: half of what netd asks
//! for would be granted, and the other half refused by codes that say nothing.

/// Since this version a program can be attached by tcx.
const FLOOR: (u32, u32) = (6, 6);

/// A kernel that lacks what the programs are attached by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.what(), TooOld::REMEDY)]
pub struct TooOld {
    release: String,
}

impl TooOld {
    /// What helps.
    pub const REMEDY: &str = "run Linux 6.6 or later (Debian 12: linux-image-6.12-amd64)";

    /// What is wrong.
    pub fn what(&self) -> String {
        format!("Linux {} has no tcx", self.release)
    }
}

/// The version of the running kernel, as `uname -r` says it.
pub fn running() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Whether a kernel of this version will do.
pub fn fits(release: &str) -> Result<(), TooOld> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= FLOOR => Ok(()),
        _ => Err(TooOld { release: release.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_6_on_will_do() {
        for release in ["6.6.0", "6.10-rc1", "6.18.0-cloud", "7.0.1"] {
            assert_eq!(fits(release), Ok(()), "{release}");
        }
        for release in ["6.5.9", "6.1.0-28-amd64", "5.15", "", "x"] {
            assert!(fits(release).is_err(), "{release}");
        }
    }

    #[test]
    fn older_kernel_is_refused_in_a_sentence_with_the_remedy() {
        let told = fits("6.1.0-28-amd64").unwrap_err().to_string();
        assert_eq!(
            told,
            "Linux 6.1.0-28-amd64 has no tcx: \
             run Linux 6.6 or later (Debian 12: linux-image-6.12-amd64)"
        );
    }
}
