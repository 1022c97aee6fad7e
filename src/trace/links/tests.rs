//! Each rule by a table of situations.

mod claims;
mod cost;
mod inferences;
mod library;
mod values;

use super::*;
use crate::trace::context::Carrier;
use crate::trace::server_spans::{Place, Served};
use crate::w3c::tracestate::Tracestate;

const OURS: &str = "b7ad6b7169203331";
const OURS_TOO: &str = "c7ad6b7169203332";
const THEIRS: &str = "00f067aa0ba902b7";
const CALLER: &str = "2222222222222222";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER_TRACE: &str = "11111111111111111111111111111111";

fn id(text: &str) -> SpanId {
    SpanId::from_hex(text).unwrap()
}

fn context(trace: &str, span: &str, flags: &str, tracestate: &str) -> TraceContext {
    TraceContext {
        parent: Traceparent::parse(format!("00-{trace}-{span}-{flags}").as_bytes()).unwrap(),
        tracestate: Tracestate::parse([tracestate.as_bytes()]),
    }
}

fn claim(span: &str, tracestate: &str, carrier: Carrier) -> Claim {
    Claim { parent: Some((context(TRACE, span, "01", tracestate), carrier)), ..Claim::default() }
}

/// All that a sidecar knows.
struct World {
    spans: ServerSpans,
    background: Background,
    stuck: Stuck,
    inference: Inference,
}

impl World {
    fn new() -> Self {
        World {
            spans: ServerSpans::new(64),
            background: Background::default(),
            stuck: Stuck::default(),
            inference: Inference::Guarded,
        }
    }

    fn serve(&self, span: &str) -> Place {
        self.serve_of(TRACE, span, "01", Some(CALLER))
    }

    fn serve_of(&self, trace: &str, span: &str, flags: &str, caller: Option<&str>) -> Place {
        self.serve_with(trace, span, flags, caller, "")
    }

    fn serve_with(
        &self,
        trace: &str,
        span: &str,
        flags: &str,
        caller: Option<&str>,
        arguments: &str,
    ) -> Place {
        let context = context(trace, span, flags, "").parent;
        let tracestate = format!("mt={span},a=1");
        let arguments = arguments.as_bytes().into();
        self.spans.begin(Served { tracestate, caller: caller.map(id), arguments, ..Served::of(context) })
    }

    fn parent(&self, claim: Claim, mcp: bool) -> Parent {
        self.parent_of(claim, mcp, "")
    }

    fn parent_by(&self, claim: Claim, library: LibraryIds) -> Parent {
        let World { spans, background, stuck, inference } = self;
        let known = Known { spans, background, stuck, inference: *inference };
        let (destination, library, texts) = (destination(), Some(library), [b"".as_slice(); 2]);
        parent_of_call(Call { claim, library, mcp: true, session: None, destination, texts }, &known)
    }

    fn parent_of(&self, claim: Claim, mcp: bool, text: &str) -> Parent {
        let World { spans, background, stuck, inference } = self;
        let known = Known { spans, background, stuck, inference: *inference };
        let (destination, texts) = (destination(), [text.as_bytes(), b""]);
        let (library, session) = (None, Some("s"));
        parent_of_call(Call { claim, library, mcp, session, destination, texts }, &known)
    }
}

fn destination() -> Destination<'static> {
    Destination { host: "weather", port: 80, method: "tools/call", about: "" }
}

fn reasons(parent: &Parent) -> Vec<(SpanId, &'static str)> {
    parent.links.iter().map(|link| (link.to.span_id, link.reason)).collect()
}
