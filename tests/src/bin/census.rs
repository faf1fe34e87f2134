//! Prints what a test run could leave behind; with `--sweep`, removes what a killed run left first.

use anyhow::{Result, bail};
use netd_tests::{census, lab};

fn main() -> Result<()> {
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--sweep" => lab::remove_leftovers()?,
            other => bail!("{other}: the only option is --sweep"),
        }
    }
    for (item, number) in census::census()? {
        println!("{item} x {number}");
    }
    Ok(())
}
