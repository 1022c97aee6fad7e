//! Transparent capture with the real kernel: two network namespaces joined by
//! a cable, a pod and its peer, with the built binary in the pod. Needs root
//! and `ip`, and says so where they are missing.

mod carried;
mod guards;
mod identity;
mod neighbour;
mod net;
mod notices;
mod redirected;
mod rules;
mod sidecar;
