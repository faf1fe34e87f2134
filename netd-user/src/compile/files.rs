//! What the files of sandboxes are made of.

use std::sync::Arc;

use super::CompileSettings;
use super::topology::{AddressFamily, Joined};
use crate::desired::Desired;
use crate::desired::files::{FileDefaults, FileSources, SandboxFiles};
use crate::facts::HostFacts;
use crate::model::Model;

/// What they have in common.
pub(super) fn sources(
    model: &Model,
    facts: &HostFacts,
    settings: &CompileSettings,
) -> Arc<FileSources> {
    let told = &settings.files;
    let host_gateway = if told.host_gateway.is_empty() {
        model.bridge_gateways()
    } else {
        told.host_gateway.clone()
    };
    let defaults = FileDefaults { host_gateway, ..told.clone() };
    Arc::new(FileSources { defaults, host: facts.resolver.clone() })
}

/// Adds those of a sandbox; whether it asks netd for names is said with it.
pub(super) fn add(
    (joined, asks_netd): (&Joined<'_>, bool),
    sources: &Arc<FileSources>,
    desired: &mut Desired,
) {
    let attachments = joined.attachments.iter();
    let addresses =
        attachments.flat_map(|it| AddressFamily::ALL.into_iter().filter_map(|f| it.address(f)));
    let files = SandboxFiles {
        sandbox: Arc::clone(joined.sandbox),
        addresses: addresses.collect(),
        asks_netd,
        sources: Arc::clone(sources),
    };
    if files.kinds().next().is_some() {
        desired.files.insert(joined.sandbox.id, files);
    }
}
