#![doc = include_str!("ARCHITECTURE.md")]

pub mod a2a;
pub mod admin;
pub mod admission;
pub mod app;
pub mod capture;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod export;
pub mod genai;
mod log;
pub mod mcp;
pub mod metrics;
pub mod net;
pub mod proxy;
mod reload;
mod run;
pub mod shim;
pub mod stdio;
pub mod store;
pub mod trace;
pub mod w3c;

pub use run::run;
