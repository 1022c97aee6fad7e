//! The calls that the demonstration makes, and the trace that each of them must leave.

use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use serde_json::Value;

use super::{agents::NO_STATION, calls};
use crate::store::{StoredSpan, Trace};

/// A call from outside the mesh, without a trace context, and what must come of it.
pub(super) struct Call {
    /// How it is announced.
    pub(super) title: String,
    /// The request.
    pub(super) request: Value,
    /// Whether the tool must fail.
    is_error: bool,
    /// Its spans, each the parent of the next.
    chain: &'static [Link],
}

/// One span of a call.
struct Link {
    service: &'static str,
    kind: SpanKind,
    name: &'static str,
}

const LIST: [Link; 1] = [Link { service: "research-agent", kind: SpanKind::Server, name: "tools/list" }];

const RESEARCH: [Link; 3] = [
    Link { service: "research-agent", kind: SpanKind::Server, name: "tools/call research" },
    Link { service: "research-agent", kind: SpanKind::Client, name: "tools/call forecast" },
    Link { service: "weather-agent", kind: SpanKind::Server, name: "tools/call forecast" },
];

/// The calls, in order: the tools, two that work, one whose tool fails.
pub(super) fn script() -> Vec<Call> {
    let list =
        Call { title: "tools/list".to_owned(), request: calls::tool_list(), is_error: false, chain: &LIST };
    let research = |city: &str| Call {
        title: format!("research({city})"),
        request: calls::tool_call("research", city),
        is_error: city == NO_STATION,
        chain: &RESEARCH,
    };
    vec![list, research("Lisbon"), research("Oslo"), research(NO_STATION)]
}

impl Call {
    /// How many spans it must leave.
    pub(super) fn spans(&self) -> usize {
        self.chain.len()
    }

    /// Whether what arrived is one trace of exactly the spans that the call must leave, each the parent of the next,
    /// with the status that follows from the tool's answer.
    pub(super) fn check(&self, arrived: &[Trace], answered_error: bool) -> Result<(), String> {
        if answered_error != self.is_error {
            return Err(format!("the tool's isError is {answered_error}"));
        }
        let [trace] = arrived else {
            return Err(format!("{} traces arrived, one was expected", arrived.len()));
        };
        if trace.spans.len() != self.chain.len() {
            let (seen, wanted) = (trace.spans.len(), self.chain.len());
            return Err(format!("{seen} spans arrived, {wanted} were expected"));
        }
        let mut parent = opentelemetry::SpanId::INVALID;
        for link in self.chain {
            let mut spans = trace.spans.iter();
            let Some(span) = spans.find(|span| span.parent() == parent && link.is(span)) else {
                let Link { service, kind, name } = link;
                return Err(format!("no {kind:?} span \"{name}\" of {service} with the parent {parent}"));
            };
            if has_failed(span) != self.is_error {
                return Err(format!("the status of \"{}\" is wrong", link.name));
            }
            parent = span.id();
        }
        Ok(())
    }
}

impl Link {
    fn is(&self, span: &StoredSpan) -> bool {
        span.service() == self.service && span.span.kind() == self.kind && span.span.name == self.name
    }
}

fn has_failed(span: &StoredSpan) -> bool {
    let status = span.span.status.as_ref();
    status.is_some_and(|status| status.code() == StatusCode::Error)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value},
        resource::v1::Resource,
        trace::v1::{Span, Status},
    };

    use super::*;
    use crate::store::{Capacity, SpanStore};

    fn span(id: u8, parent: u8, link: &Link, failed: bool) -> (Resource, Span) {
        let name = any_value::Value::StringValue(link.service.to_owned());
        let service = KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(name) }),
            ..KeyValue::default()
        };
        let resource = Resource { attributes: vec![service], ..Resource::default() };
        let code = if failed { StatusCode::Error } else { StatusCode::Unset };
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![id; 8],
            parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
            name: link.name.to_owned(),
            kind: link.kind as i32,
            status: Some(Status { code: code as i32, ..Status::default() }),
            ..Span::default()
        };
        (resource, span)
    }

    fn trace(spans: Vec<(Resource, Span)>) -> Vec<Trace> {
        let store = SpanStore::new(Capacity::default());
        for (resource, span) in spans {
            store.add(crate::demo::tests::request(resource, span));
        }
        store.traces()
    }

    #[test]
    fn only_the_whole_chain_is_complete() {
        let calls = script();
        let (good, bad) = (&calls[1], &calls[3]);
        let chain = |failed| {
            let parents = [(1, 0), (2, 1), (3, 2)];
            let links = parents.into_iter().zip(&RESEARCH);
            links.map(|((id, parent), link)| span(id, parent, link, failed)).collect::<Vec<_>>()
        };
        assert_eq!(good.check(&trace(chain(false)), false), Ok(()));
        assert_eq!(bad.check(&trace(chain(true)), true), Ok(()));
        assert!(bad.check(&trace(chain(false)), true).is_err(), "a failure without status");
        assert!(bad.check(&trace(chain(true)), false).is_err(), "an answer that is not an error");

        let mut shuffled = chain(false);
        shuffled.reverse();
        assert_eq!(good.check(&trace(shuffled), false), Ok(()));

        let mut other_parent = chain(false);
        other_parent[2].1.parent_span_id = vec![1; 8];
        let mut other_trace = chain(false);
        other_trace[2].1.trace_id = vec![2; 16];
        let mut twice = chain(false);
        twice.push(twice[2].clone());
        let mut lost = chain(false);
        lost.pop();
        for wrong in [other_parent, other_trace, twice, lost, Vec::new()] {
            assert!(good.check(&trace(wrong), false).is_err());
        }
    }
}
