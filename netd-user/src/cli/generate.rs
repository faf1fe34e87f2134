//! `netd completion` and `netd man`: files generated from the same description that parses arguments.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::error::CliError;

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Directory for the pages, made where it is missing
    directory: PathBuf,
}

/// Writes the completion script of a shell.
pub(super) fn completion(
    args: &CompletionArgs,
    mut command: Command,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "netd", &mut script);
    Ok(out.write_all(&script)?)
}

/// Writes a page for each verb.
pub(super) fn man(args: &ManArgs, command: Command) -> Result<(), CliError> {
    let write = |directory: &Path| {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(command, directory)
    };
    write(&args.directory).map_err(|error| {
        CliError::system(format!("cannot write pages to {}", args.directory.display()), error)
    })
}
