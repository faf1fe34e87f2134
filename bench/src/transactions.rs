//! Transactions and streams on each way through each rig.

use anyhow::{Context, Result};

use crate::results::{Case, Section};
use crate::rig::{Family, Path, Standing};
use crate::session::{Effort, Session};
use crate::statistics::Better;
use crate::traffic::{Kind, Route, burst};

/// All kinds on all ways over IPv4, and requests over IPv6.
pub(crate) fn all(session: &mut Session, standings: &[Standing]) -> Result<()> {
    for path in Path::ALL {
        for kind in session.effort.kinds {
            measure(
                session,
                standings,
                ((path, Family::V4), *kind),
                cases(path, Family::V4, *kind),
            )?;
        }
    }
    for path in session.effort.ways_v6 {
        let path = *path;
        for kind in [Kind::TcpRr, Kind::TcpCrr] {
            measure(session, standings, ((path, Family::V6), kind), cases(path, Family::V6, kind))?;
        }
    }
    Ok(())
}

/// Short connections to a published port, against the number of ports, where ports are published.
pub(crate) fn scaling(session: &mut Session, standings: &[Standing], ports: u16) -> Result<()> {
    for path in [Path::OutsideToPublished, Path::HostToPublished] {
        let group = "TCP_CRR by published ports";
        let kind = Kind::TcpCrr;
        let case = Case::new(Section::Scaling, group, path.name(), kind.unit(), Better::Higher);
        let way = ((path, Family::V4), kind);
        measure(session, standings, way, vec![case.at(u64::from(ports))])?;
    }
    Ok(())
}

fn measure(
    session: &mut Session,
    standings: &[Standing],
    (way, kind): ((Path, Family), Kind),
    cases: Vec<Case>,
) -> Result<()> {
    let subjects: Vec<(String, Route)> = standings
        .iter()
        .filter_map(|standing| Some((standing.rig.to_owned(), standing.routes.get(&way)?.clone())))
        .collect();
    let Effort { rounds, burst: length, .. } = session.effort;
    let cpu = session.cpu;
    session
        .interleave(rounds, cases, subjects, |route| {
            let burst = burst(kind, route, cpu, length)?;
            let latency =
                burst.latency.map_or(Vec::new(), |latency| vec![latency.p50, latency.p99]);
            Ok([vec![burst.rate], resources(kind, burst.rate), latency].concat())
        })
        .with_context(|| format!("{}, {}", kind.name(), way.0.name()))
}

fn cases(path: Path, family: Family, kind: Kind) -> Vec<Case> {
    let group = match family {
        Family::V4 => path.name().to_owned(),
        Family::V6 => format!("{}, IPv6", path.name()),
    };
    let case =
        |section, title: &str, unit: &str, better| Case::new(section, &group, title, unit, better);
    let rate = case(Section::Traffic, kind.name(), kind.unit(), Better::Higher);
    match kind {
        Kind::TcpRr | Kind::TcpCrr | Kind::UdpRr => {
            let latency = |part: &str| {
                let title = format!("{} {part}", kind.name());
                case(Section::Traffic, &title, "us", Better::Lower)
            };
            vec![rate, latency("p50"), latency("p99")]
        }
        Kind::Bulk1 | Kind::Bulk8 => {
            let title = format!("CPU time of {}", kind.name());
            vec![rate, case(Section::Resources, &title, "CPU s/GB", Better::Lower)]
        }
    }
}

/// CPU seconds per gigabyte of a stream: both ends share one CPU, which is never idle while it flows.
fn resources(kind: Kind, rate: f64) -> Vec<f64> {
    match kind {
        Kind::TcpRr | Kind::TcpCrr | Kind::UdpRr => Vec::new(),
        Kind::Bulk1 | Kind::Bulk8 => vec![1_000.0 / rate],
    }
}
