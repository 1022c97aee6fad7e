//! How an outbound call finds its parent: pure rules over what the call
//! carries and what is known of the requests in flight. The first that applies
//! decides.
//!
//! A context that an agent sends along is a claim, and is checked: what a whole
//! session inherits, and what outlived its request, is no parent. Without a
//! claim that holds, a guarded inference may be made, which is marked as such;
//! any other guess is a link.

mod check;
mod library;

#[cfg(test)]
mod tests;

use opentelemetry::trace::SpanId;

use self::check::{Taken, Verdict};
use super::context::{Claim, LibraryIds, TraceContext};
use super::places::{Background, Destination, Stuck};
use super::server_spans::{Candidate, Candidates, ServerSpans, Standing};
use crate::w3c::traceparent::Traceparent;

/// How the parent of a CLIENT span was found: the attributes
/// `meshtrace.parent.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The value of `meshtrace.parent.method`.
    pub method: Method,
    /// Whether the parent is proved rather than inferred.
    pub exact: bool,
    /// How many requests could have been the parent.
    pub candidates: usize,
    /// Whether the parent had been answered before this call left.
    pub late: bool,
    /// Whether what the call holds speaks for another request in flight.
    pub conflict: bool,
}

impl Provenance {
    fn new(method: Method, exact: bool) -> Self {
        Provenance { method, exact, candidates: 0, late: false, conflict: false }
    }
}

/// The rules, in the words of `meshtrace.parent.method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The message carried the context in `params._meta`.
    PropagatedMeta,
    /// Our shim inside the agent copied the context.
    PropagatedShim,
    /// The request carried the context in its headers.
    PropagatedHeader,
    /// The library MCP Mesh passed the context on, or ids of its own.
    PropagatedLibrary,
    /// Nothing was carried, and all requests in flight are of one trace.
    TraceCommon,
    /// Nothing was carried, and one request was in flight and had been alone
    /// since it began.
    InferredSingle,
    /// Nothing was carried, and one request in flight alone holds a value that
    /// the call holds: a link, never a parent.
    InferredUniqueValue,
    /// Nothing was carried and several requests were in flight, or the one
    /// there was could not be trusted to be the caller.
    Ambiguous,
    /// Nothing was carried and nothing was in flight.
    Background,
    /// What a server asks its client: it stood in the stream that answers a request.
    Stream,
    /// The same where the session had one request in flight.
    Session,
    /// What a server says of the progress of a request.
    Progress,
    /// What takes a request back names it.
    Named,
}

impl Method {
    /// Every method, for metrics that want a series each.
    pub const ALL: [Method; 13] = [
        Method::PropagatedMeta,
        Method::PropagatedShim,
        Method::PropagatedHeader,
        Method::PropagatedLibrary,
        Method::TraceCommon,
        Method::InferredSingle,
        Method::InferredUniqueValue,
        Method::Ambiguous,
        Method::Background,
        Method::Stream,
        Method::Session,
        Method::Progress,
        Method::Named,
    ];

    /// The method of this name, if it is one.
    pub fn named(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// The place in [`Method::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether the call itself named its parent.
    pub fn is_proof(self) -> bool {
        match self {
            Method::PropagatedMeta | Method::PropagatedShim | Method::Stream | Method::Named => true,
            Method::PropagatedHeader | Method::PropagatedLibrary => true,
            Method::TraceCommon | Method::InferredSingle | Method::InferredUniqueValue => false,
            Method::Ambiguous | Method::Background => false,
            Method::Session | Method::Progress => false,
        }
    }

    /// The text of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::PropagatedMeta => "propagated.meta",
            Method::PropagatedShim => "propagated.shim",
            Method::PropagatedHeader => "propagated.header",
            Method::PropagatedLibrary => "propagated.library",
            Method::TraceCommon => "trace.common",
            Method::InferredSingle => "inferred.single",
            Method::InferredUniqueValue => "inferred.unique_value",
            Method::Ambiguous => "ambiguous",
            Method::Background => "background",
            Method::Stream => "stream",
            Method::Session => "session",
            Method::Progress => "progress",
            Method::Named => "named",
        }
    }
}

/// What may be made of a call that carries nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inference {
    /// The one request in flight, where it has been alone, or the trace that
    /// all in flight share, is its parent, unless its destination is also
    /// called when nothing is in flight.
    #[default]
    Guarded,
    /// It links to what could have made it.
    Links,
    /// It stands alone.
    Off,
}

/// An outbound call, as far as the rules look at it.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The contexts that it carries.
    pub claim: Claim,
    /// The ids of the library MCP Mesh, where it made the call.
    pub library: Option<LibraryIds>,
    /// Whether it is a message of MCP. Some clients send those from a task
    /// that holds on to the context of whatever opened the session.
    pub mcp: bool,
    /// Its session with the server, where it names one.
    pub session: Option<&'a str>,
    /// Where it goes, and for what.
    pub destination: Destination<'a>,
    /// What it says: arguments, or path and body.
    pub texts: [&'a [u8]; 2],
}

/// What the rules know besides the call.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The requests that this sidecar has handed to the agent.
    pub spans: &'a ServerSpans,
    /// Destinations that are called when nothing is in flight.
    pub background: &'a Background,
    /// Sessions whose context is not fresh.
    pub stuck: &'a Stuck,
    /// What may be made of a call that carries nothing.
    pub inference: Inference,
}

/// The parent of an outbound call.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The trace to continue; a new one without it.
    pub context: Option<TraceContext>,
    /// The parent in that trace. A trace may be known while nothing in it is
    /// proved to be the parent.
    pub span: Option<SpanId>,
    /// What to link to: claims that were not taken, and candidates.
    pub links: Vec<Reference>,
    /// The span of ours that the call belongs to, whose baggage it carries on.
    pub server_span: Option<SpanId>,
    /// Whether a new trace is recorded, where its candidates decide that.
    pub sampled: Option<bool>,
    /// How all this was found.
    pub provenance: Provenance,
}

/// A span to link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The span.
    pub to: Traceparent,
    /// The value of `meshtrace.link.reason`.
    pub reason: &'static str,
}

/// What can be said of a connection of the agent whose bytes are not read:
/// whatever is in flight may have opened it, and others may use it later.
pub fn of_connection(spans: &ServerSpans) -> Method {
    if spans.in_flight() > 0 { Method::Ambiguous } else { Method::Background }
}

/// Finds the parent of an outbound call.
pub fn parent_of_call(mut call: Call<'_>, known: &Known<'_>) -> Parent {
    let claim = std::mem::take(&mut call.claim);
    let mut links = Vec::new();
    let Some((context, carrier)) = claim.parent else {
        return library::find(&call, links, known);
    };
    let first = context.parent;
    match check::judge(&context, carrier, claim.agreed, &call, known) {
        Verdict::Taken(taken) => {
            links.extend(claim.other.map(|(other, _)| other_carrier(other.parent)));
            return contradicted(proved(context, taken, links), &call, known);
        }
        Verdict::Refused(reason) => links.push(Reference { to: first, reason }),
    }
    // A claim that cannot be a parent does not hide what the other carrier
    // proves; what does not name a request in flight is no better.
    let live = |other: &TraceContext| known.spans.standing(other.parent.span_id) == Some(Standing::InFlight);
    if let Some((other, second)) = claim.other.filter(|(other, _)| live(other)) {
        match check::judge(&other, second, false, &call, known) {
            Verdict::Taken(taken) => {
                let parent = proved(other, taken, vec![other_carrier(first)]);
                return contradicted(parent, &call, known);
            }
            Verdict::Refused(reason) => links.push(Reference { to: other.parent, reason }),
        }
    }
    library::find(&call, links, known)
}

fn other_carrier(to: Traceparent) -> Reference {
    Reference { to, reason: "other_carrier" }
}

fn proved(context: TraceContext, taken: Taken, links: Vec<Reference>) -> Parent {
    let Taken { method, exact, late, server_span } = taken;
    Parent {
        span: Some(context.parent.span_id),
        context: Some(context),
        links,
        server_span,
        sampled: None,
        provenance: Provenance { late, ..Provenance::new(method, exact) },
    }
}

/// Looks at whether what a call holds speaks for its parent: a value that only
/// another request in flight was given, and none that the parent was, says
/// that the context may be that of the wrong request. It is the one sign of a
/// client that loses track of what it works on. Such a client may go on with
/// the first context for long after that request was answered.
fn contradicted(mut parent: Parent, call: &Call<'_>, known: &Known<'_>) -> Parent {
    let others = known.spans.in_flight() > usize::from(!parent.provenance.late);
    let Some(own) = parent.server_span.filter(|_| others) else { return parent };
    if !parent.context.as_ref().is_some_and(|context| context.parent.is_sampled()) {
        return parent;
    }
    let owners = known.spans.owners(&call.texts);
    if !owners.is_empty() && !owners.contains(&own) && !known.spans.was_given(own, &call.texts) {
        parent.provenance.conflict = true;
        parent.provenance.exact = false;
        parent.links.extend(owners.iter().filter_map(|id| holder(*id, "conflict", known)));
    }
    parent
}

fn holder(id: SpanId, reason: &'static str, known: &Known<'_>) -> Option<Reference> {
    let to = known.spans.context(id)?.parent;
    to.is_sampled().then_some(Reference { to, reason })
}

/// What can be said of a call whose claims, if any, do not hold: `links` are to them.
fn infer(call: &Call<'_>, links: Vec<Reference>, known: &Known<'_>) -> Parent {
    let candidates = known.spans.candidates();
    if candidates.count == 0 {
        known.background.remember(&call.destination);
        return alone(Method::Background, &candidates, links);
    }
    // An HTTP call that names an answered request is that one's, and late; a
    // message of MCP may just be sent by a task with an old context.
    let open = call.mcp || links.is_empty();
    if known.inference == Inference::Off {
        return alone(Method::Ambiguous, &candidates, links);
    }
    let guarded = open && candidates.complete && !known.background.knows(&call.destination);
    // What was answered while it worked may be making calls still.
    let single = candidates.single().filter(|_| guarded && candidates.undisturbed);
    match (single, known.inference) {
        (Some(single), Inference::Guarded) => single_in_flight(single, &candidates, links, known),
        (Some(single), _) => {
            let single = Reference { to: single.context, reason: "inferred.single" };
            beside(Method::InferredSingle, &candidates, link_all(links, [single]))
        }
        (None, Inference::Guarded) if guarded && candidates.one_trace && candidates.single().is_none() => {
            common_trace(&candidates, links, known)
        }
        (None, _) => match known.spans.owners(&call.texts)[..] {
            [owner] if open => {
                let links = link_all(links, holder(owner, "inferred.unique_value", known));
                beside(Method::InferredUniqueValue, &candidates, links)
            }
            _ => {
                let links = link_all(links, candidates.recorded().map(candidate));
                beside(Method::Ambiguous, &candidates, links)
            }
        },
    }
}

/// The one request in flight is taken for the parent.
fn single_in_flight(
    single: &Candidate,
    candidates: &Candidates,
    links: Vec<Reference>,
    known: &Known<'_>,
) -> Parent {
    let id = single.context.span_id;
    // Between the look at it and now it may have ended; the ids are known still.
    let context =
        known.spans.context(id).unwrap_or(TraceContext { parent: single.context, tracestate: None });
    Parent {
        context: Some(context),
        span: Some(id),
        // Baggage may say who a user is, and that is not for guesses.
        server_span: None,
        ..alone(Method::InferredSingle, candidates, links)
    }
}

/// Whichever made the call, its trace is this one; the parent is the span that
/// called them all, where that is one.
fn common_trace(candidates: &Candidates, links: Vec<Reference>, known: &Known<'_>) -> Parent {
    let context = candidates.first().map(|first| {
        let found = known.spans.context(first.context.span_id);
        let mut context = found.unwrap_or(TraceContext { parent: first.context, tracestate: None });
        context.parent.span_id = candidates.one_caller.unwrap_or(first.context.span_id);
        context
    });
    let links = link_all(links, candidates.recorded().map(candidate));
    Parent { context, span: candidates.one_caller, ..alone(Method::TraceCommon, candidates, links) }
}

/// A trace of its own that is recorded if one of those that could have made the call is.
fn beside(method: Method, candidates: &Candidates, links: Vec<Reference>) -> Parent {
    let known = candidates.first().is_some();
    Parent { sampled: known.then_some(candidates.any_sampled), ..alone(method, candidates, links) }
}

/// A trace of its own.
fn alone(method: Method, candidates: &Candidates, links: Vec<Reference>) -> Parent {
    let provenance = Provenance { candidates: candidates.count, ..Provenance::new(method, false) };
    Parent { context: None, span: None, links, server_span: None, sampled: None, provenance }
}

fn candidate(candidate: &Candidate) -> Reference {
    Reference { to: candidate.context, reason: "candidate" }
}

/// Adds links to spans that are not linked to yet.
fn link_all(mut links: Vec<Reference>, more: impl IntoIterator<Item = Reference>) -> Vec<Reference> {
    let claimed = links.len();
    for reference in more {
        if links[..claimed].iter().all(|link| link.to.span_id != reference.to.span_id) {
            links.push(reference);
        }
    }
    links
}
