//! A request to the pod: its SERVER span continues what the caller sent, and
//! becomes what the calls of the agent can have as parent.

use super::decide::Under;
use super::{Start, Started, is_session_long};
use crate::proxy::inject::{Context, Injection};
use crate::proxy::subject::Subject;
use crate::trace::context::{Claim, LibraryIds, TraceContext};
use crate::trace::server_spans::{MAX_TEXT_BYTES, Served};
use crate::trace::span::Span;
use crate::trace::telling::may_tell;

impl Start<'_> {
    /// A request to the pod: its SERVER span continues what the caller sent.
    pub(super) fn inbound(&self, subject: &Subject<'_>) -> Started {
        let mesh = self.mesh(subject);
        let claim = self.claim(&mesh);
        // Whoever has nothing better continues the library's own trace.
        let of_library = mesh.ids.and_then(LibraryIds::context).filter(|_| claim.parent.is_none());
        let tracer = &self.worker.tracer;
        let trusted = self.propagation().trust_inbound;
        let named = if claim.parent.is_none() { self.named(subject) } else { None };
        let parent = claim.context().or(of_library.as_ref()).filter(|_| trusted).or(named.as_ref());
        let mut injection = self.injection(subject);
        if !trusted {
            injection.context = Context::Strip;
            injection.drop_baggage = true;
        }
        let session_long = is_session_long(subject);
        if session_long {
            // Whatever inherits the context of a session would be parented
            // wrongly for as long as it lives, so the agent gets none of ours.
            for context in claim.all() {
                tracer.server_spans.never_a_parent(context.parent.span_id);
            }
            self.take_mark_off(&mut injection, &claim);
        }
        if !self.wants_span(subject) {
            self.take_mark_off(&mut injection, &claim);
            return self.ignored(subject, parent, mesh.ids, injection);
        }
        if let Some(ids) = mesh.ids.filter(|_| session_long) {
            tracer.server_spans.came_with(ids);
        }
        let decided = self.decide(subject, Under::context(parent));
        let waiting = match decided.span {
            Some(mut span) => {
                if session_long {
                    tracer.server_spans.never_a_parent(span.span_id);
                }
                self.link_inbound(&mut span, &claim);
                self.configured(&mut span, subject, || if trusted { self.baggage() } else { None });
                let kin = self.kin_of_caller(&span, parent);
                Some(self.waiting(span, subject).among(kin))
            }
            None => self.is_worked_on(subject).then(|| self.unrecorded()),
        };
        if session_long {
            return self.unnamed(subject, Started::new(waiting, injection));
        }
        let baggage = if trusted { self.baggage() } else { None };
        injection.baggage = baggage.clone();
        let caller = parent.map(|p| p.parent.span_id);
        let served = Served {
            caller,
            baggage,
            arguments: self.telling_arguments(subject),
            library: mesh.ids,
            safe: self.head.method.is_safe(),
            ..Served::of(decided.outgoing.parent)
        };
        injection.context = Context::Write(decided.outgoing);
        Started { waiting, injection, served: Some(served) }
    }

    /// A request to the pod that gets no span. What the agent calls meanwhile
    /// may still belong to it, and then hangs under the caller; so its ids of
    /// MCP Mesh count like those of any other.
    pub(super) fn ignored(
        &self,
        subject: &Subject<'_>,
        parent: Option<&TraceContext>,
        library: Option<LibraryIds>,
        injection: Injection,
    ) -> Started {
        let worked_on = !self.worker.settings.disabled && self.is_worked_on(subject);
        if let Some(context) = parent.filter(|_| worked_on && !is_session_long(subject)) {
            let tracestate = context.state_without_mark();
            let served = Served { tracestate, library, ..Served::of(context.parent) };
            return Started { served: Some(served), ..Started::new(Some(self.unrecorded()), injection) };
        }
        if let Some(ids) = library {
            self.worker.tracer.server_spans.came_with(ids);
        }
        match worked_on {
            true => self.unnamed(subject, Started::new(Some(self.unrecorded()), injection)),
            false => Started::new(self.unseen(subject), injection),
        }
    }

    /// A request that no call can name, and that may make calls.
    pub(super) fn unnamed(&self, subject: &Subject<'_>, mut started: Started) -> Started {
        if let Some(waiting) = started.waiting.as_mut().filter(|_| self.is_worked_on(subject)) {
            waiting.remember(self.worker.tracer.server_spans.begin_unnamed());
        }
        started
    }

    /// Links to the claim that lost, or to the one that is not trusted.
    pub(super) fn link_inbound(&self, span: &mut Span, claim: &Claim) {
        if self.propagation().trust_inbound {
            self.link(span, claim.other.as_ref().map(|(c, _)| c.parent), "other_carrier");
        } else {
            self.link(span, claim.context().map(|c| c.parent), "untrusted");
        }
    }

    /// What a request says, arguments or path or body, as far as its calls may be known by it.
    pub(super) fn telling_arguments(&self, subject: &Subject<'_>) -> Box<[u8]> {
        match self.texts(subject).into_iter().find(|text| may_tell(text)) {
            Some(text) => text[..text.len().min(MAX_TEXT_BYTES)].into(),
            None => Box::default(),
        }
    }
}
