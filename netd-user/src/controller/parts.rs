//! What a controller is made of, and why it can't begin.

use super::{HostChanges, Tuning};
use crate::compile::CompileSettings;
use crate::model::{Refusal, Settings};
use crate::reconcile::ReconcileError;
use crate::store::StoreError;

/// What a controller is made of.
#[derive(Debug)]
pub struct Parts<K, S, H> {
    /// The reconciler.
    pub kernel: K,
    /// Durable state.
    pub store: S,
    /// Clock, entropy, port settings.
    pub host: H,
    /// Settings of the model; its ULA prefix is replaced by the store's.
    pub settings: Settings,
    /// Settings of the compiler.
    pub compile: CompileSettings,
    /// Numbers.
    pub tuning: Tuning,
    /// Fires when the host changed.
    pub changes: HostChanges,
}

/// Why the controller can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host can't be looked at.
    #[error("the host can't be read: {0}")]
    Facts(#[from] ReconcileError),
    /// The predefined networks don't fit the configuration.
    #[error("the predefined networks can't be made: {0}")]
    Predefined(#[from] Refusal),
    /// The machine gives no entropy.
    #[error("no random numbers: {0}")]
    Entropy(std::io::Error),
}
