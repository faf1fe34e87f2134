//! What is said of a network's fate, and the commands that bring it about. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plan::{Creation, Fate, Planned};

const HEAD: &str = "\
# Docker's bridge networks as netd networks. Each is removed and made anew under its own name, because
# two networks can't have one address range.
";

/// The commands that do it all: a shell script.
pub(super) fn script(planned: &[Planned]) -> String {
    let mut script = HEAD.to_owned();
    for one in planned {
        let _ = write!(script, "\n# {}\n", told(one).replace('\n', "\n# "));
        if let Fate::Replace(creation) = &one.fate {
            let name = quoted(&one.network.name);
            let _ = writeln!(script, "docker network rm {name}\n{}", create_line(creation));
        }
    }
    script
}

/// What becomes of a network, in a sentence or two.
pub(super) fn told(one: &Planned) -> String {
    let network = &one.network;
    let mut told = match &one.fate {
        Fate::Replace(_) => format!(
            "{}: on netd, with {} and its options and labels as they are",
            network.name,
            network.subnets()
        ),
        Fate::Keep(reason) => format!("{}: {reason}", network.name),
    };
    if let Some(project) = network.project() {
        let _ = write!(
            told,
            "\n{}: in the compose file of project {project}, write `driver: netd` and \
             `ipam: {{driver: netd}}` below this network's name",
            network.name
        );
    }
    told
}

/// `docker network create …` for a network.
pub(super) fn create_line(creation: &Creation) -> String {
    let mut words: Vec<String> = ["docker", "network", "create", "-d"].map(str::to_owned).into();
    words.push(creation.driver.clone());
    words.extend(["--ipam-driver".to_owned(), creation.ipam.driver.clone()]);
    words.extend(switches(creation));
    for pool in &creation.ipam.config {
        let flags = [
            ("--subnet", &pool.subnet),
            ("--ip-range", &pool.ip_range),
            ("--gateway", &pool.gateway),
        ];
        for (flag, value) in flags.into_iter().filter(|(_, value)| !value.is_empty()) {
            words.extend([flag.to_owned(), value.clone()]);
        }
        words.extend(pairs("--aux-address", &pool.auxiliary_addresses));
    }
    words.extend(pairs("--ipam-opt", &creation.ipam.options));
    words.extend(pairs("-o", &creation.options));
    words.extend(pairs("--label", &creation.labels));
    words.push(creation.name.clone());
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn switches(creation: &Creation) -> Vec<String> {
    let switches = [
        ("--internal", creation.internal),
        ("--attachable", creation.attachable),
        ("--ipv6", creation.enable_ipv6),
        ("--ipv4=false", creation.enable_ipv4 == Some(false)),
    ];
    switches.into_iter().filter(|(_, is_on)| *is_on).map(|(word, _)| word.to_owned()).collect()
}

fn pairs(flag: &str, pairs: &BTreeMap<String, String>) -> Vec<String> {
    pairs.iter().flat_map(|(key, value)| [flag.to_owned(), format!("{key}={value}")]).collect()
}

/// One word of a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
