//! Adding the sidecar to pods.
//!
//! [`patch::apply`] is the whole change as a pure function: pod in, pod out. The webhook calls it for every pod that is
//! created, and [`manifests`] for every pod template in a file.

pub mod certificates;
pub mod cluster;
pub mod decide;
pub mod diff;
mod explicit;
pub mod fuzz;
mod handing_on;
pub mod injector;
pub mod install;
pub mod manifests;
pub mod options;
pub mod owner;
pub mod patch;
mod pod;
mod policy;
mod policy_shim;
pub mod ports;
mod probes;
pub mod quantity;
mod render;
pub mod review;
pub mod rotate;
pub mod status;
mod strip;
mod value;
pub mod webhook;
mod yaml;

#[cfg(test)]
mod tests;

pub use decide::{INJECT, REASONS, Refusal, Settings, Subject};
pub use options::{Capture, Options};
pub use patch::{Decision, Outcome, apply, undo};
pub use pod::Malformed;
pub use render::{Form, UID};
