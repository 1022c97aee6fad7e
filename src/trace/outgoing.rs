//! Trace context as it is written to the next hop.

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::context::{MEMBER, TraceContext, compose, flags, span_hex};
use super::hop::{Listens, Marks};
use super::sampler::{Decision, Ot};
use crate::w3c::traceparent::{self, Traceparent};

/// A context as it is written to the next hop.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The ids and flags.
    pub parent: Traceparent,
    /// The text of `tracestate`; empty when there is none to write.
    pub tracestate: String,
    /// The text of `traceparent`.
    text: [u8; traceparent::LENGTH],
}

impl Outgoing {
    /// The context of a recorded span of ours: its id as parent and as `mt`,
    /// the decision's `ot`, and the rest of the parent's state untouched.
    pub fn of_span(
        trace_id: TraceId,
        span_id: SpanId,
        flags: TraceFlags,
        parent: Option<&TraceContext>,
        decision: &Decision,
    ) -> Self {
        let state = parent.and_then(|p| p.tracestate.as_ref());
        let mut hex = [0; 16];
        let own = (MEMBER, span_hex(span_id, &mut hex));
        Outgoing::new(Traceparent { trace_id, span_id, flags }, compose(Some(own), &decision.ot, state))
    }

    /// A context for a trace that nobody records: fresh ids whose flags say
    /// so, in order that everybody behind us decides alike.
    pub fn unrecorded_root(trace_id: TraceId, span_id: SpanId) -> Self {
        let flags = flags(None, false);
        Outgoing::new(Traceparent { trace_id, span_id, flags }, String::new())
    }

    /// The received context, passed on as it came but for the flags and the
    /// `ot` member where the decision changed them. W3C wants a new parent id
    /// with a new sampled flag, which `fresh` gives.
    pub fn passed_on(context: &TraceContext, decision: &Decision, fresh: impl FnOnce() -> SpanId) -> Self {
        let mut parent = context.parent;
        if parent.is_sampled() != decision.sampled {
            parent.span_id = fresh();
        }
        parent.flags = flags(Some(context), decision.sampled);
        let mut hex = [0; 16];
        let own = match context.member() {
            Some(member) if member.is_marked() => Some((MEMBER, span_hex(member.span, &mut hex))),
            _ => None,
        };
        let tracestate = match (&decision.ot, &context.tracestate) {
            (Ot::Keep, Some(state)) if own.is_none() => state.as_str().to_owned(),
            (ot, state) => compose(own, ot, state.as_ref()),
        };
        Outgoing::new(parent, tracestate)
    }

    /// Marks the context of a span of ours with where its sidecar takes
    /// notices; only the sidecar of the next hop may see that.
    pub fn announce(&mut self, listens: Listens) {
        let place = MEMBER.len() + 1 + 16;
        let is_ours = self.tracestate.starts_with(MEMBER) && self.tracestate.len() >= place;
        if is_ours && self.tracestate.is_char_boundary(place) {
            self.tracestate.insert_str(place, Marks::of(listens).as_str());
        }
    }

    /// The received context with nothing changed but the marks of one hop taken off.
    pub fn unmarked(context: &TraceContext) -> Self {
        Outgoing::new(context.parent, context.state_without_mark())
    }

    /// A context of these parts.
    pub fn new(parent: Traceparent, tracestate: String) -> Self {
        Outgoing { parent, tracestate, text: parent.encode() }
    }

    /// The value of `traceparent`, as bytes.
    pub fn traceparent_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The value of `traceparent`.
    pub fn traceparent(&self) -> &str {
        // Digits and dashes, so this never loses anything.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}
