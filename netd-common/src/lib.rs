//! Layouts and vocabulary that the kernel side and the controller share.
//!
//! Law: everything here is plain data without padding, the same bytes on both sides. No I/O, no
//! allocation, no knowledge of who reads it.
#![no_std]

pub mod addr;
pub mod id;
pub mod layout;
pub mod map;
pub mod verdict;

pub use addr::{Address, Family, Ipv4, Ipv6, V4, V6};
pub use id::{Be16, EndpointIndex, IfIndex, MacAddr, NetworkIndex};
pub use verdict::{DropReason, Hook, PassReason};
