//! A model on its way to the kernel: what the reconciler asks of it.
//!
//! Law: what is told of one host holds for another that differs in nothing but links, unless engines
//! take links away.

use std::sync::Arc;

use super::whereabouts;
use crate::compile::{self, CompileSettings};
use crate::desired::{Desired, Tables};
use crate::facts::HostFacts;
use crate::model::{Keeper, Model};
use crate::reconcile::Compile;
use crate::roster::Places;

/// A model with all that its compilation needs beside the host.
#[derive(Debug)]
pub(super) struct Compilation {
    /// The model.
    pub(super) model: Arc<Model>,
    /// Where engines' sandboxes can be entered.
    pub(super) places: Places,
    /// The daemon's settings.
    pub(super) settings: CompileSettings,
}

impl Compile for Compilation {
    fn outline(&self, facts: &HostFacts) -> Desired {
        let mut desired = compile::outline(&self.model, facts, &self.settings);
        whereabouts::place(&mut desired, &self.model, &self.places, facts);
        desired
    }

    fn tables(&self, facts: &HostFacts) -> Tables {
        compile::tables(&self.model, facts, &self.settings)
    }

    fn is_same_outline(&self, one: &HostFacts, other: &HostFacts) -> bool {
        let is_ours = |keeper| keeper == Keeper::Netd;
        self.model.sandboxes.values().all(|sandbox| is_ours(sandbox.keeper))
            && compile::is_same_outline(one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::LinkFact;
    use crate::roster::tests::engine_model;

    #[test]
    fn links_make_a_difference_where_engines_take_them() {
        let before = HostFacts::default();
        let mut after = before.clone();
        after.links.insert("veth1".into(), LinkFact::default());
        let of = |model| Compilation {
            model,
            places: Places::new(),
            settings: CompileSettings::default(),
        };
        assert!(of(Arc::default()).is_same_outline(&before, &after));
        assert!(!of(engine_model(true)).is_same_outline(&before, &after));
        after.resolver.search.push("example".to_owned());
        assert!(!of(Arc::default()).is_same_outline(&before, &after));
    }
}
