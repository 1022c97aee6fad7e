//! A call of the agent: its CLIENT span hangs under the request that it was
//! made for, as far as that can be told.

use opentelemetry::trace::SpanId;

use super::decide::{Decided, Under};
use super::{Start, Started};
use crate::net::dial;
use crate::proxy::inject::{Context, Injection};
use crate::proxy::settings::Destinations;
use crate::proxy::subject::Subject;
use crate::trace::context::{Claim, TraceContext};
use crate::trace::links::{self, Method, Parent};
use crate::trace::places::{self, Destination};
use crate::trace::semconv as key;
use crate::trace::span::Span;
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;

impl Start<'_> {
    /// A call of the pod: its CLIENT span hangs under what the rules find.
    pub(super) fn outbound(&self, subject: &Subject<'_>) -> Started {
        let tracer = &self.worker.tracer;
        let mesh = self.mesh(subject);
        let claim = self.claim(&mesh);
        let mut injection = self.injection(subject);
        let allowed = self.may_see_context();
        if !allowed && self.is_copied(&claim) {
            // The agent copied what we gave it; that is not for strangers.
            injection.context = Context::Strip;
            injection.drop_baggage = true;
        }
        if !self.wants_span(subject) {
            self.take_mark_off(&mut injection, &claim);
            return Started::new(self.unseen(subject), injection);
        }
        if let Some(named) = self.named(subject).filter(|_| claim.parent.is_none()) {
            return self.under(&named, subject, allowed, injection);
        }
        let call = links::Call {
            claim,
            library: mesh.ids,
            mcp: matches!(subject, Subject::Call(_)),
            session: match subject {
                Subject::Call(call) => call.session,
                _ => None,
            },
            destination: self.destination(subject),
            texts: self.texts(subject),
        };
        let parent = links::parent_of_call(call, &tracer.known(self.propagation().inference));
        self.count_parent(&parent);
        let under = Under { context: parent.context.as_ref(), span: parent.span, beside: parent.sampled };
        let Decided { span, mut outgoing } = self.decide(subject, under);
        let kin = span.as_ref().and_then(|span| self.kin_of_call(span, allowed, &mut outgoing));
        if allowed {
            injection.baggage = self.outgoing_baggage(parent.server_span);
            injection.context = Context::Write(outgoing);
        }
        let waiting = span.map(|mut span| {
            self.describe_parent(&mut span, &parent);
            let restored = || parent.server_span.and_then(|id| tracer.server_spans.baggage(id));
            self.configured(&mut span, subject, || self.baggage().or_else(restored));
            self.waiting(span, subject).among(kin)
        });
        Started::new(waiting, injection)
    }

    /// A notification that names the request which it hangs under.
    fn under(
        &self,
        named: &TraceContext,
        subject: &Subject<'_>,
        allowed: bool,
        mut injection: Injection,
    ) -> Started {
        let method = Method::Named;
        self.worker.metrics.proxy.parent(method.index());
        let decided = self.decide(subject, Under::context(Some(named)));
        if allowed {
            injection.baggage = self.outgoing_baggage(None);
            injection.context = Context::Write(decided.outgoing);
        }
        let waiting = decided.span.map(|mut span| {
            span.set_static(key::MESHTRACE_PARENT_METHOD, method.as_str());
            span.set_bool(key::MESHTRACE_PARENT_EXACT, true);
            self.configured(&mut span, subject, || self.baggage());
            self.waiting(span, subject)
        });
        Started::new(waiting, injection)
    }

    pub(super) fn count_parent(&self, parent: &Parent) {
        let method = parent.provenance.method;
        self.worker.metrics.proxy.parent(method.index());
        if parent.provenance.conflict {
            self.worker.metrics.proxy.parent_conflicts.inc();
        }
        if !method.is_proof() {
            self.worker.tracer.tally.count(&self.met.target.host, self.met.target.port, method);
        }
    }

    /// Whether a context of ours is among what a call carries.
    pub(super) fn is_copied(&self, claim: &Claim) -> bool {
        let tracer = &self.worker.tracer;
        let unrecorded = |p: &Traceparent| p.span_id == tracer.ids.unrecorded_span_id(p.trace_id);
        claim.all().any(|c| c.is_shim_marked() || tracer.server_spans.knows(c) || unrecorded(&c.parent))
    }

    /// Where a call goes, and for what.
    pub(super) fn destination<'s>(&'s self, subject: &'s Subject<'_>) -> Destination<'s> {
        let (method, about) = match subject {
            Subject::Call(call) => (&*call.method, ""),
            _ => (self.head.method.as_str(), places::about(self.head.uri.path())),
        };
        Destination { host: &self.met.target.host, port: self.met.target.port, method, about }
    }

    /// What a request or call says, by which they are compared.
    pub(super) fn texts(&self, subject: &Subject<'_>) -> [&[u8]; 2] {
        match (subject, self.message) {
            (Subject::Call(_), message) => [message.and_then(|m| m.arguments).unwrap_or_default(), b""],
            _ => {
                [self.head.uri.path_and_query().map_or(b"".as_slice(), |p| p.as_str().as_bytes()), self.body]
            }
        }
    }

    pub(super) fn outgoing_baggage(&self, server_span: Option<SpanId>) -> Option<Baggage> {
        if !self.propagation().formats.baggage {
            return None;
        }
        let restored = || server_span.and_then(|id| self.worker.tracer.server_spans.baggage(id));
        let mut baggage = self.baggage().or_else(restored).unwrap_or_default();
        for (name, value) in &self.propagation().baggage_set {
            if !baggage.set(name, value) {
                self.worker.metrics.proxy.baggage_full();
            }
        }
        (!baggage.is_empty()).then_some(baggage)
    }

    /// Whether our context may go where this call goes.
    pub(super) fn may_see_context(&self) -> bool {
        let reached = self.met.upstream.map(|address| address.ip());
        match &self.propagation().to {
            Destinations::Private if self.met.claimed => reached.is_some_and(dial::is_private),
            to => to.include(&self.met.target.host, reached),
        }
    }

    pub(super) fn describe_parent(&self, span: &mut Span, parent: &Parent) {
        let provenance = &parent.provenance;
        span.set_static(key::MESHTRACE_PARENT_METHOD, provenance.method.as_str());
        span.set_bool(key::MESHTRACE_PARENT_EXACT, provenance.exact);
        if provenance.candidates > 1 {
            span.set_int(
                key::MESHTRACE_PARENT_CANDIDATES,
                provenance.candidates.try_into().unwrap_or(i64::MAX),
            );
        }
        if provenance.late {
            span.set_bool(key::MESHTRACE_PARENT_LATE, true);
        }
        if provenance.conflict {
            span.set_bool(key::MESHTRACE_PARENT_CONFLICT, true);
        }
        for link in &parent.links {
            self.link(span, Some(link.to), link.reason);
        }
    }
}
