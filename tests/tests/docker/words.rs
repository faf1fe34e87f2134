//! What the command line says: the engine's own words, whatever the driver.

use anyhow::{Result, ensure};

use super::case::Case;
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("G01 G02 names are unique and networks in use stay", names),
    both("G03 the engine's own networks stay and lend their names to nobody", predefined),
    both("G08 prune removes what nobody uses", prune),
    both("G04 unknown networks are not found", unknown),
    both("G05 a container is on a network once", twice),
    both("G06 the host, nobody and another container share with no network", modes),
    both("G07 names may hold any characters", characters),
    both("G09 inspect shows what was asked for and who is there", inspect),
    netd("docker netd shows what docker itself can't", client_plugin),
    netd("A07 unknown options of ours are refused by name", unknown_option),
];

fn names(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.refused_with(&case.create(&["app"]), "network with name app already exists")?;
    case.run("web", "app", &[])?;
    case.refused_with(&["network", "rm", "app"], "has active endpoints")
}

fn predefined(case: &Case<'_, '_>) -> Result<()> {
    for name in ["bridge", "host", "none"] {
        let words = "is a pre-defined network and cannot be removed";
        case.refused_with(&["network", "rm", name], words)?;
        case.refused_with(&case.create(&[name]), "operation is not permitted on predefined")?;
    }
    Ok(())
}

fn prune(case: &Case<'_, '_>) -> Result<()> {
    case.network("used", &[])?;
    case.network("unused", &[])?;
    case.run("web", "used", &[])?;
    let said = case.ok(&["network", "prune", "-f"])?;
    ensure!(said.contains("unused") && !said.contains("\nused"), "{said}");
    case.ok(&["network", "inspect", "used"]).map(drop)
}

fn unknown(case: &Case<'_, '_>) -> Result<()> {
    let said = case.refused(&["network", "inspect", "nope"])?;
    // The first are the words of 20.10, the others those of later engines.
    let words = ["No such network: nope", "network nope not found"];
    ensure!(words.iter().any(|words| said.contains(words)), "{said}");
    case.refused_with(&Case::start("web", &["--network", "nope"]), "network nope not found")
}

fn twice(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("web", "app", &[])?;
    let before = case.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"])?;
    let words = "endpoint with name web already exists in network app";
    case.refused_with(&["network", "connect", "app", "web"], words)?;
    let after = case.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"])?;
    ensure!(before == after, "{before}\n{after}");
    Ok(())
}

fn modes(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    for (name, mode) in [("web", "app"), ("of-host", "host"), ("alone", "none")] {
        case.ok(&Case::start(name, &["--network", mode]))?;
    }
    case.ok(&Case::start("side", &["--network", "container:web"]))?;
    let before = case.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"])?;
    let sharing = "container sharing network namespace with another container or host cannot be \
                   connected to any other network";
    let private = "container cannot be connected to multiple networks with one of the networks in \
                   private (none) mode";
    // Each engine has a sentence of its own about the host's network.
    let refusals: [(&[&str], &str); 8] = [
        (&["connect", "app", "of-host"], sharing),
        (&["connect", "app", "side"], sharing),
        (&["connect", "app", "alone"], private),
        (&["connect", "host", "web"], "host network"),
        (&["disconnect", "host", "of-host"], "host network"),
        (&["connect", "none", "web"], private),
        (&["disconnect", "host", "web"], "is not connected to"),
        (&["disconnect", "app", "alone"], "is not connected to"),
    ];
    for (words, sentence) in refusals {
        case.refused_with(&[&["network"], words].concat(), sentence)?;
    }
    let after = case.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", "web"])?;
    ensure!(before == after, "{before}\n{after}");
    Ok(())
}

fn characters(case: &Case<'_, '_>) -> Result<()> {
    for name in ["network.with-all_of.them", "Ünïcode"] {
        case.network(name, &[])?;
        case.ok(&["network", "inspect", name])?;
        case.ok(&["network", "rm", name])?;
    }
    Ok(())
}

fn inspect(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24", "--gateway", "10.51.0.9", "-o", "foo=bar"])?;
    case.run("web", "app", &[])?;
    let shown = case.ok(&["network", "inspect", "app"])?;
    for word in ["10.51.0.0/24", "10.51.0.9", "\"foo\": \"bar\"", "\"Name\": \"web\""] {
        ensure!(shown.contains(word), "no {word} in {shown}");
    }
    let mac = case.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.app.MacAddress}}", "web"])?;
    ensure!(mac.len() == 17 && shown.contains(&mac), "{mac}: {shown}");
    let inside = case.exec("web", &["ip", "link", "show", "eth0"])?.stdout;
    ensure!(inside.contains(&mac), "{mac}: {inside}");
    Ok(())
}

fn client_plugin(case: &Case<'_, '_>) -> Result<()> {
    let netd = netd_tests::process::built("netd")?;
    case.rig.engine().install_client_plugin("netd", &netd)?;
    case.network("app", &[])?;
    case.run("web", "app", &["-p", "8080:7000"])?;
    let key = case.ok(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web"])?;
    let sandbox = key.rsplit('/').next().unwrap_or_default();
    let daemon = format!("unix://{}", case.rig.daemon().places().socket().display());
    let shown = case.ok(&["netd", "-H", &daemon, "port", sandbox])?;
    ensure!(shown.contains("7000/tcp -> 0.0.0.0:8080"), "{shown}");
    let help = case.ok(&["help"])?;
    ensure!(help.contains("Container networking by eBPF"), "{help}");
    Ok(())
}

fn unknown_option(case: &Case<'_, '_>) -> Result<()> {
    case.refused_with(&case.create(&["-o", "netd.nonsense=1", "app"]), "netd.nonsense")
}
