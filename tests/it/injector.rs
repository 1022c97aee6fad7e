//! The injector: its certificates among replicas, and its webhook as API servers meet it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_server;
mod arguments;
mod certificates;
mod client;
mod deploy;
mod webhook;
