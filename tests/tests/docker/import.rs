//! `netd docker import` on a real engine.

use anyhow::{Result, ensure};

use super::case::{Case, PORT, reaches};
use super::{Scenario, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("import replaces bridge networks, and leaves those in use", import),
    netd("import gives back to Docker what netd can't have", given_back),
];

/// Runs it as an operator would, on this engine.
fn imported(case: &Case<'_, '_>, arguments: &[&str]) -> Result<netd_tests::daemon::Said> {
    let socket = format!("unix://{}", case.rig.engine().socket().display());
    case.rig.daemon().cli(&[&["docker", "import", "--docker-host", &socket], arguments].concat())
}

fn shown(case: &Case<'_, '_>, network: &str) -> Result<String> {
    let format =
        "{{.Driver}} {{.IPAM.Driver}} {{json .IPAM.Config}} {{json .Options}} {{json .Labels}}";
    case.ok(&["network", "inspect", "-f", format, network])
}

fn import(case: &Case<'_, '_>) -> Result<()> {
    let own = ["--subnet", "10.51.0.0/24", "--gateway", "10.51.0.9", "--label", "tier=front"];
    let more = ["-o", "com.docker.network.driver.mtu=1400", "app"];
    case.ok(&[&["network", "create"], &own[..], &more].concat())?;
    case.ok(&["network", "create", "--internal", "--subnet", "10.52.0.0/24", "busy"])?;
    case.run("web", "busy", &[])?;
    let before = shown(case, "app")?;
    let script = imported(case, &["--dry-run"])?;
    ensure!(
        script.code == Some(0) && script.stdout.contains("docker network rm app"),
        "{script:?}"
    );
    ensure!(script.stdout.contains("busy: kept: web is on it"), "{script:?}");
    ensure!(shown(case, "app")? == before, "a dry run has changed something");

    let said = imported(case, &[])?;
    ensure!(said.code == Some(1), "busy is left, and the exit code is {:?}", said.code);
    ensure!(shown(case, "app")? == before.replace("bridge default", "netd netd"), "{said:?}");
    ensure!(shown(case, "busy")?.starts_with("bridge default"), "{said:?}");
    case.ok(&["rm", "-f", "web"])?;
    ensure!(imported(case, &["busy"])?.code == Some(0), "busy is free and was not replaced");

    let (web, client) = (case.run("web", "app", &[])?, case.run("client", "app", &[])?);
    let _servers = web.serve()?;
    let address = case.address("web", "app", false)?;
    ensure!(address == std::net::IpAddr::from([10, 51, 0, 1]), "{address}");
    reaches(&client.netns, std::net::SocketAddr::new(address, PORT))?;
    let again = imported(case, &[])?;
    ensure!(again.code == Some(0) && !again.stdout.contains("on netd"), "{again:?}");
    Ok(())
}

fn given_back(case: &Case<'_, '_>) -> Result<()> {
    let options = ["--subnet", "10.51.0.0/24", "-o", "netd.nonsense=1"];
    case.ok(&[&["network", "create"], &options[..], &["app"]].concat())?;
    let before = shown(case, "app")?;
    let said = imported(case, &["app"])?;
    ensure!(said.code == Some(1) && said.stderr.contains("netd.nonsense"), "{said:?}");
    ensure!(shown(case, "app")? == before, "{said:?}");
    Ok(())
}
