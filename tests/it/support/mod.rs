//! What the tests stand on: sidecars, servers, clients and a collector.

pub mod authority;
pub mod collector;
pub mod logs;
pub mod mesh;
pub mod raw;
pub mod secure;
