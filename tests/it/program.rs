//! The built binary as people start it: its help, its exit codes, what it
//! prints where, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access_log;
mod admin;
mod certificates;
mod check;
mod diagnostics;
mod examples;
mod inject;
mod process;
mod secrets;
mod serving;
mod stdio;
mod stopping;
mod usage;
