//! Sandboxes to rows, and filters of `netd ps`.

use clap::Parser;

use super::*;
use crate::api::EndpointInspect;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    verb: SandboxVerb,
}

fn web() -> SandboxInspect {
    let endpoint = EndpointInspect {
        network_id: "feed".into(),
        ip_address: "172.18.0.2".into(),
        global_ipv6_address: "fd00::2".into(),
        ..EndpointInspect::default()
    };
    SandboxInspect {
        id: "0123456789abcdef".into(),
        name: "web".into(),
        mode: "bridged".into(),
        state: "running".into(),
        labels: [("tier".to_owned(), "front".to_owned())].into(),
        networks: [("net".to_owned(), endpoint)].into(),
        ports: vec![PublishedPort {
            host_ip: "0.0.0.0".into(),
            host_port: 8080,
            container_port: 80,
            count: 1,
            proto: "tcp".into(),
            hits: 0,
        }],
        exposed: vec!["80/tcp".into(), "53/udp".into()],
        ..SandboxInspect::default()
    }
}

fn passes(filters: &[&str]) -> bool {
    let filters: Vec<Pair> = filters.iter().map(|text| filter(text).unwrap()).collect();
    matches_all(&web(), &filters)
}

#[test]
fn a_row_has_dockers_placeholders() {
    let format = "{{.ID}} {{.Names}} {{.Networks}} {{.Ports}} {{.State}} {{.Label \"tier\"}}";
    let mut out = Vec::new();
    LISTING.write(&[row(&web(), false)], Some(format), false, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "0123456789ab web net 0.0.0.0:8080->80/tcp, 53/udp running front\n"
    );
}

#[test]
fn a_failed_sandbox_tells_its_reason() {
    let sandbox = SandboxInspect { reason: "no carrier".into(), ..web() };
    assert_eq!(row(&sandbox, false)["Status"], "Failed: no carrier");
}

#[test]
fn a_sandbox_without_endpoints_shows_its_mode() {
    let sandbox =
        SandboxInspect { mode: "host".into(), networks: [].into(), ..SandboxInspect::default() };
    assert_eq!(shown_networks(&sandbox), "host");
}

#[test]
fn filters_choose_as_in_docker() {
    for filters in [
        &["id=0123"][..],
        &["name=we"],
        &["name=nope", "name=web"],
        &["label=tier", "label=tier=front"],
        &["network=net"],
        &["network=feed"],
        &["publish=80"],
        &["expose=53/udp"],
        &["status=running"],
        &[],
    ] {
        assert!(passes(filters), "{filters:?}");
    }
    for filters in [
        &["id=9"][..],
        &["name=nope"],
        &["label=tier", "label=nope"],
        &["label=tier=back"],
        &["network=other"],
        &["publish=81"],
        &["expose=53"],
        &["status=failed"],
        &["name=web", "id=9"],
    ] {
        assert!(!passes(filters), "{filters:?}");
    }
}

#[test]
fn wrong_values_are_usage_errors() {
    for words in [
        &["create", "--dns", "x"][..],
        &["create", "extra"],
        &["rm"],
        &["ls", "-f", "ancestor=x"],
        &["ls", "-f", "publish=x"],
        &["ls", "--format", "{{nope}}"],
        &["exec"],
        &["exec", "box"],
        &["inspect"],
        &["inspect", "-f", "{{", "box"],
    ] {
        let line = Line::try_parse_from(std::iter::once(&"netd").chain(words));
        assert!(line.is_err(), "{words:?}");
    }
}

#[test]
fn a_command_keeps_its_own_flags() {
    let line = Line::try_parse_from(["netd", "exec", "box", "--", "ls", "-l"]).unwrap();
    let SandboxVerb::Exec(args) = line.verb else { panic!("no exec") };
    assert_eq!(args.command, ["ls", "-l"]);
    let line = Line::try_parse_from(["netd", "exec", "box", "ls", "-l"]).unwrap();
    let SandboxVerb::Exec(args) = line.verb else { panic!("no exec") };
    assert_eq!(args.command, ["ls", "-l"]);
}
