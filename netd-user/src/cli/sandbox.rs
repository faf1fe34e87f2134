//! `netd sandbox`, `netd ps` and `netd port`: sandboxes listed, shown, and filled by other runtimes.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::attach::AttachArgs;
use super::client::{Client, escape};
use super::error::CliError;
use super::flags::{self, Pair};
use super::members;
use super::network::{fetch_each, remove_each, tell_all};
use super::output::{Listing, Row, shown_id, shown_labels, write_inspected};
use super::ports;
use super::run;
use super::template::{self, LABELS};
use super::time::{created_at, human, natural_order, seconds_since};
use crate::api::{Created, PublishedPort, SandboxInspect};

/// Manage sandboxes: network namespaces with endpoints and published ports
#[derive(Debug, Subcommand)]
pub(super) enum SandboxVerb {
    /// Create a sandbox that another runtime fills, and print its id
    Create(Box<CreateArgs>),
    /// Remove sandboxes with their endpoints, and end what 'run' started in them
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// List sandboxes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Run a command in a sandbox
    Exec(ExecArgs),
    /// Show all there is to know of sandboxes
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    attach: AttachArgs,
    /// Fill this network namespace instead of making one
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Print the path of the network namespace instead of the id
    #[arg(long)]
    print_netns: bool,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Do not fail when a sandbox does not exist
    #[arg(short, long)]
    force: bool,
    /// Sandboxes by name, id or id prefix
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Show only what matches: id, name, label, network, publish, expose, status
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = filter)]
    filter: Vec<Pair>,
    /// 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_parser = template::checked)]
    format: Option<String>,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Sandbox by name, id or id prefix
    sandbox: String,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// 'json' or a Go template
    #[arg(short, long, value_parser = template::checked)]
    format: Option<String>,
    /// Sandboxes by name, id or id prefix
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PortArgs {
    /// Container by name, id or id prefix
    container: String,
    /// Show only this container port
    #[arg(value_name = "PORT[/PROTO]", value_parser = ports::wanted)]
    port: Option<(u16, String)>,
}

impl SandboxVerb {
    /// Does it; the exit code is the command's for `exec`.
    pub(super) fn run(self, client: &Client, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        match self {
            Self::Create(args) => create(&args, client, out),
            Self::Rm(args) => rm(&args, client, out),
            Self::Ls(args) => ls(&args, client, out),
            Self::Exec(args) => return Ok(run::exec(&args.sandbox, &args.command, client)),
            Self::Inspect(args) => inspect(&args, client, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path(sandbox: &str) -> String {
    format!("/v1/sandboxes/{}", escape(sandbox))
}

fn create(args: &CreateArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let mut request = args.attach.creation()?;
    request.netns = args.netns.as_ref().map(|path| path.to_string_lossy().into_owned());
    let created: Created = client.post("/v1/sandboxes", &request)?;
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    if !args.print_netns {
        return Ok(writeln!(out, "{}", created.id)?);
    }
    let sandbox: SandboxInspect = client.get(&path(&created.id))?;
    Ok(writeln!(out, "{}", sandbox.netns)?)
}

fn rm(args: &RmArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    remove_each(&args.sandboxes, |sandbox| remove(sandbox, client), args.force, out)
}

/// A sandbox goes by itself with its process: that it is gone then is what was asked for.
fn remove(sandbox: &str, client: &Client) -> Result<(), CliError> {
    let sandbox: SandboxInspect = client.get(&path(sandbox))?;
    let ended = members::end(&sandbox)?;
    match client.delete(&path(&sandbox.id)) {
        Err(error) if error.is_not_found() && ended > 0 => Ok(()),
        removed => removed,
    }
}

fn inspect(args: &InspectArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let (found, missing) = fetch_each::<SandboxInspect>(&args.sandboxes, path, client)?;
    write_inspected(&found, args.format.as_deref(), out)?;
    out.flush()?;
    tell_all(&missing)
}

const LISTING: Listing = Listing {
    quiet: "{{.ID}}",
    table: "{{.ID}}\t{{.Networks}}\t{{.Addresses}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Addresses", "ADDRESSES"),
        ("Ports", "PORTS"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("RunningFor", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Labels", "LABELS"),
        ("Pid", "PID"),
        ("Netns", "NETNS"),
    ],
};

/// `netd ps` and `netd sandbox ls`.
pub(super) fn ls(args: &LsArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let mut sandboxes: Vec<SandboxInspect> = client.get("/v1/sandboxes")?;
    sandboxes.retain(|sandbox| matches_all(sandbox, &args.filter));
    sandboxes.sort_by(|a, b| b.created.cmp(&a.created).then(natural_order(&a.name, &b.name)));
    let rows: Vec<Row> = sandboxes.iter().map(|sandbox| row(sandbox, args.no_trunc)).collect();
    LISTING.write(&rows, args.format.as_deref(), args.quiet, out)
}

/// The id that people know it by.
fn known_id(sandbox: &SandboxInspect) -> &str {
    if sandbox.container_id.is_empty() { &sandbox.id } else { &sandbox.container_id }
}

fn row(sandbox: &SandboxInspect, no_trunc: bool) -> Row {
    let age = seconds_since(&sandbox.created).map(human).unwrap_or_default();
    json!({
        "ID": shown_id(known_id(sandbox), no_trunc),
        "Names": sandbox.name,
        "Networks": shown_networks(sandbox),
        "Addresses": shown_addresses(sandbox),
        "Ports": ports::shown(&sandbox.ports, &sandbox.exposed),
        "Status": shown_status(sandbox, &age),
        "State": sandbox.state,
        "RunningFor": format!("{age} ago"),
        "CreatedAt": created_at(&sandbox.created),
        "Labels": shown_labels(&sandbox.labels),
        "Pid": sandbox.pid.to_string(),
        "Netns": sandbox.netns,
        LABELS: sandbox.labels,
    })
}

fn shown_networks(sandbox: &SandboxInspect) -> String {
    let names: Vec<&str> = sandbox.networks.keys().map(String::as_str).collect();
    if names.is_empty() && sandbox.mode != "bridged" {
        return sandbox.mode.clone();
    }
    names.join(",")
}

fn shown_addresses(sandbox: &SandboxInspect) -> String {
    let endpoints = sandbox.networks.values();
    let addresses: Vec<&str> = endpoints
        .flat_map(|endpoint| [endpoint.ip_address.as_str(), &endpoint.global_ipv6_address])
        .filter(|address| !address.is_empty())
        .collect();
    addresses.join(",")
}

fn shown_status(sandbox: &SandboxInspect, age: &str) -> String {
    if sandbox.reason.is_empty() {
        return format!("Up {age}");
    }
    format!("Failed: {}", sandbox.reason)
}

/// A filter of a known name.
fn filter(text: &str) -> Result<Pair, String> {
    let (name, value) = flags::filter(text)?;
    match name.as_str() {
        "id" | "name" | "label" | "network" | "status" => {}
        "publish" | "expose" => drop(ports::wanted(&value)?),
        _ => return Err(format!("invalid filter '{name}'")),
    }
    Ok((name, value))
}

/// Values of one name are alternatives, but labels all count, as in Docker.
fn matches_all(sandbox: &SandboxInspect, filters: &[Pair]) -> bool {
    filters.iter().all(|(name, value)| {
        if name == "label" {
            return matches(sandbox, name, value);
        }
        filters.iter().any(|(other, value)| other == name && matches(sandbox, name, value))
    })
}

fn matches(sandbox: &SandboxInspect, name: &str, value: &str) -> bool {
    match name {
        "id" => sandbox.id.starts_with(value) || sandbox.container_id.starts_with(value),
        "name" => sandbox.name.contains(value),
        "status" => sandbox.state == value,
        "label" => match value.split_once('=') {
            Some((key, value)) => sandbox.labels.get(key).is_some_and(|held| held == value),
            None => sandbox.labels.contains_key(value),
        },
        "network" => sandbox.networks.iter().any(|(name, endpoint)| {
            name == value || (!value.is_empty() && endpoint.network_id.starts_with(value))
        }),
        "publish" => ports::wanted(value).is_ok_and(|(port, proto)| {
            sandbox.ports.iter().any(|p| ports::covers(p, port, &proto))
        }),
        "expose" => sandbox.exposed.iter().any(|held| ports::wanted(held) == ports::wanted(value)),
        _ => false,
    }
}

/// `netd port`.
pub(super) fn port(args: &PortArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let sandbox: SandboxInspect = client.get(&path(&args.container))?;
    let Some((port, proto)) = &args.port else {
        for line in ports::lines(&sandbox.ports) {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    };
    let published: Vec<&PublishedPort> =
        sandbox.ports.iter().filter(|held| ports::covers(held, *port, proto)).collect();
    if published.is_empty() {
        let name = &args.container;
        let message = format!("no public port '{port}/{proto}' published for {name}");
        return Err(CliError::Refused(message));
    }
    for held in published {
        writeln!(out, "{}", ports::host_side(held, *port))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
