//! What a command line can end with besides success, and the exit code of each.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a verb did not succeed. The text is the one sentence a user reads.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The daemon said no.
    #[error("Error response from daemon: {message}")]
    Daemon { status: u16, message: String },
    /// Nobody listens.
    #[error("Cannot connect to {peer} at unix://{}. Is {peer} running?", socket.display())]
    Unreachable { peer: &'static str, socket: PathBuf },
    /// The socket is not ours to open.
    #[error(
        "permission denied while connecting to {peer} at unix://{}: \
         be root or a member of the socket's group", socket.display()
    )]
    Forbidden { peer: &'static str, socket: PathBuf },
    /// Somebody listens but does not answer.
    #[error("{peer} at unix://{} did not answer within {seconds} s", socket.display())]
    Silent { peer: &'static str, socket: PathBuf, seconds: u64 },
    /// Somebody answers, but not in the daemon's language.
    #[error("unexpected answer from unix://{}: {detail}", socket.display())]
    Garbled { socket: PathBuf, detail: String },
    /// A request that makes no sense, found before the daemon was asked.
    #[error("{0}")]
    Refused(String),
    /// A call to the kernel or the file system failed.
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
    /// Standard output is gone or full.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// Each failure was told as it came.
    #[error("some of the requests failed")]
    Told,
}

impl CliError {
    /// A failed system call, named by what it was for.
    pub(super) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }

    /// Whether the daemon does not know the object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Daemon { status: 404, .. })
    }

    /// Tells the user, unless there is nothing to add, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let told = match self {
            Self::Told => true,
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Daemon { .. }
            | Self::Unreachable { .. }
            | Self::Forbidden { .. }
            | Self::Silent { .. }
            | Self::Garbled { .. }
            | Self::Refused(_)
            | Self::System { .. } => false,
        };
        if !told {
            eprintln!("{self}");
        }
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_404_is_not_found() {
        let answer = |status| CliError::Daemon { status, message: String::new() };
        assert!(answer(404).is_not_found());
        assert!(!answer(403).is_not_found());
        assert!(!CliError::Refused("network x not found".into()).is_not_found());
    }
}
