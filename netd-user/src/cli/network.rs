//! `netd network`: Docker's verbs and flags translated to requests.

use std::io::{BufRead as _, IsTerminal as _, Write};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::client::{Client, escape};
use super::error::CliError;
use super::flags::{self, Pair};
use super::ipam::Asked;
use super::output::{Listing, Row, shown_id, shown_labels, write_inspected};
use super::template::{self, LABELS};
use super::time::{created_at, natural_order};
use crate::api::{
    Connect, Created, Disconnect, EndpointConfig, Ipam, NetworkCreate, NetworkInspect, Pruned,
};

/// Manage networks
#[derive(Debug, Subcommand)]
pub(super) enum NetworkVerb {
    /// Create a network and print its id
    Create(Box<CreateArgs>),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show all there is to know of networks
    Inspect(InspectArgs),
    /// Remove networks that no container uses
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all custom networks that no container uses
    Prune(PruneArgs),
    /// Connect a container to a network
    Connect(ConnectArgs),
    /// Disconnect a container from a network
    Disconnect(DisconnectArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Name of the network
    network: String,
    /// Driver: bridge, host or null
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Subnet in CIDR form; repeat for a second address family
    #[arg(long)]
    subnet: Vec<String>,
    /// Gateway address within a subnet
    #[arg(long)]
    gateway: Vec<String>,
    /// Range within a subnet that containers get addresses from, in CIDR form
    #[arg(long)]
    ip_range: Vec<String>,
    /// Address within a subnet that no container gets
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = flags::named_address)]
    aux_address: Vec<Pair>,
    /// No way in or out
    #[arg(long)]
    internal: bool,
    /// Enable or disable IPv4 addresses [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = flags::truth)]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 addresses [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = flags::truth)]
    ipv6: Option<bool>,
    /// Label of the network
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = flags::pair)]
    label: Vec<Pair>,
    /// Driver option
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = flags::pair)]
    opt: Vec<Pair>,
    /// Driver of address management: default or null
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Option of address management
    #[arg(long, value_name = "KEY=VALUE", value_parser = flags::pair)]
    ipam_opt: Vec<Pair>,
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Show only what matches: driver, id, label, name, scope, type=custom|builtin, dangling
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = flags::filter)]
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
pub(super) struct InspectArgs {
    /// 'json' or a Go template
    #[arg(short, long, value_parser = template::checked)]
    format: Option<String>,
    /// Networks by name, id or id prefix
    #[arg(required = true)]
    networks: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Do not fail when a network does not exist
    #[arg(short, long)]
    force: bool,
    /// Networks by name, id or id prefix
    #[arg(required = true)]
    networks: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove only what matches: label, label!, until
    #[arg(long, value_name = "NAME=VALUE", value_parser = flags::filter)]
    filter: Vec<Pair>,
}

#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// IPv4 address
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long)]
    ip6: Option<String>,
    /// Name of the container on this network beside its own
    #[arg(long)]
    alias: Vec<String>,
    /// Driver option of the endpoint
    #[arg(long, value_name = "KEY=VALUE", value_parser = flags::pair)]
    driver_opt: Vec<Pair>,
    /// The network of the highest priority provides the default route
    #[arg(long, default_value_t, allow_negative_numbers = true)]
    gw_priority: i32,
    /// Network by name, id or id prefix
    network: String,
    /// Container by name, id or id prefix
    container: String,
}

#[derive(Debug, Args)]
pub(super) struct DisconnectArgs {
    /// Do not fail when the network or the container does not exist
    #[arg(short, long)]
    force: bool,
    /// Network by name, id or id prefix
    network: String,
    /// Container by name, id or id prefix
    container: String,
}

impl NetworkVerb {
    /// Does it.
    pub(super) fn run(self, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
        match self {
            Self::Create(args) => create(&args, client, out),
            Self::Ls(args) => ls(&args, client, out),
            Self::Inspect(args) => inspect(&args, client, out),
            Self::Rm(args) => rm(&args, client, out),
            Self::Prune(args) => prune(&args, client, out),
            Self::Connect(args) => connect(&args, client),
            Self::Disconnect(args) => disconnect(args, client),
        }
    }
}

fn path(network: &str) -> String {
    format!("/v1/networks/{}", escape(network))
}

fn create(args: &CreateArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let created: Created = client.post("/v1/networks", &creation(args)?)?;
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    Ok(writeln!(out, "{}", created.id)?)
}

fn creation(args: &CreateArgs) -> Result<NetworkCreate, CliError> {
    let asked = Asked {
        subnets: &args.subnet,
        ranges: &args.ip_range,
        gateways: &args.gateway,
        aux_addresses: &args.aux_address,
    };
    Ok(NetworkCreate {
        name: args.network.clone(),
        driver: Some(args.driver.clone()),
        enable_ipv4: args.ipv4,
        enable_ipv6: args.ipv6,
        internal: args.internal,
        ipam: Ipam {
            driver: Some(args.ipam_driver.clone()),
            options: flags::to_map(&args.ipam_opt),
            config: asked.matched()?,
        },
        options: flags::to_map(&args.opt),
        labels: flags::to_map(&args.label),
    })
}

const LISTING: Listing = Listing {
    quiet: "{{.ID}}",
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

fn ls(args: &LsArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let query = flags::filter_query(&args.filter);
    let mut networks: Vec<NetworkInspect> = client.get(&format!("/v1/networks{query}"))?;
    networks.sort_by(|a, b| natural_order(&a.name, &b.name));
    let rows: Vec<Row> = networks.iter().map(|network| row(network, args.no_trunc)).collect();
    LISTING.write(&rows, args.format.as_deref(), args.quiet, out)
}

fn row(network: &NetworkInspect, no_trunc: bool) -> Row {
    json!({
        "ID": shown_id(&network.id, no_trunc),
        "Name": network.name,
        "Driver": network.driver,
        "Scope": network.scope,
        "IPv4": network.enable_ipv4.to_string(),
        "IPv6": network.enable_ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "Labels": shown_labels(&network.labels),
        "CreatedAt": created_at(&network.created),
        LABELS: network.labels,
    })
}

fn inspect(args: &InspectArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let (found, missing) = fetch_each::<NetworkInspect>(&args.networks, path, client)?;
    write_inspected(&found, args.format.as_deref(), out)?;
    out.flush()?;
    tell_all(&missing)
}

/// Fetches each object; refusals are kept for the end, so that what exists is still shown.
pub(super) fn fetch_each<T: serde::de::DeserializeOwned>(
    names: &[String],
    path: impl Fn(&str) -> String,
    client: &Client,
) -> Result<(Vec<T>, Vec<CliError>), CliError> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match client.get(&path(name)) {
            Ok(object) => found.push(object),
            Err(error @ CliError::Daemon { .. }) => missing.push(error),
            Err(other) => return Err(other),
        }
    }
    Ok((found, missing))
}

/// Tells each failure on its own line.
pub(super) fn tell_all(failures: &[CliError]) -> Result<(), CliError> {
    for failure in failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() { Ok(()) } else { Err(CliError::Told) }
}

fn rm(args: &RmArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    delete_each(&args.networks, path, args.force, client, out)
}

/// Deletes each object and prints its name; failures do not keep the rest.
pub(super) fn delete_each(
    names: &[String],
    path: impl Fn(&str) -> String,
    force: bool,
    client: &Client,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    remove_each(names, |name| client.delete(&path(name)), force, out)
}

/// Removes each object by `remove` and prints its name; failures do not keep the rest.
pub(super) fn remove_each(
    names: &[String],
    remove: impl Fn(&str) -> Result<(), CliError>,
    force: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for name in names {
        match remove(name) {
            Ok(()) => writeln!(out, "{name}")?,
            Err(error) if force && error.is_not_found() => {}
            Err(error @ CliError::Daemon { .. }) => failures.push(error),
            Err(other) => return Err(other),
        }
    }
    out.flush()?;
    tell_all(&failures)
}

fn prune(args: &PruneArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    if !args.force && !confirmed(out)? {
        return Err(CliError::Refused("network prune has been cancelled".into()));
    }
    let query = flags::filter_query(&args.filter);
    let pruned: Pruned = client.trigger(&format!("/v1/networks/prune{query}"))?;
    if !pruned.networks_deleted.is_empty() {
        writeln!(out, "Deleted Networks:\n{}\n", pruned.networks_deleted.join("\n"))?;
    }
    Ok(())
}

fn confirmed(out: &mut dyn Write) -> Result<bool, CliError> {
    writeln!(
        out,
        "WARNING! This will remove all custom networks not used by at least one container."
    )?;
    write!(out, "Are you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    let stdin = std::io::stdin();
    stdin.lock().read_line(&mut answer).map_err(|e| CliError::system("cannot read answer", e))?;
    if !stdin.is_terminal() {
        writeln!(out)?;
    }
    Ok(matches!(answer.trim(), "y" | "Y"))
}

fn connect(args: &ConnectArgs, client: &Client) -> Result<(), CliError> {
    client.tell(Method::POST, &format!("{}/connect", path(&args.network)), &connection(args))
}

fn connection(args: &ConnectArgs) -> Connect {
    Connect {
        container: args.container.clone(),
        endpoint_config: EndpointConfig {
            ipv4_address: args.ip.clone(),
            ipv6_address: args.ip6.clone(),
            mac_address: None,
            aliases: args.alias.clone(),
            gw_priority: args.gw_priority,
            driver_opts: flags::to_map(&args.driver_opt),
        },
    }
}

fn disconnect(args: DisconnectArgs, client: &Client) -> Result<(), CliError> {
    let path = format!("{}/disconnect", path(&args.network));
    match client.tell(Method::POST, &path, &Disconnect { container: args.container }) {
        Err(error) if args.force && error.is_not_found() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
