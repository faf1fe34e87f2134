//! Effects on the kernel that fail under an engine's calls, each in its turn.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Engine, World, id, published};

const JOIN: &str = "NetworkDriver.Join";
const PROGRAM: &str = "NetworkDriver.ProgramExternalConnectivity";

/// What a container's start comes to.
impl Engine<'_> {
    /// The first call that is refused, and in which words; none where the container starts.
    fn start(&mut self) -> Option<(&'static str, String)> {
        let create = json!({"NetworkID": id(1), "EndpointID": id(7),
            "Interface": {"Address": "10.1.0.7/24", "MacAddress": ""}, "Options": {}});
        let join = json!({"NetworkID": id(1), "EndpointID": id(7),
            "SandboxKey": "/var/run/docker/netns/abc", "Options": {}});
        let program = published(&id(1), &id(7), 8080, 80);
        let calls = [("NetworkDriver.CreateEndpoint", create), (JOIN, join), (PROGRAM, program)];
        calls.into_iter().find_map(|(method, arguments)| {
            let answered = self.call(method, &arguments);
            (answered.status != 200).then(|| (method, answered.failure().to_owned()))
        })
    }

    /// As an engine takes back what it has begun: it may say so twice.
    fn take_back(&mut self) {
        for method in ["Leave", "Leave", "DeleteEndpoint"] {
            self.end(method, &id(1), &id(7));
        }
    }

    fn has_failed(&self, step: u32) -> bool {
        self.daemon.places().log().contains(&format!("injected fault at effect {step}"))
    }

    fn assert_nothing_left(&self, world: &World, links: &[String], step: u32) {
        let counted = self.daemon.ok(&["status", "--format", "{{.Endpoints}} {{.Sandboxes}}"]);
        assert_eq!(counted.unwrap(), "0 0", "effect {step}");
        assert_eq!(world.links(), links, "effect {step}");
        assert!(!world.is_bound(8080), "effect {step}");
    }
}

/// A15 and A42: at every effect of a start.
#[test]
fn start_that_fails_at_any_effect_leaves_nothing_and_the_next_one_works() {
    let world = World::new();
    let mut engine = world.engine();
    engine.network(1);
    engine.daemon.crash().unwrap();
    let mut refused = BTreeSet::new();
    for step in 1u32.. {
        let mut engine = world.engine_in(&[&format!("NETD_FAULT={step}")], "");
        let links = world.links();
        match engine.start() {
            Some((method, words)) => {
                assert!(words.contains("was taken back"), "effect {step}: {method}: {words}");
                refused.insert(method);
                engine.take_back();
                engine.assert_nothing_left(&world, &links, step);
                assert_eq!(engine.start(), None, "effect {step}: the next start");
            }
            // Work in the background has met the fault, or nothing has: a start has no more effects.
            None if !engine.has_failed(step) => break,
            None => {}
        }
        engine.take_back();
        engine.assert_nothing_left(&world, &links, step);
    }
    assert_eq!(refused, BTreeSet::from([JOIN, PROGRAM]));
}
