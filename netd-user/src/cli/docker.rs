//! `netd docker`: what concerns the networks of a Docker engine on this host.
//!
//! Law: a network whose replacement fails is Docker's own again; one that any container is on, running
//! or not, is left alone.

mod plan;
mod words;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::{self, Client, escape};
use super::error::CliError;
use plan::{Container, Creation, Fate, Network, Planned};
use words::{create_line, told};

/// What sentences call the engine.
const ENGINE: &str = "the Docker daemon";
const DEFAULT_ENGINE: &str = "unix:///var/run/docker.sock";

/// Move a Docker engine's networks to netd
#[derive(Debug, Subcommand)]
pub(super) enum DockerVerb {
    /// Replace the engine's bridge networks by netd networks of the same names, addresses and options
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Only print the commands that would do it
    #[arg(long)]
    dry_run: bool,
    /// Socket of the engine
    #[arg(long, env = "DOCKER_HOST", value_name = "unix:///PATH", default_value = DEFAULT_ENGINE,
          value_parser = client::parse_host)]
    docker_host: PathBuf,
    /// Networks by name [default: all bridge networks]
    networks: Vec<String>,
}

impl DockerVerb {
    /// Does it.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), CliError> {
        match self {
            Self::Import(args) => {
                let engine = Client::of(ENGINE, &args.docker_host)?;
                import(&args, &engine, out)
            }
        }
    }
}

fn import(args: &ImportArgs, engine: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let networks: Vec<Network> = engine.get("/networks")?;
    let containers: Vec<Container> = engine.get("/containers/json?all=1")?;
    let planned = chosen(plan::plan(networks, &containers), &args.networks)?;
    if args.dry_run {
        return Ok(out.write_all(words::script(&planned).as_bytes())?);
    }
    let mut is_done = true;
    for one in &planned {
        is_done &= carry_out(one, engine, out)?;
    }
    out.flush()?;
    if is_done { Ok(()) } else { Err(CliError::Told) }
}

fn chosen(planned: Vec<Planned>, names: &[String]) -> Result<Vec<Planned>, CliError> {
    let is_there = |name: &&String| planned.iter().any(|one| one.network.name == **name);
    if let Some(name) = names.iter().find(|name| !is_there(name)) {
        let sentence =
            format!("the Docker daemon has no bridge network {name}: see docker network ls");
        return Err(CliError::Refused(sentence));
    }
    let is_chosen = |one: &Planned| names.is_empty() || names.contains(&one.network.name);
    Ok(planned.into_iter().filter(is_chosen).collect())
}

/// Whether nothing is left to do about a network.
fn carry_out(one: &Planned, engine: &Client, out: &mut dyn Write) -> Result<bool, CliError> {
    match &one.fate {
        Fate::Keep(reason) => {
            writeln!(out, "{}", told(one))?;
            Ok(reason.is_final())
        }
        Fate::Replace(creation) => match replace(&one.network, creation, engine) {
            Ok(()) => {
                writeln!(out, "{}", told(one))?;
                Ok(true)
            }
            Err(sentence) => {
                eprintln!("{}: {sentence}", one.network.name);
                Ok(false)
            }
        },
    }
}

/// One address range can't be two networks', so the old one goes first and comes back on failure.
fn replace(network: &Network, creation: &Creation, engine: &Client) -> Result<(), String> {
    let path = format!("/networks/{}", escape(&network.id));
    engine.delete(&path).map_err(|error| format!("kept: {error}"))?;
    let Err(error) = create(creation, engine) else { return Ok(()) };
    let old = network.as_it_is();
    match create(&old, engine) {
        Ok(()) => Err(format!("made anew on Docker's bridge, because netd can't have it: {error}")),
        Err(again) => Err(format!(
            "removed, and can't be made: on netd: {error}; on Docker's bridge: {again}; \
             remedy: {}",
            create_line(&old)
        )),
    }
}

fn create(creation: &Creation, engine: &Client) -> Result<(), CliError> {
    engine.tell(hyper::Method::POST, "/networks/create", creation)
}

#[cfg(test)]
mod tests;
