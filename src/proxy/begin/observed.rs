//! What is said of a request beside its span: the attributes that the
//! configuration asks for, the access log, and what it counts in.

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::{Start, Started, awaited};
use crate::mcp::method;
use crate::metrics::operations::{self, Operation};
use crate::proxy::access_log::Entry;
use crate::proxy::inject::Context;
use crate::proxy::settings::Attributes;
use crate::proxy::subject::{Call, Subject};
use crate::proxy::{attributes, configured};
use crate::trace::redact;
use crate::trace::span::Span;
use crate::w3c::baggage::Baggage;

impl Started {
    /// Sees to it that an MCP message is counted when it ends, recorded or
    /// not, and that every request is logged where that is asked for.
    pub(super) fn count(&mut self, start: &Start<'_>, subject: &Subject<'_>) {
        if start.worker.access_log.is_some() && !matches!(subject, Subject::Quiet(_)) {
            let context = match &self.injection.context {
                Context::Write(out) => Some((out.parent.trace_id, out.parent.span_id, out.parent.flags)),
                _ => None,
            };
            let waiting = self.waiting.get_or_insert_with(|| start.unrecorded());
            let context = waiting.ids().or(context);
            waiting.log(Box::new(start.entry(subject, context)));
        }
        let Subject::Call(call) = subject else { return };
        let series = start.worker.operations.series(&start.operation(call));
        let waiting = self.waiting.get_or_insert_with(|| start.unrecorded());
        waiting.count(series, start.met.outbound, || awaited(call));
    }
}

impl Start<'_> {
    /// Sets the attributes that the configuration asks for.
    pub(super) fn configured(
        &self,
        span: &mut Span,
        subject: &Subject<'_>,
        baggage: impl FnOnce() -> Option<Baggage>,
    ) {
        let wanted = &self.policy.attributes;
        if *wanted == Attributes::default() {
            return;
        }
        let baggage = if wanted.from_baggage.is_empty() { None } else { baggage() };
        let call = match subject {
            Subject::Call(call) => Some(&**call),
            _ => None,
        };
        let sources = configured::Sources {
            headers: &self.head.headers,
            baggage: baggage.as_ref(),
            call,
            arguments: self.message.and_then(|message| message.arguments),
        };
        let cut = configured::set(span, wanted, &sources);
        if cut > 0 {
            self.worker.metrics.proxy.attributes_cut.inc_by(cut);
        }
    }

    /// What the access log says of the request.
    fn entry(&self, subject: &Subject<'_>, context: Option<(TraceId, SpanId, TraceFlags)>) -> Entry {
        let outbound = self.met.outbound;
        let (method, target) = match subject {
            Subject::Call(call) => {
                let resource = call.known.is_some_and(|k| matches!(k.target, method::Target::ResourceUri));
                let target = call.target.as_deref().unwrap_or_default();
                let target = if resource { redact::uri(target) } else { target.into() };
                (call.method.to_string(), target.into_owned())
            }
            _ if self.head.method == http::Method::CONNECT => {
                (self.head.method.to_string(), self.met.target.to_string())
            }
            _ => (self.head.method.to_string(), self.head.uri.path().to_owned()),
        };
        Entry { outbound, method, target, context }
    }

    /// What a message counts in.
    fn operation<'s>(&'s self, call: &'s Call<'_>) -> Operation<'s> {
        let target = match (call.known.map(|known| &known.target), call.target.as_deref()) {
            (Some(method::Target::ToolName), Some(tool)) => operations::Target::Tool(tool),
            (Some(method::Target::PromptName), Some(prompt)) => operations::Target::Prompt(prompt),
            _ => operations::Target::None,
        };
        let outbound = self.met.outbound;
        Operation {
            side: if outbound { operations::Side::Client } else { operations::Side::Server },
            method: &call.method,
            target,
            revision: call.version.as_deref(),
            network: ("tcp", attributes::http_version(self.head.version)),
            server: outbound.then_some((self.met.target.host.as_str(), self.met.target.port)),
        }
    }
}
