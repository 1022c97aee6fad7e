//! Calls of MCP Mesh, a library for agents that has ids of its own: a trace,
//! which it keeps through an agent, and a parent, which it passes through or,
//! where it traces itself, replaces with a span of its own.

use opentelemetry::trace::SpanId;

use super::{Call, Candidates, Inference, Known, Method, Parent, Provenance, Reference, common_trace, infer};
use crate::trace::context::TraceContext;

/// Finds the parent by the ids of the library, where the call has any and a
/// request in flight came with them; otherwise as for a call without any.
pub(super) fn find(call: &Call<'_>, links: Vec<Reference>, known: &Known<'_>) -> Parent {
    let Some(ids) = call.library else { return infer(call, links, known) };
    let (candidates, proved) = known.spans.of_library(ids);
    if let Some(single) = candidates.single() {
        // With ids that only it came with it is this one; otherwise one that
        // was answered may call still.
        return of_request(single.context.span_id, proved, &candidates, links, known);
    }
    if candidates.first().is_some() {
        return by_library(common_trace(&candidates, links, known), false);
    }
    let inferred = infer(call, links, known);
    if inferred.context.is_some() || known.inference == Inference::Off {
        return inferred;
    }
    // The agent's own trace is better than none.
    let Some(own) = ids.context() else { return inferred };
    by_library(
        Parent { span: Some(own.parent.span_id), context: Some(own), sampled: None, ..inferred },
        false,
    )
}

fn of_request(
    id: SpanId,
    exact: bool,
    candidates: &Candidates,
    links: Vec<Reference>,
    known: &Known<'_>,
) -> Parent {
    let given = candidates.first().map(|first| TraceContext { parent: first.context, tracestate: None });
    Parent {
        context: known.spans.context(id).or(given),
        span: Some(id),
        links,
        server_span: Some(id).filter(|_| exact),
        sampled: None,
        provenance: Provenance::new(Method::PropagatedLibrary, exact),
    }
}

fn by_library(parent: Parent, exact: bool) -> Parent {
    let provenance = Provenance { method: Method::PropagatedLibrary, exact, ..parent.provenance };
    Parent { provenance, ..parent }
}
