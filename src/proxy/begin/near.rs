//! How a request that is recorded only to be kept learns of the hops next to it.

use super::Start;
use crate::net::dial;
use crate::proxy::kin::{Kin, Side};
use crate::trace::context::{Outgoing, TraceContext};
use crate::trace::span::Span;

impl Start<'_> {
    /// The hops around an inbound request, whose caller sent this.
    pub(super) fn kin_of_caller(&self, span: &Span, parent: Option<&TraceContext>) -> Option<Kin> {
        if span.flags.is_sampled() {
            return None;
        }
        let side = Kin::of_caller(parent.and_then(TraceContext::notices), self.met.downstream.address.ip());
        Kin::enter(&self.worker.tracer, span.trace_id, side)
    }

    /// The same of a call. Where context may go, and stays in the network, the
    /// context says that a sidecar there may answer.
    pub(super) fn kin_of_call(&self, span: &Span, allowed: bool, outgoing: &mut Outgoing) -> Option<Kin> {
        if span.flags.is_sampled() {
            return None;
        }
        let tracer = &self.worker.tracer;
        let near = allowed && self.met.upstream.is_some_and(|address| dial::is_private(address.ip()));
        let kin = Kin::enter(tracer, span.trace_id, if near { Side::Asked } else { Side::Silent })?;
        if near {
            outgoing.announce(tracer.notices.port());
        }
        Some(kin)
    }
}
