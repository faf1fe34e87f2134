//! What is known to be in the kernel, and how it is found out again where it may have changed.
//!
//! Law: what is known is never looked at again without a reason; what others may have changed is never
//! taken for known.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::effects::Effects;
use super::merge::beside;
use super::{Compile, ReconcileError, Reconciler, standing};
use crate::desired::{Desired, Link};
use crate::facts::HostFacts;
use crate::model::LinkName;

/// How far it is known what is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stock {
    /// As held, but for links that the host tells are gone.
    Taken,
    /// Others may have changed what can be seen from the host; what is inside sandboxes stands.
    HostSideOpen,
    /// An error has left it open.
    Open,
}

impl<E: Effects> Reconciler<E> {
    /// Takes stock where an error or another's hand has left it open what is there.
    pub(super) async fn sync(
        &mut self,
        desired: &Desired,
        facts: &Arc<HostFacts>,
    ) -> Result<(), ReconcileError> {
        match self.stock {
            Stock::Taken => {
                self.forget_gone(facts);
                self.look_for_strays(desired).await?;
            }
            Stock::HostSideOpen => {
                self.forget_gone(facts);
                self.held.links.retain(|_, link| matches!(link, Some(Link::Veth(_))));
                self.take_stock(desired).await?;
            }
            Stock::Open => self.take_stock(desired).await?,
        }
        self.seen = Arc::clone(facts);
        Ok(())
    }

    /// What the kernel tells of sandboxes is looked at in those alone.
    async fn look_for_strays(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        for (name, link) in self.effects.strayed(desired).await? {
            if self.held.links.get(&name).is_some_and(|held| *held != link) {
                self.strayed += 1;
                self.held.links.insert(name, link);
            }
        }
        Ok(())
    }

    /// Reads back; the inside of links that are still held is trusted.
    async fn take_stock(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let known = std::mem::take(&mut self.held.links);
        let trusted = known.into_iter().filter_map(|(name, link)| Some((name, link?)));
        self.held = self.effects.observe(desired, &trusted.collect()).await?;
        self.stock = Stock::Taken;
        Ok(())
    }

    /// Links that others deleted, replaced or took down.
    fn forget_gone(&mut self, facts: &HostFacts) {
        let standing = || standing::Links::between(&self.seen, facts);
        let (mut links, mut programs, mut up) = (standing(), standing(), standing());
        self.held.links.retain(|name, _| links.find(name).is_some());
        self.held.programs.retain(|(name, _)| programs.find(name).is_some());
        self.held.up.retain(|name| up.find(name).is_some_and(|link| link.up));
    }

    /// Links that can't be changed into what is desired go first, with all that refers to them.
    pub(super) async fn retire_broken(
        &mut self,
        desired: &Desired,
        facts: &HostFacts,
        compile: &dyn Compile,
    ) -> Result<(), ReconcileError> {
        let broken: BTreeSet<LinkName> = beside(&desired.links, &self.held.links)
            .filter(|(_, link, held)| held.is_some_and(|held| !can_change(held.as_ref(), link)))
            .map(|(name, ..)| name.clone())
            .collect();
        if broken.is_empty() {
            return Ok(());
        }
        let mut without = facts.clone();
        without.links.retain(|name, _| !broken.contains(name));
        let mut interim = compile.whole(&without);
        interim.links.retain(|name, _| !broken.contains(name));
        interim.programs.retain(|(name, _)| !broken.contains(name));
        self.write(&interim, false).await?;
        for name in &broken {
            self.remove_link(name).await?;
        }
        Ok(())
    }
}

/// Whether what is held can be changed into `desired` in place: same kind, same place.
fn can_change(held: Option<&Link>, desired: &Link) -> bool {
    match (held, desired) {
        (Some(Link::Gateway(_)), Link::Gateway(_)) => true,
        (Some(Link::Veth(held)), Link::Veth(desired)) => {
            (&held.netns, &held.interface) == (&desired.netns, &desired.interface)
        }
        (Some(Link::Offered(held)), Link::Offered(desired)) => held.interface == desired.interface,
        (None, _)
        | (Some(Link::Gateway(_) | Link::Offered(_)), Link::Veth(_))
        | (Some(Link::Veth(_) | Link::Offered(_)), Link::Gateway(_))
        | (Some(Link::Gateway(_) | Link::Veth(_)), Link::Offered(_)) => false,
    }
}
