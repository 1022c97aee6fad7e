//! The request path. Start with [`flow`]: it tells the life of a request from
//! top to bottom, and the other files are its steps.

pub mod accept;
pub mod access_log;
mod agent;
pub(crate) mod attributes;
pub mod begin;
pub mod body;
pub mod budget;
mod configured;
pub mod connection;
pub mod error;
pub mod exchange;
pub mod expect;
pub(crate) mod facts;
pub mod flow;
pub mod headers;
pub mod held;
pub mod hop;
pub mod inflate;
pub mod inject;
pub mod kin;
pub mod mesh;
mod model;
pub mod notices;
pub mod peers;
pub mod policy;
pub mod read;
pub mod redirected;
pub mod reverse;
pub mod route;
pub mod settings;
pub mod subject;
pub mod switch;
mod unopened;
pub mod upstream;
mod wake;
pub mod worker;
