//! The packet path without a kernel: the truth table, packet lives, and properties.

mod errors;
mod life;
mod neighbor;
mod property;
mod scene;
mod truth;
