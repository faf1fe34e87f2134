//! Who keeps an object: decides on its addresses, what belongs to it, and its end.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// The keeper of a network or a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeper {
    /// The users of netd.
    #[default]
    Netd,
    /// A container engine, through its plugin protocol.
    Engine,
}

impl Keeper {
    /// Refuses what an engine alone may do, or it would no longer know what is there.
    pub(super) fn refuse_unless_ours(self, kind: &str, name: &str) -> Result<(), Refusal> {
        match self {
            Self::Netd => Ok(()),
            Self::Engine => Err(Refusal::forbidden(format_args!(
                "{kind} {name} is kept by the container engine: use `docker` to change it"
            ))),
        }
    }
}
