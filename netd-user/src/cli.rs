//! The command line: Docker's verbs for networks, and netd's own.
//!
//! Law: translates words to requests and answers to text. It knows nothing of the model, the kernel
//! objects or the daemon's inside, and is given by `main` what it needs from above.

mod attach;
mod check;
mod client;
mod dns;
mod docker;
mod error;
mod flags;
mod generate;
mod ipam;
mod members;
mod network;
mod output;
mod plugin;
mod ports;
mod process;
mod run;
mod sandbox;
mod status;
mod store;
mod template;
#[cfg(test)]
mod testing;
mod time;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use check::{Need, Places};
use client::Client;
use error::CliError;
pub use store::{StoreRequest, StoreWork};

/// What the command line needs from the layers above it.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// Runs the daemon with the configuration of a file, or the default one, until it ends.
    pub daemon: fn(Option<&Path>) -> ExitCode,
    /// Reads from the same configuration where the daemon would put things.
    pub places: fn(Option<&Path>) -> Result<Places, String>,
    /// Tells (`dry_run`) or removes all that a daemon of the same configuration has on the host.
    pub uninstall: fn(Option<&Path>, bool) -> ExitCode,
    /// The capabilities that the daemon needs.
    pub needed: &'static [Need],
    /// Copies, restores and checks the store of the same configuration.
    pub store: StoreWork,
}

const EXIT_CODES: &str = "\
Exit codes:
  0        it worked
  1        it failed; standard error says why
  2        the command line makes no sense
  125      'run' and 'exec': netd could not start the command
  126      'run' and 'exec': the command cannot be executed
  127      'run' and 'exec': there is no such command
  128+N    'run' and 'exec': the command was ended by signal N; else its own exit code";

/// Container networking by eBPF
#[derive(Debug, Parser)]
#[command(name = "netd", version, after_help = EXIT_CODES)]
struct CommandLine {
    /// Socket of the daemon
    #[arg(short = 'H', long, global = true, env = "NETD_HOST", value_name = "unix:///PATH",
          default_value = client::DEFAULT_HOST, value_parser = client::parse_host)]
    host: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Manage networks
    #[command(subcommand)]
    Network(network::NetworkVerb),
    /// Look at what containers are told about names
    #[command(subcommand)]
    Dns(dns::DnsVerb),
    /// Move a Docker engine's networks to netd
    #[command(subcommand)]
    Docker(docker::DockerVerb),
    /// Run a command in a sandbox of its own
    Run(Box<run::RunArgs>),
    /// Manage sandboxes
    #[command(subcommand)]
    Sandbox(sandbox::SandboxVerb),
    /// List the published ports of a container
    Port(sandbox::PortArgs),
    /// List containers
    Ps(sandbox::LsArgs),
    /// Show how the daemon is; exit code 1 when it is not well
    Status(status::StatusArgs),
    /// Show dropped packets as they are dropped
    Monitor(status::MonitorArgs),
    /// Change what the daemon logs
    LogLevel(status::LogLevelArgs),
    /// Check whether this machine can run the daemon; exit code 1 when it cannot
    Check(check::CheckArgs),
    /// Copy, restore and check the durable state
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Run the daemon
    Daemon(DaemonArgs),
    /// Remove all that the daemon has changed on this host: links, programs, settings, files
    Uninstall(UninstallArgs),
    /// Print the completion script of a shell
    Completion(generate::CompletionArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
    /// Show versions
    Version,
}

#[derive(Debug, Args)]
struct DaemonArgs {
    /// Configuration [default: /etc/netd/netd.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    /// Configuration of the daemon that was here [default: /etc/netd/netd.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Does what the arguments of this process say.
pub fn run(wiring: Wiring) -> ExitCode {
    let line = match plugin::read(std::env::args_os()) {
        plugin::Asked::Metadata => {
            println!("{}", plugin::metadata());
            return ExitCode::SUCCESS;
        }
        plugin::Asked::Words(words) => CommandLine::parse_from(words),
    };
    let mut out = BufWriter::new(std::io::stdout());
    let done =
        Client::new(&line.host).and_then(|client| dispatch(line.verb, &client, wiring, &mut out));
    done.and_then(|code| out.flush().map(|()| code).map_err(CliError::from))
        .unwrap_or_else(|error| error.report())
}

fn dispatch(
    verb: Verb,
    client: &Client,
    wiring: Wiring,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    match verb {
        Verb::Run(args) => return Ok(run::run(&args, client)),
        Verb::Sandbox(verb) => return verb.run(client, out),
        Verb::Dns(verb) => return verb.run(client, out),
        Verb::Status(args) => return status::status(&args, client, out),
        Verb::Check(args) => {
            let places = (wiring.places)(args.config.as_deref());
            return check::check(places, wiring.needed, out).map(ExitCode::from);
        }
        Verb::Daemon(args) => return Ok((wiring.daemon)(args.config.as_deref())),
        Verb::Uninstall(args) => {
            return Ok((wiring.uninstall)(args.config.as_deref(), args.dry_run));
        }
        Verb::Network(verb) => verb.run(client, out),
        Verb::Docker(verb) => verb.run(out),
        Verb::Store(verb) => verb.run(wiring.store, out),
        Verb::Port(args) => sandbox::port(&args, client, out),
        Verb::Ps(args) => sandbox::ls(&args, client, out),
        Verb::Monitor(args) => status::monitor(&args, client, out),
        Verb::LogLevel(args) => status::log_level(&args, client),
        Verb::Completion(args) => generate::completion(&args, CommandLine::command(), out),
        Verb::Man(args) => generate::man(&args, CommandLine::command()),
        Verb::Version => status::version(client, out),
    }
    .map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> bool {
        CommandLine::try_parse_from(words.split_whitespace()).is_err()
    }

    #[test]
    fn the_description_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_usage_errors_of_each_verb() {
        for words in [
            "netd",
            "netd nope",
            "netd -H tcp://1.2.3.4:5 version",
            "netd network",
            "netd run",
            "netd run --name x",
            "netd run --dns-search= -- true",
            "netd run --mac-address zz -- true",
            "netd sandbox",
            "netd port",
            "netd port box 0",
            "netd port box 80/foo",
            "netd ps -f nope=1",
            "netd ps extra",
            "netd status --format {{",
            "netd monitor --format {{nope}}",
            "netd log-level",
            "netd check --config",
            "netd daemon extra",
            "netd uninstall extra",
            "netd store",
            "netd store restore",
            "netd store verify a b",
            "netd completion csh",
            "netd man",
            "netd version extra",
        ] {
            assert!(refused(words), "{words}");
        }
    }

    #[test]
    fn the_socket_may_stand_before_or_behind_the_verb() {
        for words in ["netd -H unix:///a/b ps", "netd ps -H unix:///a/b", "netd ps --host /a/b"] {
            let line = CommandLine::try_parse_from(words.split_whitespace()).unwrap();
            assert_eq!(line.host, Path::new("/a/b"), "{words}");
        }
    }

    #[test]
    fn dockers_aliases_work() {
        for words in [
            "netd network list",
            "netd network remove x",
            "netd sandbox list",
            "netd sandbox remove x",
            "netd run --net host -h name -d --rm -p 80:80 -P -- sh -c true",
            "netd run --name x sh -c true",
        ] {
            assert!(!refused(words), "{words}");
        }
    }

    #[test]
    fn help_tells_the_exit_codes_and_completion_and_pages_cover_every_verb() {
        let help = CommandLine::command().render_long_help().to_string();
        assert!(help.contains("127      'run' and 'exec'"), "{help}");
        let dir = tempfile::tempdir().unwrap();
        let args = CommandLine::try_parse_from(["netd", "man", &dir.path().to_string_lossy()]);
        let Verb::Man(args) = args.unwrap().verb else { panic!("no man") };
        generate::man(&args, CommandLine::command()).unwrap();
        for page in ["netd.1", "netd-network-create.1", "netd-run.1", "netd-sandbox-exec.1"] {
            assert!(dir.path().join(page).exists(), "{page}");
        }
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let mut script = Vec::new();
            let line = CommandLine::try_parse_from(["netd", "completion", shell]).unwrap();
            let Verb::Completion(args) = line.verb else { panic!("no completion") };
            generate::completion(&args, CommandLine::command(), &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("aux-address") && script.contains("log-level"), "{shell}");
        }
    }
}
