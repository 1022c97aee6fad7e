//! Decides whether a span is recorded, and starts it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind};

use crate::proxy::policy::Policy;
use crate::proxy::worker::Worker;
use crate::trace::context::{TraceContext, flags};
use crate::trace::outgoing::Outgoing;
use crate::trace::rules::Facts;
use crate::trace::span::Span;

/// A decision, and what follows from it.
pub(crate) struct Decided {
    /// The span, where it is recorded, be it only to be kept for how it ends.
    pub(crate) span: Option<Box<Span>>,
    /// The context that goes on in either case.
    pub(crate) outgoing: Outgoing,
}

/// What a decision is made from.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    /// The rules in force.
    pub(crate) policy: &'a Policy,
    /// What they can look at.
    pub(crate) facts: &'a dyn Facts,
    /// The moment, on the clock that measures durations.
    pub(crate) now: Instant,
    /// The same moment on the clock of dates.
    pub(crate) at: SystemTime,
}

/// Decides about a span, and starts it with what `describe` says of it. The
/// context that goes on is that of the span; where nothing is recorded it is
/// the caller's own, since a span of ours would never be seen.
pub(crate) fn decide(
    worker: &Worker,
    under: Under<'_>,
    kind: SpanKind,
    basis: Basis<'_>,
    describe: impl FnOnce(&mut Span),
) -> Decided {
    let tracer = &worker.tracer;
    let parent = under.context;
    let trace_id = parent.map_or_else(|| tracer.ids.trace_id(), |p| p.parent.trace_id);
    let Basis { policy, facts, now, at } = basis;
    let decision = match under.beside {
        Some(any_sampled) => policy.sampler.decide_beside(any_sampled, trace_id, facts, now),
        None => policy.sampler.decide(parent, trace_id, facts, now),
    };
    // What is kept for how it ends needs an id under which others can hang.
    if !decision.sampled && policy.keep.is_none() {
        let outgoing = match parent {
            Some(parent) => Outgoing::passed_on(parent, &decision, || tracer.ids.span_id()),
            None => Outgoing::unrecorded_root(trace_id, tracer.ids.unrecorded_span_id(trace_id)),
        };
        return Decided { span: None, outgoing };
    }
    let span_id = tracer.ids.span_id();
    let flags = flags(parent, decision.sampled);
    let outgoing = Outgoing::of_span(trace_id, span_id, flags, parent, &decision);
    let mut span = worker.spans.take(worker.settings.span_limits);
    span.trace_id = trace_id;
    span.span_id = span_id;
    span.flags = flags;
    span.parent = under.span;
    span.parent_remote = under.span.is_some();
    span.kind = kind;
    span.start_unix_nanos = unix_nanos(at);
    span.set_tracestate(&outgoing.tracestate);
    describe(&mut span);
    Decided { span: Some(span), outgoing }
}

/// What a new span hangs under.
#[derive(Clone, Copy, Default)]
pub(crate) struct Under<'a> {
    /// The trace that it continues.
    pub(super) context: Option<&'a TraceContext>,
    /// Its parent there.
    pub(super) span: Option<SpanId>,
    /// Whether any of those is recorded that its new trace stands beside.
    pub(super) beside: Option<bool>,
}

impl<'a> Under<'a> {
    pub(crate) fn context(context: Option<&'a TraceContext>) -> Self {
        Under { context, span: context.map(|c| c.parent.span_id), beside: None }
    }

    /// A trace of its own, which is recorded if what it stands beside is.
    pub(crate) fn beside(context: &TraceContext) -> Self {
        Under { beside: Some(context.parent.flags.is_sampled()), ..Under::default() }
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
