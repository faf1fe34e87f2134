//! The laws of the one mutator, each under faults.

use std::collections::BTreeSet;
use std::time::Duration;

use super::testing::{Bench, FakeKernel, Taken, bench, bench_over, eventually, quick};
use super::*;
use crate::model::sandbox::ProcessRef;
use crate::model::{NetworkSpec, SandboxSpec, port};
use crate::store::memory::MemoryStore;

fn network(name: &str) -> Command {
    Command::CreateNetwork(Box::new(NetworkSpec {
        name: name.to_owned(),
        ..NetworkSpec::default()
    }))
}

fn sandbox(name: &str, ports: &[&str]) -> SandboxSpec {
    let ports = ports.iter().flat_map(|text| port::parse_ports(text).expect("ports")).collect();
    SandboxSpec { name: Some(name.to_owned()), ports, ..SandboxSpec::default() }
}

fn create(spec: SandboxSpec) -> Command {
    Command::CreateSandbox(Box::new(spec))
}

/// What stays the same when a command leaves nothing behind.
fn traces(bench: &Bench) -> (Arc<Model>, crate::desired::Desired, crate::store::Contents) {
    (bench.controller.model(), bench.kernel.held(), bench.store.contents())
}

async fn refused_without_trace(bench: &Bench, command: Command) -> ControllerError {
    let before = traces(bench);
    let error = bench.controller.execute(command).await.expect_err("refused");
    assert_eq!(traces(bench), before);
    error
}

#[tokio::test]
async fn a_start_makes_the_predefined_networks_and_keeps_them() {
    let bench = bench().await;
    let model = bench.controller.model();
    let names: BTreeSet<&str> = model.networks.values().map(|n| n.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["bridge", "host", "none"]));
    assert!(bench.kernel.held().links.contains_key("netd0"));
    let (stored, memory) = bench.store.contents().decode().expect("stored");
    assert_eq!(stored, *model);
    assert_eq!(memory.expect("memory").ula_prefix, bench.controller.settings().ula_prefix);
}

#[tokio::test]
async fn a_controller_that_is_stuck_counts_no_turns() {
    let bench = bench().await;
    let mut turns = bench.turns.clone();
    for _ in 0..3 {
        turns.changed().await.expect("a turn");
    }
    bench.kernel.slow_down(Duration::from_hours(1));
    let controller = bench.controller.clone();
    let stuck = tokio::spawn(async move { controller.execute(network("blue")).await });
    let still = Duration::from_millis(500);
    let silence = async { while tokio::time::timeout(still, turns.changed()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_mins(1), silence).await.expect("no more turns");
    stuck.abort();
}

#[tokio::test]
async fn settings_told_to_a_running_controller_hold_from_then_on() {
    let bench = bench().await;
    let pool = |model: &Model, name: &str| {
        let network = model.networks.values().find(|n| n.name == name).expect("a network");
        format!("{:?}", network.pools)
    };
    let config = crate::config::Config::parse(
        "default-address-pools = [{ base = '10.123.0.0/16', size = 24 }]",
        std::path::Path::new("netd.toml"),
    )
    .expect("a configuration");
    bench.controller.reload(Live {
        settings: config.base_settings().clone(),
        compile: config.compile_settings(),
        verify_interval: config.verify_interval,
    });
    bench.controller.execute(network("blue")).await.expect("network");
    let found = pool(&bench.controller.model(), "blue");
    assert!(found.contains("10.123.0.0"), "{found}");
}

#[tokio::test]
async fn what_was_done_is_there_after_a_restart() {
    let first = bench().await;
    first.controller.execute(network("blue")).await.expect("network");
    first.controller.execute(create(sandbox("web", &["8080:80"]))).await.expect("sandbox");
    let before = traces(&first);
    let ula = first.controller.settings().ula_prefix;
    first.stop.send(true).expect("running");
    first.task.await.expect("ended");
    let second = bench_over(FakeKernel::new(), first.store, quick()).await.expect("restart");
    assert_eq!(traces(&second), before);
    assert_eq!(second.controller.settings().ula_prefix, ula);
}

#[tokio::test]
async fn a_command_whose_apply_fails_leaves_nothing_behind() {
    let bench = bench().await;
    for command in [network("blue"), create(sandbox("web", &["80:80"]))] {
        bench.kernel.fail_next(&[true]);
        let error = refused_without_trace(&bench, command).await;
        assert!(matches!(error, ControllerError::Apply(_)), "{error}");
    }
}

#[tokio::test]
async fn a_command_that_can_not_be_stored_leaves_nothing_behind() {
    let bench = bench().await;
    bench.store.fail(Some("disk full"));
    for command in [network("blue"), create(sandbox("web", &["80:80"]))] {
        let error = refused_without_trace(&bench, command).await;
        let sentence = "the change was taken back: the change could not be stored: disk full";
        assert_eq!(error.to_string(), sentence);
    }
}

#[tokio::test]
async fn a_removal_that_fails_keeps_the_object_whole() {
    let bench = bench().await;
    bench.controller.execute(create(sandbox("web", &["80:80"]))).await.expect("sandbox");
    bench.kernel.fail_next(&[true]);
    refused_without_trace(&bench, Command::RemoveSandbox { sandbox: "web".to_owned() }).await;
}

#[tokio::test]
async fn a_rollback_that_fails_is_told_and_tried_again() {
    let bench = bench().await;
    let held = bench.kernel.held();
    bench.kernel.fail_next(&[true, true]);
    bench.controller.execute(network("blue")).await.expect_err("failed");
    assert_eq!(bench.controller.view().problems.len(), 1);
    eventually("the kernel holds the old state", || bench.kernel.held() == held).await;
    eventually("the problem is gone", || bench.controller.view().problems.is_empty()).await;
}

#[tokio::test]
async fn a_busy_port_is_refused_in_dockers_words() {
    let bench = bench().await;
    bench.kernel.take_port(80, Taken::Busy);
    let error = refused_without_trace(&bench, create(sandbox("web", &["80:80"]))).await;
    let sentence = "failed to bind host port 0.0.0.0:80/tcp: address already in use";
    assert_eq!(error.to_string(), sentence);
    bench.kernel.take_port(81, Taken::NoAddress);
    let error = refused_without_trace(&bench, create(sandbox("web", &["81:80/udp"]))).await;
    let sentence = "failed to bind host port 0.0.0.0:81/udp: cannot assign requested address";
    assert_eq!(error.to_string(), sentence);
}

#[tokio::test]
async fn a_random_port_that_is_busy_is_drawn_again() {
    let bench = bench().await;
    let first = 32_769;
    for port in first..first + 5 {
        bench.kernel.take_port(port, Taken::Busy);
    }
    bench.controller.execute(create(sandbox("web", &["80"]))).await.expect("another port");
    let held: BTreeSet<u16> = bench.kernel.held().held_ports.iter().map(|p| p.port).collect();
    assert_eq!(held, BTreeSet::from([first + 5]));
}

#[tokio::test]
async fn a_random_port_is_drawn_ten_times_at_most() {
    let bench = bench().await;
    for port in 32_769..32_869 {
        bench.kernel.take_port(port, Taken::Busy);
    }
    let before = bench.kernel.applies();
    let error = refused_without_trace(&bench, create(sandbox("web", &["80"]))).await;
    assert!(error.to_string().ends_with("address already in use"), "{error}");
    assert_eq!(bench.kernel.applies() - before, 11, "ten tries and the way back");
}

#[tokio::test]
async fn a_port_lost_to_others_fails_its_sandbox_and_nobody_else() {
    let first = bench().await;
    first.controller.execute(create(sandbox("web", &["80:80"]))).await.expect("sandbox");
    first.stop.send(true).expect("running");
    first.task.await.expect("ended");
    let kernel = FakeKernel::new();
    kernel.take_port(80, Taken::Busy);
    let second = bench_over(kernel, first.store, quick()).await.expect("restart");
    let view = second.controller.view();
    let reasons: Vec<&str> = view.failures.values().map(String::as_str).collect();
    assert_eq!(reasons, ["failed to bind host port 0.0.0.0:80/tcp: address already in use"]);
    assert!(view.applied_revision < view.revision);
    second.controller.execute(create(sandbox("db", &[]))).await.expect("others go on");
    second.kernel.free_ports();
    eventually("the port is held", || second.controller.view().failures.is_empty()).await;
    assert!(second.kernel.held().held_ports.iter().any(|port| port.port == 80));
}

#[tokio::test]
async fn a_full_queue_and_a_late_answer_are_told() {
    let tuning = Tuning { deadline: Duration::from_millis(300), ..quick() };
    let bench = bench_over(FakeKernel::new(), MemoryStore::default(), tuning).await.expect("start");
    bench.kernel.slow_down(Duration::from_secs(2));
    let waiting = (0..=QUEUE_LEN + 1).map(|n| {
        let controller = bench.controller.clone();
        async move { controller.execute(network(&format!("n{n}"))).await }
    });
    let results = futures_util::future::join_all(waiting).await;
    let told = |wanted: fn(&ControllerError) -> bool| {
        results.iter().filter(|result| result.as_ref().is_err_and(wanted)).count()
    };
    assert!(told(|error| matches!(error, ControllerError::Busy)) >= 1);
    assert!(told(|error| matches!(error, ControllerError::Deadline(_))) >= QUEUE_LEN);
}

#[tokio::test]
async fn a_sandbox_goes_with_its_owner() {
    let bench = bench().await;
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("child");
    let pid = i32::try_from(child.id()).expect("pid");
    let owner = Some(process(pid));
    let spec = SandboxSpec { owner, ..sandbox("web", &[]) };
    bench.controller.execute(create(spec)).await.expect("sandbox");
    assert_eq!(bench.controller.model().sandboxes.len(), 1);
    child.kill().expect("kill");
    eventually("the sandbox is gone", || bench.controller.model().sandboxes.is_empty()).await;
    assert!(bench.store.contents().decode().expect("stored").0.sandboxes.is_empty());
    child.wait().expect("reaped");
}

#[tokio::test]
async fn an_owner_gone_while_the_daemon_was_down_is_noticed_at_start() {
    let first = bench().await;
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("child");
    let owner = Some(process(i32::try_from(child.id()).expect("pid")));
    first
        .controller
        .execute(create(SandboxSpec { owner, ..sandbox("web", &[]) }))
        .await
        .expect("web");
    first.stop.send(true).expect("running");
    first.task.await.expect("ended");
    child.kill().expect("kill");
    child.wait().expect("reaped");
    let second = bench_over(FakeKernel::new(), first.store, quick()).await.expect("restart");
    assert!(second.controller.model().sandboxes.is_empty());
}

#[tokio::test]
async fn an_owner_is_told_apart_from_a_later_process_with_its_number() {
    let bench = bench().await;
    let own = process(i32::try_from(std::process::id()).expect("pid"));
    let other = ProcessRef { start_ticks: own.start_ticks + 1, ..own };
    let spec = SandboxSpec { owner: Some(other), ..sandbox("web", &[]) };
    let error = refused_without_trace(&bench, create(spec)).await;
    assert!(error.to_string().ends_with("is not running"), "{error}");
}

#[tokio::test]
async fn a_path_that_is_no_namespace_is_refused_and_so_is_the_hosts_own() {
    let bench = bench().await;
    for path in ["/etc/hostname", "relative", "/nowhere", "/proc/self/ns/net"] {
        let spec = SandboxSpec { netns: Some(path.into()), ..sandbox("web", &[]) };
        let error = refused_without_trace(&bench, create(spec)).await;
        assert!(matches!(error, ControllerError::Refused(_)), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_change_of_the_host_is_followed() {
    let bench = bench().await;
    let before = bench.kernel.applies();
    bench.changes.send_modify(|count| *count += 1);
    eventually("another apply", || bench.kernel.applies() > before).await;
}

#[tokio::test]
async fn the_revision_counts_changes_and_only_those() {
    let bench = bench().await;
    let before = bench.controller.view().revision;
    bench.controller.execute(network("blue")).await.expect("network");
    bench.controller.execute(network("blue")).await.expect_err("twice");
    let view = bench.controller.view();
    assert_eq!((view.revision, view.applied_revision), (before + 1, before + 1));
}

fn process(pid: i32) -> ProcessRef {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields = stat.rsplit_once(')').expect("name").1;
    let start_ticks = fields.split_whitespace().nth(19).expect("field").parse().expect("number");
    ProcessRef { pid, start_ticks }
}

#[tokio::test]
async fn what_runs_out_is_told_until_there_is_enough_again() {
    let bench = bench().await;
    bench.kernel.run_short(&["the disk is full"]);
    eventually("the problem", || bench.controller.view().problems == ["the disk is full"]).await;
    bench.kernel.run_short(&[]);
    eventually("its end", || bench.controller.view().problems.is_empty()).await;
}

#[tokio::test]
async fn a_store_that_refuses_is_told_until_it_takes_changes_again() {
    let bench = bench().await;
    bench.store.fail(Some("disk full"));
    bench.controller.execute(network("app")).await.expect_err("not stored");
    let told = || bench.controller.view().problems.iter().any(|it| it.contains("disk full"));
    eventually("the problem", told).await;
    bench.store.fail(None);
    eventually("its end", || !told()).await;
    assert!(bench.controller.model().networks.values().all(|network| network.name != "app"));
}
