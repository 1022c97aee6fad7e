//! What a request carries of context, in its headers, in `_meta` and by the
//! ways of libraries.

use opentelemetry::trace::{SpanId, TraceId};

use super::Start;
use crate::mcp::mesh::mesh_arguments;
use crate::mcp::message::Text;
use crate::proxy::facts::{self, Lazy};
use crate::proxy::headers::{self, Survey};
use crate::proxy::inject::{Context, Injection};
use crate::proxy::settings::Preference;
use crate::proxy::subject::Subject;
use crate::trace::context::{Claim, LibraryIds, TraceContext};
use crate::trace::outgoing::Outgoing;
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;

/// What the library MCP Mesh sent along.
#[derive(Default)]
pub(super) struct Mesh {
    /// Its own ids.
    pub(super) ids: Option<LibraryIds>,
    /// The W3C context that it passed on.
    pub(super) context: Option<TraceContext>,
}

impl Start<'_> {
    /// What the library MCP Mesh sent along, where it made the request. Of its
    /// trace nothing says whether it is recorded, so the share decides.
    pub(super) fn mesh(&self, subject: &Subject<'_>) -> Mesh {
        if !self.met.survey.has(Survey::MESH) || !self.propagation().formats.tracecontext {
            return Mesh::default();
        }
        let arguments = self.message.and_then(|message| message.arguments);
        let arguments = arguments.map(mesh_arguments).unwrap_or_default();
        let text = |text: Option<Text<'_>>| text.map(|text| text.decode().into_owned());
        let (trace, parent) = headers::mesh_ids(&self.head.headers);
        let (trace, parent) = match trace {
            Some(trace) => (Some(trace.to_owned()), parent.map(str::to_owned)),
            None => (text(arguments.trace_id), text(arguments.parent_span)),
        };
        let ids = trace.and_then(|trace| {
            let is_hex =
                |text: &String, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
            let trace = Some(trace).filter(|t| is_hex(t, 32)).and_then(|t| TraceId::from_hex(&t).ok())?;
            let parent = parent.filter(|p| is_hex(p, 16)).and_then(|p| SpanId::from_hex(&p).ok());
            let baggage = Lazy::new(|| self.baggage());
            let facts = facts::Request { met: &self.met, head: self.head, subject, baggage };
            let sampled = self.policy.sampler.decide(None, trace, &facts, self.met.started).sampled;
            let parent = parent.filter(|id| *id != SpanId::INVALID);
            (trace != TraceId::INVALID).then_some(LibraryIds { trace, parent, sampled })
        });
        let context = text(arguments.traceparent).and_then(|parent| {
            let parent = Traceparent::parse(parent.as_bytes())?;
            let tracestate = text(arguments.tracestate).and_then(|t| Tracestate::parse([t.as_bytes()]));
            Some(TraceContext { parent, tracestate })
        });
        Mesh { ids, context }
    }

    pub(super) fn claim(&self, mesh: &Mesh) -> Claim {
        let formats = self.propagation().formats;
        let from_headers = match self.met.survey.has(Survey::TRACE) {
            true => headers::extract(&self.head.headers, formats),
            false => None,
        };
        let meta = self.message.map(|m| &m.meta).filter(|_| formats.tracecontext);
        let from_meta = meta.and_then(headers::extract_meta);
        Claim::choose(from_meta, from_headers, self.propagation().parent == Preference::Header)
            .with_library(mesh.context.clone())
    }

    /// The baggage that came: `_meta` counts where it has the key, else the
    /// headers; the two are never mixed.
    pub(super) fn baggage(&self) -> Option<Baggage> {
        let formats = self.propagation().formats;
        if !formats.baggage {
            return None;
        }
        match self.message.and_then(|m| m.meta.baggage.as_ref()) {
            Some(text) => Baggage::parse([text.decode().as_bytes()]),
            None if self.met.survey.has(Survey::BAGGAGE) => {
                headers::extract_baggage(&self.head.headers, formats)
            }
            None => None,
        }
    }

    /// Context that is passed on as it came loses the marks that are for one
    /// hop: that of the shim, and that of the sidecar of the caller.
    pub(super) fn take_mark_off(&self, injection: &mut Injection, claim: &Claim) {
        let marked = claim.all().any(TraceContext::is_marked);
        if let (true, Context::Leave, Some(context)) = (marked, &injection.context, claim.context()) {
            injection.context = Context::Write(Outgoing::unmarked(context));
            injection.into_meta = self.message.is_some_and(|message| message.meta.traceparent.is_some());
        }
    }

    pub(super) fn injection(&self, subject: &Subject<'_>) -> Injection {
        let mut injection = Injection::nothing();
        injection.into_meta = self.propagation().write_meta && matches!(subject, Subject::Call(_));
        injection
    }
}
