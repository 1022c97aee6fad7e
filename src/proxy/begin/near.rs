//! How a request that is recorded only to be kept learns of the hops next to it.

use std::net::IpAddr;

use super::Start;
use crate::net::dial;
use crate::proxy::kin::{Kin, Side};
use crate::trace::context::TraceContext;
use crate::trace::hop::Listens;
use crate::trace::outgoing::Outgoing;
use crate::trace::span::Span;

impl Start<'_> {
    /// The hops around an inbound request, whose caller sent this.
    pub(super) fn kin_of_caller(&self, span: &Span, parent: Option<&TraceContext>) -> Option<Kin> {
        if span.flags.is_sampled() {
            return None;
        }
        let tracer = &self.worker.tracer;
        let listens = parent.and_then(TraceContext::notices);
        let side = Kin::of_caller(listens, self.met.downstream.address.ip(), tracer.notices.port());
        Kin::enter(tracer, span.trace_id, side)
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
            outgoing.announce(self.listens(tracer.notices.port()));
        }
        Some(kin)
    }

    /// Where notices reach us, for the server of a call. On the way there our
    /// address may be replaced by another, so it is said; but not the one that
    /// each machine has for itself.
    fn listens(&self, port: u16) -> Listens {
        let own = |ip: &IpAddr| port != 0 && dial::is_private(*ip) && !ip.is_loopback();
        Listens { port, address: self.met.local.map(|ip| ip.to_canonical()).filter(own) }
    }
}
