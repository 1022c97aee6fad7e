//! What may change while requests pass: how sampling is decided and which
//! exchanges get a span. A reload puts a new one in place of the old one;
//! a request uses the one that was in force when it began.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::settings::{Attributes, SpanRules};
use crate::trace::sampler::Sampler;
use crate::trace::sampler_config::Keep;

/// The rules of one moment.
#[derive(Debug)]
pub struct Policy {
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// What is kept for how it ends.
    pub keep: Option<Keep>,
    /// Which exchanges get a span.
    pub spans: SpanRules,
    /// What spans say beyond the conventions.
    pub attributes: Attributes,
}

/// The rules in force. Reading costs a request one atomic load; changing them
/// waits for nobody.
#[derive(Debug)]
pub struct InForce(ArcSwap<Policy>);

impl InForce {
    /// Begins with these.
    pub fn new(policy: Policy) -> Self {
        InForce(ArcSwap::from_pointee(policy))
    }

    /// Those that a request which begins now has to use.
    pub fn now(&self) -> Guard<Arc<Policy>> {
        self.0.load()
    }

    /// Puts others in force. Requests that have begun keep the old ones.
    pub fn replace(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }
}
