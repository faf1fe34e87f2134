//! `cargo xtask fuzz`: random input against the packet path and the name service, until something breaks or the time is
//! over.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{run, setup};

/// Each is a file of `fuzz/targets` and a directory of `fuzz/corpus`.
const TARGETS: [&str; 3] = ["packets", "truth", "dns"];
const DEFAULT_MINUTES: u32 = 30;
/// Long enough for forty frames; longer input finds nothing more and slower.
const INPUT_AT_MOST: &str = "-max_len=1024";

const USAGE: &str = "usage: cargo xtask fuzz [--minutes N] [--keep] [TARGET]...";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    minutes: u32,
    /// The smallest set of inputs that reaches all that was reached replaces the kept one.
    keeps: bool,
    targets: Vec<&'static str>,
}

/// Installs what is missing, then fuzzes one target after another.
pub(crate) fn run(options: &[String]) -> Result<()> {
    let request = Request::parse(options)?;
    setup::ensure(setup::Purpose::Fuzz)?;
    for target in &request.targets {
        fuzz(target, request.minutes)?;
        if request.keeps {
            keep(target)?;
        }
    }
    Ok(())
}

impl Request {
    fn parse(options: &[String]) -> Result<Self> {
        let mut request = Self { minutes: DEFAULT_MINUTES, keeps: false, targets: Vec::new() };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match option.as_str() {
                "--minutes" => {
                    let minutes = options.next().context(USAGE)?;
                    let parsed = minutes.parse();
                    request.minutes =
                        parsed.with_context(|| format!("`{minutes}` is no number of minutes"))?;
                }
                "--keep" => request.keeps = true,
                name => request.targets.push(target(name)?),
            }
        }
        if request.targets.is_empty() {
            request.targets = TARGETS.to_vec();
        }
        Ok(request)
    }
}

fn target(name: &str) -> Result<&'static str> {
    match TARGETS.iter().find(|target| **target == name) {
        Some(target) => Ok(target),
        None => bail!("there is no target `{name}`, only {}; {USAGE}", TARGETS.join(" and ")),
    }
}

/// What the fuzzer finds goes to the build's directory, on top of what is kept.
fn fuzz(target: &str, minutes: u32) -> Result<()> {
    let found = found(target);
    fs::create_dir_all(&found).with_context(|| format!("can't make {}", found.display()))?;
    let mut command = fuzzer("run", target)?;
    command.arg(&found).arg(kept(target));
    command.args(["--", INPUT_AT_MOST, "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={}", minutes * 60));
    run::run(&mut command)
}

fn keep(target: &str) -> Result<()> {
    let (found, kept) = (found(target), kept(target));
    let smallest = found.with_extension("smallest");
    let _from_before = fs::remove_dir_all(&smallest);
    fs::create_dir_all(&smallest).with_context(|| format!("can't make {}", smallest.display()))?;
    let mut command = fuzzer("run", target)?;
    command.args([&smallest, &found, &kept]);
    run::run(command.args(["--", INPUT_AT_MOST, "-set_cover_merge=1"]))?;
    let inputs = fs::read_dir(&smallest)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!inputs.is_empty(), "the fuzzer kept nothing; {} is as it was", kept.display());
    fs::remove_dir_all(&kept)?;
    fs::create_dir_all(&kept)?;
    for input in inputs {
        fs::copy(input.path(), kept.join(input.file_name()))?;
    }
    Ok(())
}

/// Without a sanitizer: what is fuzzed has no unsafe code, and the stable compiler serves.
fn fuzzer(verb: &str, target: &str) -> Result<Command> {
    let mut command = run::cargo(&["fuzz", verb, "--fuzz-dir", "fuzz", "--sanitizer", "none"]);
    // No target attaches programs: what is embedded is never loaded, and need not be built.
    command.env("NETD_DATAPLANE_OBJECT", no_object()?);
    command.arg("--target-dir").arg(run::target().join("fuzz")).arg(target);
    Ok(command)
}

/// An empty file: `/dev/null` is none that can be copied. Written once, for its time says whether
/// it changed.
fn no_object() -> Result<PathBuf> {
    let path = run::target().join("fuzz/no-object");
    if !path.exists() {
        fs::create_dir_all(run::target().join("fuzz"))?;
        fs::write(&path, [])?;
    }
    Ok(path)
}

fn found(target: &str) -> PathBuf {
    run::target().join("fuzz/corpus").join(target)
}

fn kept(target: &str) -> PathBuf {
    run::workspace().join("fuzz/corpus").join(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request> {
        Request::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_said_means_half_an_hour_of_every_target() {
        let all = Request { minutes: 30, keeps: false, targets: TARGETS.to_vec() };
        assert_eq!(parse(&[]).unwrap(), all);
    }

    #[test]
    fn what_is_said_is_done() {
        let asked = Request { minutes: 2, keeps: true, targets: vec!["truth"] };
        assert_eq!(parse(&["--minutes", "2", "truth", "--keep"]).unwrap(), asked);
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        assert!(parse(&["parser"]).unwrap_err().to_string().contains("`parser`"));
        assert!(parse(&["--minutes", "ten"]).unwrap_err().to_string().contains("`ten`"));
        assert!(parse(&["--minutes"]).is_err());
    }

    #[test]
    fn every_target_is_built_and_has_a_corpus() {
        let manifest = fs::read_to_string(run::workspace().join("fuzz/Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is built");
            assert!(kept(target).is_dir(), "{target} has a corpus");
        }
    }
}
