//! The binary as a plugin of Docker's command line: `docker netd ps` is `netd ps`.
//!
//! Law: only the name that the binary is called by decides; what follows is the same command line.

use std::ffi::OsString;
use std::path::Path;

/// The name that Docker's command line finds its plugin `netd` by, in a directory `cli-plugins`.
const PLUGIN: &str = "docker-netd";
/// What follows `docker` on its command line.
const NAME: &str = "netd";
/// What Docker asks every plugin first.
const METADATA: &str = "docker-cli-plugin-metadata";

/// What a plugin is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To describe itself.
    Metadata,
    /// To do what these words say.
    Words(Vec<OsString>),
}

/// Reads the words of a process. Docker hands on its own command line: its options, the plugin's
/// name, and only then what the plugin is to do.
pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Asked {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let called = words.first().and_then(|word| Path::new(word).file_name());
    if called.is_none_or(|name| name != PLUGIN) {
        return Asked::Words(words);
    }
    if words.get(1).is_some_and(|word| word == METADATA) {
        return Asked::Metadata;
    }
    if let Some(name) = words.iter().skip(1).position(|word| word == NAME) {
        words.drain(1..=name + 1);
    }
    Asked::Words(words)
}

/// What Docker shows of the plugin (schema 0.1.0 of its command line).
pub(super) fn metadata() -> serde_json::Value {
    serde_json::json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "netd",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": "Container networking by eBPF",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Asked {
        read(words.iter().map(OsString::from))
    }

    fn words(words: &[&str]) -> Asked {
        Asked::Words(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn plugin_is_told_apart_by_its_name_and_loses_the_repeated_one() {
        let installed = "/usr/libexec/docker/cli-plugins/docker-netd";
        assert_eq!(asked(&[installed, METADATA]), Asked::Metadata);
        assert_eq!(asked(&[installed, "netd", "ps", "-q"]), words(&[installed, "ps", "-q"]));
        let far = ["-H", "unix:///run/docker.sock", "netd", "-H", "unix:///run/netd.sock", "ps"];
        let ours = [installed, "-H", "unix:///run/netd.sock", "ps"];
        assert_eq!(asked(&[&[installed], &far[..]].concat()), words(&ours));
        assert_eq!(asked(&[installed]), words(&[installed]));
    }

    #[test]
    fn netd_itself_takes_every_word_as_it_is() {
        assert_eq!(asked(&["/usr/bin/netd", "netd"]), words(&["/usr/bin/netd", "netd"]));
        assert_eq!(asked(&["netd", METADATA]), words(&["netd", METADATA]));
    }
}
