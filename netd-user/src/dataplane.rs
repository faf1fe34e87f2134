//! Acts on the kernel side: maps, programs, pins. The only home of aya.

pub mod delta;
