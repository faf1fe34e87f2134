//! `Model::apply`: one command, all or nothing.

use std::sync::Arc;

use super::network::Network;
use super::rand::Rand;
use super::refusal::Refusal;
use super::{Circumstances, Command, Model, Outcome, Sandbox};

/// A command under way: the model as it will be. Dropped on a refusal, so nothing is undone by hand.
pub(super) struct Change<'a> {
    pub(super) model: Model,
    pub(super) now: &'a Circumstances,
    pub(super) rand: Rand,
}

impl Model {
    /// The model after a command and what it produced, or why it is refused. `self` stays as it is;
    /// the result depends on the arguments alone.
    pub fn apply(&self, command: Command, now: &Circumstances) -> Result<(Self, Outcome), Refusal> {
        let mut change = Change { model: self.clone(), now, rand: Rand::new(now.seed) };
        change.bury(&now.departed)?;
        let outcome = change.run(command)?;
        Ok((change.model, outcome))
    }
}

impl Change<'_> {
    fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::EnsurePredefined => self.ensure_predefined(),
            Command::CreateNetwork(spec) => self.create_network(*spec),
            Command::RemoveNetwork { network } => self.remove_network(&network),
            Command::PruneNetworks { filters } => self.prune_networks(&filters),
            Command::CreateSandbox(spec) => self.create_sandbox(*spec),
            Command::RemoveSandbox { sandbox } => self.remove_sandbox(&sandbox),
            Command::SetOwner { sandbox, owner } => {
                let found = self.model.find_sandbox(&sandbox)?;
                found.refuse_unless_ours()?;
                self.put_sandbox(Sandbox { owner, ..Sandbox::clone(found) });
                Ok(Outcome::Done)
            }
            Command::Connect { network, sandbox, spec } => self.connect(&network, &sandbox, &spec),
            Command::Disconnect { network, sandbox } => self.disconnect(&network, &sandbox),
            Command::Engine(command) => self.obey(*command),
        }
    }

    pub(super) fn put_sandbox(&mut self, sandbox: Sandbox) {
        self.model.sandboxes.insert(sandbox.id, Arc::new(sandbox));
    }

    pub(super) fn put_network(&mut self, network: Network) {
        self.model.networks.insert(network.id, Arc::new(network));
    }
}
