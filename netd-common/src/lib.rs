//! Layouts and vocabulary that the kernel side and the controller share.
//!
//! Law: everything here is plain data without padding, the same bytes on both sides. No I/O, no
//! allocation, no knowledge of who reads it.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "the verifier follows a call badly and LLVM cannot return most values from one"
)]

pub mod addr;
pub mod csum;
pub mod id;
pub mod layout;
pub mod map;
pub mod verdict;
pub mod wire;

pub use addr::{Address, Family, Ipv4, Ipv6, V4, V6};
pub use id::{Be16, EndpointIndex, IfIndex, MacAddr, NetworkIndex};
pub use verdict::{DropReason, Hook, PassReason};

/// `skb->mark` between our own forwarding decision and `to_netdev`, which clears it.
pub const FORWARD_MARK: u32 = 0x6e74_6401;
