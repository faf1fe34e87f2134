//! `cargo xtask tidy`: the rules of the house that no compiler knows: what each layer may name,
//! where `unsafe` may stand, how long a file may be. Rules are tables; a rule's exception is a line
//! in its table, with the reason.

mod rules;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run;

/// A broken rule, where it was broken.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    line: usize,
    says: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.says)
    }
}

/// Checks every Rust file of the workspace and prints what breaks a rule.
pub(crate) fn run(_options: &[String]) -> Result<()> {
    let mut files = Vec::new();
    collect(run::workspace(), &mut files)?;
    files.sort();
    let mut broken = 0;
    for file in &files {
        let source =
            fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        let path = file.strip_prefix(run::workspace()).unwrap_or(file).to_string_lossy();
        for violation in rules::check(&path, &source) {
            println!("{violation}");
            broken += 1;
        }
    }
    ensure!(broken == 0, "{broken} rules of the house broken in {} files", files.len());
    println!("tidy: {} files keep the rules of the house", files.len());
    Ok(())
}

/// Every `.rs` file below, but what cargo, git and the like keep for themselves.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("can't list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
