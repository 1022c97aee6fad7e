//! Whether a claim holds. Some clients send the context of another request, or
//! of the one that opened their session, and nothing in the context says so.

use opentelemetry::trace::SpanId;

use super::{Call, Known, Method};
use crate::trace::context::{Carrier, TraceContext};
use crate::trace::server_spans::Standing;

/// What comes of a claim.
pub(super) enum Verdict {
    /// It names the parent.
    Taken(Taken),
    /// It does not, for this `meshtrace.link.reason`.
    Refused(&'static str),
}

/// A claim that names the parent.
pub(super) struct Taken {
    pub(super) method: Method,
    pub(super) exact: bool,
    pub(super) late: bool,
    /// The span of ours that it belongs to.
    pub(super) server_span: Option<SpanId>,
}

/// Judges the context of one carrier. `agreed` says that the other one names
/// the same span.
pub(super) fn judge(
    context: &TraceContext,
    carrier: Carrier,
    agreed: bool,
    call: &Call<'_>,
    known: &Known<'_>,
) -> Verdict {
    let named = context.parent.span_id;
    let marked = context.is_shim_marked();
    // `_meta` is written for each message, and the shim and the library know
    // what they copy.
    let bare = carrier == Carrier::Header && !marked && !agreed;
    let method = match carrier {
        _ if marked => Method::PropagatedShim,
        Carrier::Meta => Method::PropagatedMeta,
        Carrier::Header => Method::PropagatedHeader,
        Carrier::Library => Method::PropagatedLibrary,
    };
    let taken = |exact, late, server_span| Verdict::Taken(Taken { method, exact, late, server_span });
    let doubtful = bare && call.mcp;
    match known.spans.standing(named) {
        Some(Standing::Session) => refuse("session", doubtful, call, known),
        Some(Standing::Ended) if bare => refuse("answered", doubtful, call, known),
        Some(Standing::Ended) => taken(true, true, Some(named)),
        // What is not recorded cannot be wrong on a span.
        Some(Standing::InFlight) if doubtful && context.parent.is_sampled() && !is_fresh(call, known) => {
            Verdict::Refused("unverified")
        }
        Some(Standing::InFlight) => taken(true, false, Some(named)),
        None => {
            let ours = context.mesh_span();
            if doubtful && ours == Some(named) && known.spans.has_served() {
                return refuse("unknown", doubtful, call, known);
            }
            // The agent's own span, or somebody else's: its word stands. Ours,
            // which it grew from, says how much that word is worth.
            let standing = ours.and_then(|id| known.spans.standing(id));
            let exact = !doubtful
                || match standing {
                    Some(Standing::InFlight) => is_fresh(call, known),
                    Some(_) => false,
                    None => true,
                };
            taken(exact, standing == Some(Standing::Ended), ours.filter(|_| standing.is_some()))
        }
    }
}

/// Refuses a claim, and remembers the session of an MCP client that made it:
/// its headers will be no better.
fn refuse(reason: &'static str, doubtful: bool, call: &Call<'_>, known: &Known<'_>) -> Verdict {
    if let Some(session) = call.session.filter(|_| doubtful) {
        known.stuck.remember(call.destination.host, session);
    }
    Verdict::Refused(reason)
}

/// Whether nothing speaks against the header of an MCP client: no other
/// request that it could be of, and no session known for old contexts.
fn is_fresh(call: &Call<'_>, known: &Known<'_>) -> bool {
    known.spans.in_flight() <= 1
        && !call.session.is_some_and(|session| known.stuck.knows(call.destination.host, session))
}
