//! `netd status`, `netd monitor`, `netd log-level` and `netd version`.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use hyper::Method;
use tabwriter::TabWriter;

use super::client::Client;
use super::error::CliError;
use super::output::{to_json, write_pretty};
use super::template::{self, Format};
use super::time::human;
use crate::api::{DropEvent, LogLevel, Status};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// 'text', 'json' or a Go template
    #[arg(long, value_parser = template::checked)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct MonitorArgs {
    /// 'text', 'json' or a Go template
    #[arg(long, value_parser = template::checked)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct LogLevelArgs {
    /// A level, or levels by module: info, debug, `netd_user::reconcile=trace`
    filter: String,
}

/// Shows how the daemon is; exit code 1 when it is not well.
pub(super) fn status(
    args: &StatusArgs,
    client: &Client,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let status: Status = client.get("/v1/status")?;
    match args.format.as_deref() {
        None | Some("" | "text") => out.write_all(page(&status)?.as_bytes())?,
        Some("json") => write_pretty(&status, out)?,
        Some(template) => {
            let format = Format::new(template).map_err(CliError::Refused)?;
            writeln!(out, "{}", format.render(&to_json(&status)?)?)?;
        }
    }
    Ok(if status.health == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(status: &Status) -> Result<String, CliError> {
    let mut table = TabWriter::new(Vec::new()).minwidth(0).padding(2);
    for (name, value) in summary(status) {
        writeln!(table, "{name}:\t{value}")?;
    }
    for uplink in &status.uplinks {
        let addresses = [uplink.ipv4.as_str(), &uplink.ipv6];
        let addresses = addresses.into_iter().filter(|text| !text.is_empty());
        let shown = addresses.collect::<Vec<_>>().join(" ");
        writeln!(table, "Uplink:\t{} {shown} mtu {}", uplink.name, uplink.mtu)?;
    }
    for map in status.maps.iter().filter(|map| map.entries > 0) {
        let percent = map.entries.saturating_mul(100) / map.capacity.max(1);
        writeln!(table, "Map {}:\t{}/{} ({percent} %)", map.name, map.entries, map.capacity)?;
    }
    for (event, count) in status.flows.iter().filter(|(_, count)| **count > 0) {
        writeln!(table, "Flows {event}:\t{count}")?;
    }
    for (reason, count) in &status.drops {
        writeln!(table, "Drops {reason}:\t{count}")?;
    }
    let text = table.into_inner().map_err(|error| CliError::Refused(error.to_string()))?;
    let mut page = String::from_utf8_lossy(&text).into_owned();
    for problem in &status.problems {
        let _ = writeln!(page, "PROBLEM: {problem}");
    }
    Ok(page)
}

fn summary(status: &Status) -> [(&'static str, String); 9] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let started = u64::try_from(status.started_s).unwrap_or_default();
    [
        ("Health", status.health.clone()),
        ("Version", status.version.clone()),
        ("Map layout", status.abi.clone()),
        ("Up", human(now.saturating_sub(started))),
        ("Revision", format!("{} (applied {})", status.revision, status.applied_revision)),
        ("Networks", status.networks.to_string()),
        ("Sandboxes", status.sandboxes.to_string()),
        ("Endpoints", status.endpoints.to_string()),
        ("Engine", status.engine.clone()),
    ]
}

/// Shows drops as they happen, until interrupted.
pub(super) fn monitor(
    args: &MonitorArgs,
    client: &Client,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let format = args.format.as_deref().filter(|text| !text.is_empty()).unwrap_or("text");
    let template = match format {
        "text" | "json" => None,
        other => Some(Format::new(other).map_err(CliError::Refused)?),
    };
    client.stream("/v1/events", |line| {
        if line.is_empty() {
            return Ok(());
        }
        if format == "json" {
            out.write_all(line)?;
            writeln!(out)?;
        } else {
            let event: DropEvent = serde_json::from_slice(line)
                .map_err(|error| CliError::Refused(format!("unexpected event: {error}")))?;
            let text = match &template {
                Some(template) => template.render(&to_json(&event)?)?,
                None => event_line(&event),
            };
            writeln!(out, "{text}")?;
        }
        Ok(out.flush()?)
    })?;
    Err(CliError::Refused("the daemon ended the stream of events".into()))
}

fn event_line(event: &DropEvent) -> String {
    let mut line = format!("{} {} at {}", event.time, event.reason, event.hook);
    for (name, value) in [("network", &event.network), ("sandbox", &event.sandbox)] {
        if !value.is_empty() {
            let _ = write!(line, " {name}={value}");
        }
    }
    if !event.proto.is_empty() {
        let _ = write!(line, " {} {} -> {}", event.proto, event.src, event.dst);
    }
    let _ = write!(line, " {} bytes: {}", event.len, event.explanation);
    line
}

/// Changes what the daemon logs.
pub(super) fn log_level(args: &LogLevelArgs, client: &Client) -> Result<(), CliError> {
    let body = LogLevel { filter: args.filter.clone() };
    client.tell(Method::PUT, "/v1/log-level", &body)
}

/// The version of this program, and of the daemon where one answers.
pub(super) fn version(client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    writeln!(out, "Client: {}", env!("CARGO_PKG_VERSION"))?;
    if let Ok(status) = client.get::<Status>("/v1/status") {
        writeln!(out, "Daemon: {} (map layout {})", status.version, status.abi)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MapStatus, UplinkStatus};

    #[test]
    fn the_page_shows_what_is_there_and_what_is_wrong() {
        let status = Status {
            health: "degraded".into(),
            revision: 3,
            applied_revision: 2,
            uplinks: vec![UplinkStatus {
                name: "eth0".into(),
                ipv4: "10.0.0.2".into(),
                ipv6: String::new(),
                mtu: 1500,
            }],
            maps: vec![
                MapStatus { name: "flows".into(), entries: 5, capacity: 10 },
                MapStatus { name: "empty".into(), entries: 0, capacity: 10 },
            ],
            drops: [("not_published".to_owned(), 4)].into(),
            flows: [("evicted".to_owned(), 7), ("pressure".to_owned(), 0)].into(),
            problems: vec!["the uplink is gone".into()],
            ..Status::default()
        };
        let page = page(&status).unwrap();
        for part in [
            "Health:               degraded\n",
            "Revision:             3 (applied 2)\n",
            "Uplink:               eth0 10.0.0.2 mtu 1500\n",
            "Map flows:            5/10 (50 %)\n",
            "Flows evicted:        7\n",
            "Drops not_published:  4\n",
            "PROBLEM: the uplink is gone\n",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("empty") && !page.contains("pressure"));
    }

    #[test]
    fn a_drop_is_one_line() {
        let event = DropEvent {
            time: "T".into(),
            reason: "network_isolation".into(),
            explanation: "two networks".into(),
            hook: "from_container".into(),
            network: "front".into(),
            sandbox: "web".into(),
            ifindex: 7,
            proto: "tcp".into(),
            src: "10.0.0.2:1".into(),
            dst: "10.1.0.2:80".into(),
            len: 60,
        };
        assert_eq!(
            event_line(&event),
            "T network_isolation at from_container network=front sandbox=web \
             tcp 10.0.0.2:1 -> 10.1.0.2:80 60 bytes: two networks"
        );
    }
}
