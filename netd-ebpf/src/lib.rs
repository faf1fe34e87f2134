//! The packet path, written once over two traits: where the bytes are and what may be looked up.
#![no_std]
