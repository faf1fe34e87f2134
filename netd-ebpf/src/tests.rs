//! The packet path without a kernel: the truth table, packet lives, and properties.

mod complain;
mod errors;
mod fragments;
mod life;
mod neighbor;
mod property;
mod scene;
mod truth;
