//! The packet path without a kernel: the truth table, packet lives, and properties.

mod complain;
mod endurance;
mod errors;
mod fragments;
mod hostile;
mod life;
mod links;
mod neighbor;
mod property;
mod reach;
mod scene;
mod truth;
