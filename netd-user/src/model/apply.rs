//! `Model::apply`: one command, all or nothing.

use super::refusal::Refusal;
use super::{Circumstances, Command, Model, Outcome};

impl Model {
    /// The model after a command and what it produced, or why it is refused. `self` stays as it is;
    /// the result depends on the arguments alone.
    pub fn apply(&self, command: Command, now: &Circumstances) -> Result<(Self, Outcome), Refusal> {
        let _ = (command, now);
        Err(Refusal::forbidden("under construction"))
    }
}
