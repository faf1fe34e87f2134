//! What real engines sent, word for word: each recorded call is repeated, with ids and addresses as
//! this plugin gave them out, and nothing is left in the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Engine, World};

#[test]
fn engine_20_lives_and_dies_with_the_plugin() {
    replay(include_str!("traces/engine-v20.txt"));
}

#[test]
fn engine_20_mixes_networks_of_all_kinds() {
    replay(include_str!("traces/engine-v20b.txt"));
}

#[test]
fn engine_29_lives_and_dies_with_the_plugin() {
    replay(include_str!("traces/engine-v29.txt"));
}

#[test]
fn engine_29_mixes_networks_of_all_kinds() {
    replay(include_str!("traces/engine-v29b.txt"));
}

/// One recorded call.
struct Call<'trace> {
    method: &'trace str,
    arguments: Value,
    status: u16,
    reply: Value,
}

/// What the replies of this plugin put in place of what was recorded.
#[derive(Default)]
struct Replay {
    words: BTreeMap<String, String>,
    networks: BTreeSet<String>,
    interfaces: Vec<String>,
}

fn replay(trace: &str) {
    let world = World::new();
    // The recorder's: users asked for addresses in them by name.
    let pools = "default-address-pools = [{ base = \"10.78.1.0/24\", size = 24 }]";
    let mut engine = world.engine_with(pools);
    let mut replay = Replay::default();
    for line in trace.lines() {
        if line.starts_with("### ") && line.contains("kill -9") {
            replay.end_sandboxes(&world);
        } else if let Some(call) = Call::parse(line) {
            replay.repeat(&call, &mut engine);
        }
    }
    // A trace ends with its engine, not with the networks.
    for network in std::mem::take(&mut replay.networks) {
        engine.granted("NetworkDriver.DeleteNetwork", &json!({"NetworkID": network}));
    }
    engine.assert_empty();
    assert_eq!(world.links(), ["lo", "eth0"]);
}

impl<'trace> Call<'trace> {
    fn parse(line: &'trace str) -> Option<Self> {
        let (method, rest) = line.trim().strip_prefix('/')?.split_once(' ')?;
        let (arguments, answer) = rest.rsplit_once(" => ")?;
        let (status, reply) = answer.split_once(' ')?;
        Some(Self {
            method,
            arguments: serde_json::from_str(arguments).unwrap(),
            status: status.parse().unwrap(),
            // Some recorded replies are cut short, or are no JSON on purpose.
            reply: serde_json::from_str(reply).unwrap_or_default(),
        })
    }

    /// Whether the recorder played a failure here: its own words, not the protocol's.
    fn was_played(&self) -> bool {
        let failure = &self.reply["Err"];
        self.status != 200 || !failure.is_null() || !self.reply["Error"].is_null()
    }
}

impl Replay {
    /// An engine that is killed takes its sandboxes along, and they their interfaces.
    fn end_sandboxes(&mut self, world: &World) {
        for interface in self.interfaces.drain(..) {
            if world.has_link(&interface) {
                world.host.ip(&["link", "delete", &interface]).unwrap();
            }
        }
    }

    fn repeat(&mut self, call: &Call<'_>, engine: &mut Engine<'_>) {
        let arguments = self.translate(&call.arguments);
        let answered = engine.call(call.method, &arguments);
        let told = format!("{} {arguments}: {answered:?}, recorded {}", call.method, call.reply);
        match answered.status {
            200 => {}
            500 => assert!(
                answered.failure().contains("port is already allocated") && call.was_played(),
                "{told}"
            ),
            _ => panic!("{told}"),
        }
        self.learn(call, &arguments, &answered.body);
    }

    fn learn(&mut self, call: &Call<'_>, arguments: &Value, told: &Value) {
        let network = arguments["NetworkID"].as_str().unwrap_or_default().to_owned();
        match call.method {
            "NetworkDriver.CreateNetwork" => drop(self.networks.insert(network)),
            "NetworkDriver.DeleteNetwork" => drop(self.networks.remove(&network)),
            "NetworkDriver.Join" => {
                let name = told["InterfaceName"]["SrcName"].as_str().unwrap_or_default();
                self.interfaces.push(name.to_owned());
            }
            "IpamDriver.RequestPool" | "IpamDriver.RequestAddress" => {
                for key in ["PoolID", "Pool", "Address"] {
                    if let (Some(was), Some(is)) = (call.reply[key].as_str(), told[key].as_str()) {
                        self.note(was, is);
                    }
                }
            }
            _ => {}
        }
    }

    /// Addresses appear with and without their prefix length.
    fn note(&mut self, was: &str, is: &str) {
        self.words.insert(was.to_owned(), is.to_owned());
        if let (Some((was, _)), Some((is, _))) = (was.split_once('/'), is.split_once('/')) {
            self.words.insert(was.to_owned(), is.to_owned());
        }
    }

    fn translate(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(word) => Value::String(self.word(word)),
            Value::Array(all) => all.iter().map(|value| self.translate(value)).collect(),
            Value::Object(fields) => {
                let all = fields.iter();
                all.map(|(key, value)| (key.clone(), self.translate(value))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => recorded.clone(),
        }
    }

    fn word(&self, word: &str) -> String {
        if let Some(word) = self.words.get(word) {
            return word.clone();
        }
        let is_id = word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match word {
            "capLocal" => "netdLocal".to_owned(),
            _ if is_id => word.repeat(8),
            _ => word.to_owned(),
        }
    }
}
