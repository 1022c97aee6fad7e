//! The one integration test binary: whole sidecars on loopback sockets,
//! between real clients and servers, watched by a real OTLP receiver.

// The setting for tests in clippy.toml does not reach the helpers of tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Nothing is outside of a test binary.
#![allow(unreachable_pub)]

mod floors;
mod support;

// HTTP as it passes through.
mod connections;
mod failures;
mod hostile;
mod limits;
mod tls;
mod transparency;

// How it gets here.
mod capture;
mod detection;

// What is said about it.
mod attributes;
mod baggage;
mod causality;
mod keep;
mod metrics;
mod propagation;
mod rules;
mod sampling;
mod spans;

// Where it goes.
mod export;

// The sidecar as it gets into pods.
mod injector;

// The program as people start it.
mod program;
