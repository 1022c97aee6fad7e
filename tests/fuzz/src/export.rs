//! What the webhook knows of collectors: how they are named.
#![allow(dead_code)]

#[path = "../../../src/export/base64.rs"]
pub mod base64;
#[path = "../../../src/export/endpoint.rs"]
pub mod endpoint;
#[path = "../../../src/export/env.rs"]
pub mod env;
#[path = "../../../src/export/signal.rs"]
pub mod signal;
