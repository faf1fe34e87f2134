//! The packet path, written once over two traits: where the bytes are (`PacketBuf`) and what may be
//! looked up and inserted (`Tables`).
//!
//! Law: nothing here names the kernel but `kernel` (and the binary's entry points): the same source
//! runs in the verifier, in unit and property tests and in the bench. No step allocates, panics or
//! reads out of bounds.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]
#![cfg_attr(
    feature = "kernel",
    feature(core_intrinsics),
    allow(internal_features, reason = "this target has no atomics that return a value but these")
)]
#![allow(
    clippy::inline_always,
    reason = "the verifier follows a call badly and LLVM cannot return most values from one"
)]

pub mod complain;
pub mod conntrack;
pub mod forward;
pub mod fragment;
pub mod headers;
pub mod icmp;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod nat;
pub mod neighbor;
pub mod packet;
pub mod parse;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod service;
pub mod socket;
pub mod source;
pub mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verdict;
pub mod work;

#[cfg(test)]
mod tests;
