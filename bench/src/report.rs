//! The report: what the terminal, the web page, the JSON file and the README show.
//!
//! Law: everything shown is computed from `Results` alone, so that a saved run can be shown again.

mod headline;
mod html;
mod svg;
mod targets;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::{Case, Results};
use crate::statistics::{Figure, Ratio};
use crate::units::short;

/// Writes `results.json`, `report.html` and `headline.md` into a directory.
pub(crate) fn write(results: &Results, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let json = serde_json::to_string_pretty(results).context("results as JSON")?;
    let files = [
        ("results.json", json + "\n"),
        ("report.html", html::page(results)),
        ("headline.md", headline::table(results)),
    ];
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Reads what a run saved.
pub(crate) fn read(directory: &Path) -> Result<Results> {
    let path = directory.join("results.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Puts the headline table between its markers in the README, if they are there.
pub(crate) fn into_readme(results: &Results, readme: &Path) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
    if let Some(text) = headline::between_markers(&text, &headline::table(results)) {
        fs::write(readme, text).with_context(|| readme.display().to_string())?;
    }
    Ok(())
}

/// Figure and ratio of a rig in one line.
pub(crate) fn line(case: &Case, rig: &str, figure: &Figure) -> String {
    let ratio = case.ratio(rig).map(|ratio| format!("   netd {}", ratio_text(&ratio)));
    format!(
        "median {:>7}   best {:>7}   spread {:>3.0} %{}",
        short(figure.median),
        short(figure.best),
        figure.spread() * 100.0,
        ratio.unwrap_or_default()
    )
}

/// A ratio for people: refused ones say why.
fn ratio_text(ratio: &Ratio) -> String {
    match ratio {
        Ratio::Shown { median, low, high } => format!("{median:.2}x ({low:.2} to {high:.2})"),
        Ratio::Refused { spread: Some(spread) } => {
            format!("no ratio: spread {:.0} %", spread * 100.0)
        }
        Ratio::Refused { spread: None } => "no ratio: too few rounds".to_owned(),
    }
}
