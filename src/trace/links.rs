//! How an outbound call finds its parent: pure rules over what the call
//! claims and what is known of our own server spans.
//!
//! A context that an agent sends along is a claim. It is taken as parent where
//! it names a live span of ours, or where it is the agent's own; a context that
//! lives as long as a session (what `initialize` or a notification carried) is
//! never a parent, because every later call of that session would inherit it.

use opentelemetry::trace::SpanId;

use super::context::{Carrier, Claim, TraceContext};
use super::server_spans::{ServerSpans, Standing};
use crate::w3c::traceparent::Traceparent;

/// How the parent of a CLIENT span was found: the attributes
/// `meshtrace.parent.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The value of `meshtrace.parent.method`.
    pub method: Method,
    /// Whether the parent is proved rather than inferred.
    pub exact: bool,
    /// How many requests could have been the parent, where that is more than one.
    pub candidates: usize,
    /// Whether the parent had been answered before this call left.
    pub late: bool,
}

/// The rules, in the words of `meshtrace.parent.method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The message carried the context in `params._meta`.
    PropagatedMeta,
    /// The request carried the context in its headers.
    PropagatedHeader,
    /// Nothing was carried and several requests were in flight, or one.
    Ambiguous,
    /// Nothing was carried and nothing was in flight.
    Background,
}

impl Method {
    /// Every method, for metrics that want a series each.
    pub const ALL: [Method; 4] =
        [Method::PropagatedMeta, Method::PropagatedHeader, Method::Ambiguous, Method::Background];

    /// The place in [`Method::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The text of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::PropagatedMeta => "propagated.meta",
            Method::PropagatedHeader => "propagated.header",
            Method::Ambiguous => "ambiguous",
            Method::Background => "background",
        }
    }
}

/// The parent of an outbound call.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The context to continue; a new trace without one.
    pub context: Option<TraceContext>,
    /// The claim that was not taken, to be linked to.
    pub link: Option<Traceparent>,
    /// The span of ours that the call belongs to, whose baggage it carries on.
    pub server_span: Option<SpanId>,
    /// How all this was found.
    pub provenance: Provenance,
}

/// Finds the parent of an outbound call from what it carries. A claim that
/// cannot be a parent does not hide what the other carrier proves.
pub fn parent_of_call(claim: Claim, spans: &ServerSpans) -> Parent {
    let Some((context, carrier)) = claim.parent else {
        return without_parent(None, spans);
    };
    let refused = context.parent;
    let other = claim.other.as_ref().map(|other| other.parent);
    if let Some(parent) = proved(context, carrier, other, spans) {
        return parent;
    }
    let second = match carrier {
        Carrier::Meta => Carrier::Header,
        Carrier::Header => Carrier::Meta,
    };
    // Only what names a request in flight; anything else is no better.
    let live = claim.other.filter(|other| spans.standing(other.parent.span_id) == Some(Standing::InFlight));
    live.and_then(|other| proved(other, second, Some(refused), spans))
        .unwrap_or_else(|| without_parent(Some(refused), spans))
}

/// The parent that this claim proves, if it proves one.
fn proved(
    context: TraceContext,
    carrier: Carrier,
    link: Option<Traceparent>,
    spans: &ServerSpans,
) -> Option<Parent> {
    let named = context.parent.span_id;
    let standing = spans.standing(named);
    let late = standing == Some(Standing::Ended);
    // A header outlives its request easily; an answered request is no parent
    // on the word of a header alone.
    if standing == Some(Standing::Session) || (late && carrier == Carrier::Header) {
        return None;
    }
    let server_span = match standing {
        Some(_) => Some(named),
        None => context.mesh_span().filter(|id| spans.standing(*id).is_some()),
    };
    let method = match carrier {
        Carrier::Meta => Method::PropagatedMeta,
        Carrier::Header => Method::PropagatedHeader,
    };
    let provenance = Provenance { method, exact: true, candidates: 0, late };
    Some(Parent { context: Some(context), link, server_span, provenance })
}

fn without_parent(link: Option<Traceparent>, spans: &ServerSpans) -> Parent {
    let candidates = spans.in_flight();
    let method = if candidates == 0 { Method::Background } else { Method::Ambiguous };
    Parent {
        context: None,
        link,
        server_span: None,
        provenance: Provenance { method, exact: false, candidates, late: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::w3c::tracestate::Tracestate;

    fn id(text: &str) -> SpanId {
        SpanId::from_hex(text).unwrap()
    }

    fn claim(span: &str, tracestate: &str, carrier: Carrier) -> Claim {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01");
        let context = TraceContext {
            parent: Traceparent::parse(text.as_bytes()).unwrap(),
            tracestate: Tracestate::parse([tracestate.as_bytes()]),
        };
        Claim { parent: Some((context, carrier)), other: None }
    }

    const OURS: &str = "b7ad6b7169203331";
    const THEIRS: &str = "00f067aa0ba902b7";

    #[test]
    fn a_context_of_ours_is_the_parent() {
        let spans = ServerSpans::new(64);
        spans.begin(id(OURS), None);
        for (carrier, method) in
            [(Carrier::Meta, Method::PropagatedMeta), (Carrier::Header, Method::PropagatedHeader)]
        {
            let parent = parent_of_call(claim(OURS, "", carrier), &spans);
            assert_eq!(parent.context.unwrap().parent.span_id, id(OURS));
            assert_eq!(parent.server_span, Some(id(OURS)));
            assert_eq!(parent.provenance.method, method);
            assert!(parent.provenance.exact && !parent.provenance.late);
        }
    }

    #[test]
    fn an_agents_own_span_is_the_parent_and_mt_names_ours() {
        let spans = ServerSpans::new(64);
        spans.begin(id(OURS), None);
        let parent = parent_of_call(claim(THEIRS, &format!("mt={OURS}"), Carrier::Header), &spans);
        assert_eq!(parent.context.unwrap().parent.span_id, id(THEIRS));
        assert_eq!(parent.server_span, Some(id(OURS)));
        let parent = parent_of_call(claim(THEIRS, "mt=1111111111111111", Carrier::Header), &spans);
        assert_eq!(parent.server_span, None, "an id that is not ours says nothing");
    }

    #[test]
    fn a_sessions_context_is_never_a_parent() {
        let spans = ServerSpans::new(64);
        spans.never_a_parent(id(THEIRS));
        for carrier in [Carrier::Meta, Carrier::Header] {
            let parent = parent_of_call(claim(THEIRS, "", carrier), &spans);
            assert!(parent.context.is_none());
            assert_eq!(parent.link.unwrap().span_id, id(THEIRS));
            assert_eq!(parent.provenance.method, Method::Background);
            assert!(!parent.provenance.exact);
        }
    }

    #[test]
    fn an_answered_request_is_a_late_parent_from_meta_and_a_link_from_a_header() {
        let spans = ServerSpans::new(64);
        spans.begin(id(OURS), None);
        spans.end(id(OURS));
        let parent = parent_of_call(claim(OURS, "", Carrier::Meta), &spans);
        assert!(parent.context.is_some() && parent.provenance.late);
        let parent = parent_of_call(claim(OURS, "", Carrier::Header), &spans);
        assert!(parent.context.is_none() && parent.link.is_some());
    }

    #[test]
    fn nothing_carried_is_said_honestly() {
        let spans = ServerSpans::new(64);
        let parent = parent_of_call(Claim::default(), &spans);
        assert_eq!(parent.provenance.method, Method::Background);
        spans.begin(id(OURS), None);
        let parent = parent_of_call(Claim::default(), &spans);
        assert_eq!(parent.provenance.method, Method::Ambiguous);
        assert_eq!(parent.provenance.candidates, 1);
        assert!(parent.context.is_none() && !parent.provenance.exact);
    }
}
