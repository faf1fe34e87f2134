//! Who is called what, and what is forgotten: small models of an engine.

use std::net::Ipv4Addr;
use std::path::Path;

use super::*;
use crate::compile::tests::world::World;
use crate::dns::names::Names;
use crate::dns::policy::Servers;
use crate::facts::{HostFacts, LinkFact};
use crate::model::{Inside, Keeper, Model, SandboxId};

pub(crate) const APP: NetworkId = NetworkId([1; 32]);
const WEB: SandboxId = SandboxId([1; 32]);

/// An engine's network 1 with sandbox 1, 2 on it; 2 on network 2, too. Names are asked of netd on
/// network 1 where `names`.
pub(crate) fn engine_model(names: bool) -> Arc<Model> {
    let mut world = World::default();
    for n in [1, 2] {
        world.network(n, &format!("{n}{n}{n}"), |network| {
            network.keeper = Keeper::Engine;
            network.bridge.names = (n == 1 && names).then_some(true);
        });
    }
    world.sandbox(1, "aaa", &[(1, 2)]);
    world.sandbox(2, "bbb", &[(1, 3), (2, 3)]);
    for sandbox in world.model.sandboxes.values_mut() {
        let sandbox = Arc::make_mut(sandbox);
        (sandbox.keeper, sandbox.owns_netns) = (Keeper::Engine, false);
        sandbox.netns = Path::new("/nowhere").join(&sandbox.name).into();
        sandbox.hostname = String::new();
    }
    for endpoint in world.model.endpoints.values_mut() {
        let endpoint = Arc::make_mut(endpoint);
        endpoint.inside = Inside::Engine { opened: true };
        endpoint.interface = format!("off{}", endpoint.index).into();
    }
    Arc::new(world.model)
}

/// Its containers `shop-web-1`, with alias `www` on network 1, and `db`; networks `app` and `back`.
pub(crate) fn roster() -> Roster {
    let model = engine_model(false);
    let container = |n: u8, name: &str, labels: &[(&str, &str)], aliases: &[&str]| {
        let ends = model.endpoints_of_sandbox(SandboxId([n; 32]));
        let endpoints: BTreeMap<_, _> = ends.map(|end| (end.id, end.network)).collect();
        let named: BTreeSet<String> = aliases.iter().map(|it| (*it).to_owned()).collect();
        let details = ContainerDetails {
            hostname: format!("host{n}"),
            aliases: endpoints.keys().map(|end| (*end, named.clone())).collect(),
            ..ContainerDetails::default()
        };
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (name, labels) = (name.to_owned(), labels.collect());
        let card = ContainerCard { name, running: true, labels, endpoints };
        Container { id: ContainerId([n + 0xa0; 32]), card, details: Some(details) }
    };
    let card = |name: &str| NetworkCard { name: name.to_owned(), ..NetworkCard::default() };
    let labels = [(COMPOSE_SERVICE, "web"), (COMPOSE_PROJECT, "shop")];
    let mut roster = Roster { link: EngineLink::Connected, ..Roster::default() };
    let networks = BTreeMap::from([(APP, card("app")), (NetworkId([2; 32]), card("back"))]);
    roster.list(
        networks,
        vec![container(1, "shop-web-1", &labels, &["www"]), container(2, "db", &[], &[])],
    );
    roster
}

fn called() -> Called {
    call(&engine_model(true), &roster(), &Places::new())
}

#[test]
fn sandboxes_and_networks_are_called_as_the_engine_calls_them() {
    let called = called();
    let web = &called.model.sandboxes[&WEB];
    assert_eq!((web.name.as_str(), web.hostname.as_str()), ("shop-web-1", "host1"));
    assert_eq!(web.labels[COMPOSE_PROJECT], "shop");
    assert_eq!(called.model.networks[&APP].name, "app");
    let end = called.model.endpoints_of_sandbox(WEB).next().expect("an endpoint");
    assert_eq!(end.aliases, ["a1a1a1a1a1a1", "web", "www"]);
    assert_eq!(called.containers[&WEB], ContainerId([0xa1; 32]));
}

#[test]
fn nothing_but_what_is_shown_changes() {
    let (plain, called) = (engine_model(true), called());
    let mut shown = Model::clone(&called.model);
    for (id, sandbox) in &mut shown.sandboxes {
        *sandbox = Arc::clone(&plain.sandboxes[id]);
    }
    for (id, endpoint) in &mut shown.endpoints {
        Arc::make_mut(endpoint).aliases.clone_from(&plain.endpoints[id].aliases);
    }
    for (id, network) in &mut shown.networks {
        Arc::make_mut(network).name.clone_from(&plain.networks[id].name);
    }
    assert_eq!(shown, *plain);
}

#[test]
fn a_name_of_netds_own_wins_and_the_other_keeps_its_digits() {
    let mut model = Model::clone(&engine_model(false));
    let mut own = crate::model::Sandbox::clone(&model.sandboxes[&WEB]);
    (own.id, own.name, own.keeper) = (SandboxId([9; 32]), "db".to_owned(), Keeper::Netd);
    model.sandboxes.insert(own.id, Arc::new(own));
    let called = call(&Arc::new(model), &roster(), &Places::new());
    let name = |n| called.model.sandboxes[&SandboxId([n; 32])].name.clone();
    assert_eq!([name(1), name(2), name(9)], ["shop-web-1", "bbb", "db"]);
    let found = called.find_sandbox("a2a2").expect("by the engine's id");
    assert_eq!(found.id, SandboxId([2; 32]));
}

#[test]
fn containers_are_found_by_name_by_prefix_of_either_id_and_by_the_digits_they_had() {
    let called = called();
    let digits = &engine_model(true).sandboxes[&WEB].name;
    assert_eq!(called.find_sandbox(digits).expect("by the digits").id, WEB);
    for wanted in ["shop-web-1", "/shop-web-1", "a1a1a1", &"a1".repeat(32), "010101"] {
        assert_eq!(called.find_sandbox(wanted).expect(wanted).id, WEB, "{wanted}");
    }
    let refusal = called.find_sandbox("a").expect_err("two begin so").to_string();
    assert!(refusal.contains("multiple IDs"), "{refusal}");
    assert!(called.find_sandbox("nope").is_err());
    assert_eq!(called.sandbox_reference("nope".to_owned()), "nope");
    assert_eq!(called.network_reference("app".to_owned()), APP.to_string());
}

#[test]
fn names_resolve_on_shared_networks_under_every_name() {
    let called = called();
    let names = Names::of(&called.model, &Servers::default());
    let db = names.asker(SandboxId([2; 32])).expect("an asker");
    for name in ["shop-web-1", "www", "web", "a1a1a1a1a1a1", "host1", "web.app"] {
        let found = names.find(db, name).expect(name);
        assert_eq!(found.holders[0].v4, Some(Ipv4Addr::new(10, 1, 0, 2)), "{name}");
        assert!(found.holders[0].v6.is_some(), "{name}");
    }
    let web = names.asker(WEB).expect("an asker");
    assert_eq!(names.find(web, "db").expect("on app").network, "app");
    assert!(names.find(web, "db.back").is_none());
}

#[test]
fn an_engines_sandbox_asks_netd_where_a_network_of_its_says_so() {
    for names in [false, true] {
        let model = engine_model(names);
        let asks = |n: u8, network: u8| {
            let networks = [&model.networks[&NetworkId([network; 32])]];
            let sandbox = &model.sandboxes[&SandboxId([n; 32])];
            sandbox.asks_netd(networks.into_iter().map(AsRef::as_ref))
        };
        assert_eq!((asks(1, 1), asks(2, 2)), (names, false));
    }
}

/// Facts of a host where each endpoint's ends are there, or the engine has taken one.
fn facts(model: &Model, taken: bool) -> HostFacts {
    let mut facts = HostFacts::default();
    for end in model.endpoints.values() {
        facts.links.insert(end.veth.clone(), LinkFact::default());
        if !taken {
            facts.links.insert(end.interface.clone(), LinkFact::default());
        }
    }
    facts
}

/// What is forgotten of a model at two listings.
fn judged(model: &Model, facts: &HostFacts, listings: &[(u64, &Roster)]) -> BTreeSet<EndpointId> {
    let mut suspects = Suspects::default();
    let mut judged = BTreeSet::new();
    for (listed_s, roster) in listings {
        let roster = Roster { listed_s: Some(*listed_s), ..Roster::clone(roster) };
        judged = suspects.judge(model, facts, &roster);
    }
    judged
}

#[test]
fn an_endpoint_is_forgotten_when_kernel_and_engine_agree_twice() {
    let model = engine_model(false);
    let untaken = facts(&model, false);
    let empty = Roster { containers: BTreeMap::new(), ..roster() };
    let all: BTreeSet<EndpointId> = model.endpoints.keys().copied().collect();
    assert_eq!(judged(&model, &untaken, &[(0, &empty), (30, &empty)]), all);
    assert_eq!(judged(&model, &untaken, &[(0, &empty)]), BTreeSet::new(), "once");
    assert_eq!(judged(&model, &untaken, &[(0, &empty), (10, &empty)]), BTreeSet::new(), "soon");
    let between = [(0, &empty), (30, &roster()), (60, &empty)];
    assert_eq!(judged(&model, &untaken, &between), BTreeSet::new(), "known in between");
}

#[test]
fn what_somebody_may_still_claim_is_not_forgotten() {
    let model = engine_model(false);
    let empty = Roster { containers: BTreeMap::new(), ..roster() };
    let judge =
        |facts: &HostFacts, roster: &Roster| judged(&model, facts, &[(0, roster), (1000, roster)]);
    assert_eq!(judge(&facts(&model, true), &empty), BTreeSet::new(), "taken into a sandbox");
    assert_eq!(judge(&facts(&model, false), &roster()), BTreeSet::new(), "a container's");
    let other = Roster { networks: BTreeMap::new(), ..empty };
    assert_eq!(judge(&facts(&model, false), &other), BTreeSet::new(), "another engine's network");
    let mut suspects = Suspects::default();
    let unlisted = Roster { listed_s: None, ..roster() };
    assert_eq!(suspects.judge(&model, &facts(&model, false), &unlisted), BTreeSet::new());
}

#[test]
fn a_listing_keeps_details_of_containers_that_are_as_they_were() {
    let mut roster = roster();
    let (networks, before) = (roster.networks.clone(), roster.containers.clone());
    let listed = |change: &dyn Fn(&mut Container)| {
        let each = before.values().map(|it| Container { details: None, ..Container::clone(it) });
        each.map(|mut it| (change(&mut it), it).1).collect::<Vec<_>>()
    };
    roster.list(networks.clone(), listed(&|_| {}));
    assert_eq!(roster.containers, before);
    roster.list(networks, listed(&|it| it.card.name.push('x')));
    let unasked: Vec<ContainerId> = roster.unasked(&|network| network == APP).collect();
    assert_eq!(unasked, before.keys().copied().collect::<Vec<_>>());
    assert_eq!(roster.unasked(&|_| false).count(), 0);
}
