//! Trace context as it was received: in which carrier, which of two claims
//! wins, and what of it goes on.

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::hop::{Listens, Member};
use super::sampler::Ot;
use crate::w3c::encode_hex;
use crate::w3c::ot::{self, OtelState};
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::{self, Tracestate};

/// Our member of `tracestate`: the id of the last meshtrace span on the path.
/// It still names our span where an agent's own, unexported span has taken
/// the place of the parent id.
pub const MEMBER: &str = "mt";

/// A valid context that somebody sent us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The ids and flags.
    pub parent: Traceparent,
    /// The state from the same carrier; W3C forbids to mix carriers.
    pub tracestate: Option<Tracestate>,
}

impl TraceContext {
    /// The `ot` member of the state, when there is one that can be read.
    pub fn ot(&self) -> Option<OtelState> {
        OtelState::parse(self.tracestate.as_ref()?.get("ot")?)
    }

    /// The meshtrace span that the state names, if any.
    pub fn mesh_span(&self) -> Option<SpanId> {
        self.member().map(|member| member.span)
    }

    /// Whether our shim vouches for this context.
    pub fn is_shim_marked(&self) -> bool {
        self.member().is_some_and(|member| member.shim)
    }

    /// Whether it has a mark that is meant for this hop only.
    pub fn is_marked(&self) -> bool {
        self.member().is_some_and(|member| member.is_marked())
    }

    /// Where the sidecar that sent it takes notices, if it comes from one
    /// itself: somebody who passes the state on has a span of another id.
    pub fn notices(&self) -> Option<Listens> {
        let member = self.member().filter(|member| member.span == self.parent.span_id)?;
        Some(Listens { port: member.notices?, address: member.address })
    }

    /// The state as others may see it: without the marks that are for one hop.
    pub fn state_without_mark(&self) -> String {
        match (self.member(), &self.tracestate) {
            (Some(member), state) if member.is_marked() => {
                compose(Some((MEMBER, span_hex(member.span, &mut [0; 16]))), &Ot::Keep, state.as_ref())
            }
            (_, Some(state)) => state.as_str().to_owned(),
            (_, None) => String::new(),
        }
    }

    pub(super) fn member(&self) -> Option<Member> {
        Member::parse(self.tracestate.as_ref()?.get(MEMBER)?)
    }
}

/// The ids that the library MCP Mesh sends along, which are no W3C context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryIds {
    /// `X-Trace-ID`.
    pub trace: TraceId,
    /// `X-Parent-Span`; not all calls have one.
    pub parent: Option<SpanId>,
    /// Whether that trace is recorded, which nothing on the wire says.
    pub sampled: bool,
}

impl LibraryIds {
    /// The context that they make where they name a parent.
    pub fn context(self) -> Option<TraceContext> {
        let flags = if self.sampled { Traceparent::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let parent = Traceparent { trace_id: self.trace, span_id: self.parent?, flags };
        Some(TraceContext { parent, tracestate: None })
    }
}

/// Where a context came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `params._meta` of the message.
    Meta,
    /// The HTTP headers.
    Header,
    /// The headers that the library MCP Mesh keeps for a request and repeats
    /// among the arguments of its calls.
    Library,
}

/// The outcome of reading both carriers: the parent, and the other claim
/// where there were two that differ.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The context that won, with its carrier.
    pub parent: Option<(TraceContext, Carrier)>,
    /// A valid context that lost: it becomes a link, never a second parent.
    pub other: Option<(TraceContext, Carrier)>,
    /// Whether both carriers name the same span.
    pub agreed: bool,
}

impl Claim {
    /// Chooses between the carriers. MCP says nothing of precedence; the
    /// OpenTelemetry conventions for it take `_meta` and link to the rest.
    pub fn choose(meta: Option<TraceContext>, header: Option<TraceContext>, prefer_header: bool) -> Self {
        let meta = meta.map(|context| (context, Carrier::Meta));
        let header = header.map(|context| (context, Carrier::Header));
        if prefer_header { Claim::of(header, meta) } else { Claim::of(meta, header) }
    }

    /// Takes the library's word in too: a header that says the same is as good
    /// as that, and another one was written later.
    pub fn with_library(mut self, library: Option<TraceContext>) -> Self {
        let Some(library) = library else { return self };
        match &mut self.parent {
            None => self.parent = Some((library, Carrier::Library)),
            Some((header, carrier)) if *carrier == Carrier::Header && header.parent == library.parent => {
                *carrier = Carrier::Library;
            }
            Some(_) => {}
        }
        self
    }

    fn of(winner: Option<(TraceContext, Carrier)>, loser: Option<(TraceContext, Carrier)>) -> Self {
        let (Some(first), Some(second)) = (&winner, &loser) else {
            return Claim { parent: winner.or(loser), ..Claim::default() };
        };
        let (first, second) = (first.0.parent, second.0.parent);
        let differs = first.trace_id != second.trace_id || first.span_id != second.span_id;
        Claim { parent: winner, other: loser.filter(|_| differs), agreed: !differs }
    }

    /// Every context that came.
    pub fn all(&self) -> impl Iterator<Item = &TraceContext> {
        self.parent.iter().chain(&self.other).map(|(context, _)| context)
    }

    /// The winning context.
    pub fn context(&self) -> Option<&TraceContext> {
        self.parent.as_ref().map(|(context, _)| context)
    }
}

/// The flags of a span of ours: the decision, and the random bit, which W3C
/// wants copied from the parent unchanged and set on roots with random ids.
pub fn flags(parent: Option<&TraceContext>, sampled: bool) -> TraceFlags {
    let random = match parent {
        Some(parent) => parent.parent.is_random(),
        None => true,
    };
    let mut bits = 0;
    if sampled {
        bits |= Traceparent::SAMPLED.to_u8();
    }
    if random {
        bits |= Traceparent::RANDOM.to_u8();
    }
    TraceFlags::new(bits)
}

/// Room for the members that are our own.
const OWN_STATE_BYTES: usize = 48;

/// The text of a state: our own member, the change of `ot`, and the rest behind them.
pub(super) fn compose(own: Option<(&str, &str)>, change: &Ot, rest: Option<&Tracestate>) -> String {
    // A member with an empty value erases what others wrote under its name.
    let ot = match change {
        Ot::Keep => None,
        Ot::Set(text) => Some((ot::KEY, &**text)),
        Ot::Remove => Some((ot::KEY, "")),
    };
    if let (Some((key, value)), None) = (own, rest) {
        // Both are of our own making, and far from any limit.
        let mut out = String::with_capacity(OWN_STATE_BYTES);
        for part in [key, "=", value] {
            out.push_str(part);
        }
        if let Some((other, text)) = ot
            && !text.is_empty()
        {
            for part in [",", other, "=", text] {
                out.push_str(part);
            }
        }
        return out;
    }
    let mut out = Vec::with_capacity(64 + rest.map_or(0, |r| r.as_str().len()));
    match (own, ot) {
        (Some(own), Some(ot)) => tracestate::compose(&[own, ot], rest, &mut out),
        (Some(own), None) => tracestate::compose(&[own], rest, &mut out),
        (None, Some(ot)) => tracestate::compose(&[ot], rest, &mut out),
        (None, None) => tracestate::compose(&[], rest, &mut out),
    }
    // Members are ASCII by their grammar, so this never loses anything.
    String::from_utf8(out).unwrap_or_default()
}

/// The lower-case hexadecimal text of a span id, in a buffer of the caller.
pub fn span_hex(id: SpanId, buffer: &mut [u8; 16]) -> &str {
    encode_hex(&id.to_bytes(), buffer);
    std::str::from_utf8(buffer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::outgoing::Outgoing;
    use crate::trace::sampler::Decision;

    fn context(traceparent: &str, tracestate: &str) -> TraceContext {
        TraceContext {
            parent: Traceparent::parse(traceparent.as_bytes()).unwrap(),
            tracestate: Tracestate::parse([tracestate.as_bytes()]),
        }
    }

    const A: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
    const B: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn meta_wins_unless_told_otherwise_and_the_other_becomes_a_link() {
        let a = || Some(context(A, "a=1"));
        let b = || Some(context(B, ""));
        let claim = Claim::choose(a(), b(), false);
        assert_eq!(claim.parent.unwrap(), (a().unwrap(), Carrier::Meta));
        assert_eq!(claim.other.unwrap(), (b().unwrap(), Carrier::Header));
        let claim = Claim::choose(a(), b(), true);
        assert_eq!(claim.parent.unwrap().1, Carrier::Header);
        assert_eq!(claim.other.unwrap(), (a().unwrap(), Carrier::Meta));
        assert!(Claim::choose(a(), a(), false).other.is_none());
        assert!(Claim::choose(None, None, false).parent.is_none());
        assert_eq!(Claim::choose(None, b(), false).parent.unwrap().1, Carrier::Header);
    }

    #[test]
    fn a_library_stands_in_for_what_is_missing_and_vouches_for_what_is_there() {
        let carrier = |meta, header: Option<TraceContext>, library| {
            Claim::choose(meta, header, false).with_library(library).parent.map(|(_, carrier)| carrier)
        };
        let (a, b) = (|| Some(context(A, "")), || Some(context(B, "")));
        assert_eq!(carrier(None, None, a()), Some(Carrier::Library));
        assert_eq!(carrier(None, a(), a()), Some(Carrier::Library));
        assert_eq!(carrier(None, a(), b()), Some(Carrier::Header));
        assert_eq!(carrier(a(), None, a()), Some(Carrier::Meta));
        assert_eq!(carrier(None, a(), None), Some(Carrier::Header));
    }

    #[test]
    fn our_span_goes_out_as_parent_and_as_member() {
        let parent = context(A, "x=1,mt=1111111111111111,ot=th:8,y=2");
        let decision = Decision { sampled: true, ot: Ot::Set("th:0".into()) };
        let span = SpanId::from_hex("00f067aa0ba902b7").unwrap();
        let out = Outgoing::of_span(
            parent.parent.trace_id,
            span,
            flags(Some(&parent), true),
            Some(&parent),
            &decision,
        );
        assert_eq!(out.tracestate, "mt=00f067aa0ba902b7,ot=th:0,x=1,y=2");
        assert_eq!(
            std::str::from_utf8(&out.parent.encode()).unwrap(),
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-03"
        );
        assert_eq!(parent.mesh_span().unwrap(), SpanId::from_hex("1111111111111111").unwrap());
    }

    #[test]
    fn an_unrecorded_context_passes_as_it_came() {
        let parent = context(&A.replace("-03", "-02"), "x=1,mt=1111111111111111");
        let out =
            Outgoing::passed_on(&parent, &Decision { sampled: false, ot: Ot::Keep }, || SpanId::INVALID);
        assert_eq!(out.parent, parent.parent);
        assert_eq!(out.tracestate, "x=1,mt=1111111111111111");
        let out = Outgoing::passed_on(
            &context(A, "x=1,ot=th:8"),
            &Decision { sampled: false, ot: Ot::Remove },
            || SpanId::from_bytes([7; 8]),
        );
        assert_eq!(out.parent.span_id, SpanId::from_bytes([7; 8]), "a new flag needs a new id");
        assert_eq!(out.tracestate, "x=1");
        assert_eq!(out.parent.flags.to_u8(), Traceparent::RANDOM.to_u8());
    }

    #[test]
    fn the_random_bit_is_copied_and_set_on_roots() {
        assert_eq!(flags(None, true).to_u8(), 3);
        assert_eq!(flags(None, false).to_u8(), 2);
        assert_eq!(flags(Some(&context(B, "")), true).to_u8(), 1);
        assert_eq!(flags(Some(&context(A, "")), false).to_u8(), 2);
    }

    #[test]
    fn a_foreign_member_of_our_name_is_not_an_id() {
        for text in [
            "mt=1",
            "mt=zzzzzzzzzzzzzzzz",
            "mt=0000000000000000",
            "mt=+111111111111111",
            "mt=1111111111111111;t",
            "mt=;s",
        ] {
            assert_eq!(context(A, text).mesh_span(), None, "{text}");
            assert!(!context(A, text).is_shim_marked(), "{text}");
        }
    }

    #[test]
    fn the_mark_of_the_shim_is_read_and_never_passed_on() {
        let marked = context(A, "x=1,mt=1111111111111111;s,y=2");
        assert_eq!(marked.mesh_span(), SpanId::from_hex("1111111111111111").ok());
        assert!(marked.is_shim_marked());
        assert!(!context(A, "mt=1111111111111111").is_shim_marked());
        assert_eq!(Outgoing::unmarked(&marked).tracestate, "mt=1111111111111111,x=1,y=2");
        for ot in [Ot::Keep, Ot::Set("th:8".into()), Ot::Remove] {
            let decision = Decision { sampled: true, ot };
            let out = Outgoing::passed_on(&marked, &decision, || SpanId::INVALID);
            assert!(!out.tracestate.contains(";s"), "{}", out.tracestate);
            assert!(out.tracestate.starts_with("mt=1111111111111111,"), "{}", out.tracestate);
        }
        let plain = context(A, "x=1,mt=1111111111111111");
        assert!(!plain.is_marked());
        assert_eq!(Outgoing::unmarked(&plain).tracestate, "x=1,mt=1111111111111111");
    }

    #[test]
    fn the_mark_for_notices_goes_one_hop() {
        let parent = context(A, "x=1");
        let decision = Decision { sampled: false, ot: Ot::Keep };
        let span = parent.parent.span_id;
        let mut out = Outgoing::of_span(
            parent.parent.trace_id,
            span,
            flags(Some(&parent), false),
            Some(&parent),
            &decision,
        );
        let listens = Listens { port: 14020, address: "10.0.0.7".parse().ok() };
        out.announce(listens);
        assert_eq!(out.tracestate, "mt=b7ad6b7169203331;n14020;a10.0.0.7,x=1");
        let received = context(A, &out.tracestate);
        assert_eq!((received.notices(), received.mesh_span()), (Some(listens), Some(span)));
        assert!(received.is_marked() && !received.is_shim_marked());
        assert_eq!(received.state_without_mark(), "mt=b7ad6b7169203331,x=1");
        let passed = Outgoing::passed_on(&received, &decision, || SpanId::INVALID);
        assert_eq!(passed.tracestate, "mt=b7ad6b7169203331,x=1");
        // Whoever has a span of its own is not the sidecar that wrote it.
        assert_eq!(context(B, &out.tracestate).notices(), None);
        let mut foreign = Outgoing::unrecorded_root(received.parent.trace_id, span);
        foreign.announce(listens);
        assert_eq!(foreign.tracestate, "");
    }
}
