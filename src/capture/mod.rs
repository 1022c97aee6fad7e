//! The kernel rules that steer the traffic of a network namespace into the
//! sidecar: an nftables table of our own, written over netlink without any
//! program of nftables or iptables.
//!
//! [`rules`] says what is captured, [`plan`] turns it into chains, [`text`]
//! and `message` write these down for people and for the kernel, and
//! [`kernel`] hands them over and reads what it says with [`reply`].
//! [`privileges`] gives up the rights that this took.

pub mod error;
pub mod kernel;
mod message;
pub mod plan;
pub mod privileges;
pub mod reply;
pub mod rules;
pub mod text;

pub use error::CaptureError;
pub use kernel::{install, remove};
pub use rules::{Network, Ports, Rules};
