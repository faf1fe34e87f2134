//! `netd store`: copies of the durable state, made, put back and checked. Needs no running daemon.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::error::CliError;

/// What is asked of the store that a configuration names; the answer is text for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Copy it to a file, or to the next place in turn.
    Backup(Option<PathBuf>),
    /// Put a copy in its place.
    Restore(PathBuf),
    /// Check it and all its copies, or one file.
    Verify(Option<PathBuf>),
}

/// Carries out a request on the store of a configuration's file, or of the default one.
pub type StoreWork = fn(StoreRequest, Option<&Path>) -> Result<String, String>;

#[derive(Debug, Subcommand)]
pub(super) enum StoreVerb {
    /// Copy the store, whether the daemon runs or not
    Backup(BackupArgs),
    /// Put a copy in the place of the store; the daemon must not run
    Restore(RestoreArgs),
    /// Check the store and its copies; exit code 1 when one is damaged
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// New file for the copy [default: the next in STATE-DIR/backups]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The copy
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A copy [default: the store itself and every copy in STATE-DIR/backups]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// Configuration of the daemon whose store it is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl StoreVerb {
    /// Does it and says what came of it.
    pub(super) fn run(self, work: StoreWork, out: &mut dyn Write) -> Result<(), CliError> {
        let (request, place) = match self {
            Self::Backup(args) => (StoreRequest::Backup(args.file), args.place),
            Self::Restore(args) => (StoreRequest::Restore(args.file), args.place),
            Self::Verify(args) => (StoreRequest::Verify(args.file), args.place),
        };
        let said = work(request, place.config.as_deref()).map_err(CliError::Refused)?;
        Ok(writeln!(out, "{said}")?)
    }
}
