//! Spans as the collector received them, in a form that is easy to compare.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshtrace::store::{SpanStore, StoredSpan};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use serde_json::{Value, json};

use super::{Reply, Side};

/// A span that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// Its resource.
    pub resource: BTreeMap<String, Value>,
    /// Name and version of its instrumentation scope.
    pub scope: (String, String),
    /// Its name.
    pub name: String,
    /// `SERVER` or `CLIENT`.
    pub kind: &'static str,
    /// Its trace, in hexadecimal like the other ids.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Its parent; empty for a root.
    pub parent: String,
    /// The state of its own context.
    pub tracestate: String,
    /// The W3C flags of its own context.
    pub flags: u32,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// Its links.
    pub links: Vec<Link>,
    /// The description of its status where that is an error.
    pub error: Option<String>,
}

/// A link of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The trace of the other span.
    pub trace: String,
    /// The other span.
    pub id: String,
    /// `meshtrace.link.reason`.
    pub reason: String,
}

impl Span {
    /// An attribute; `null` where there is none.
    pub fn attribute(&self, key: &str) -> Value {
        self.attributes.get(key).cloned().unwrap_or_default()
    }

    /// `error.type`; empty where there is none.
    pub fn error_type(&self) -> String {
        self.attribute("error.type").as_str().unwrap_or_default().to_owned()
    }

    /// All attributes as one object.
    pub fn all_attributes(&self) -> Value {
        self.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// How the parent was found: method and whether it is exact.
    pub fn parent_method(&self) -> (String, bool) {
        let method = self.attribute("meshtrace.parent.method");
        let exact = self.attribute("meshtrace.parent.exact");
        (method.as_str().unwrap_or_default().to_owned(), exact.as_bool().unwrap_or_default())
    }
}

/// The attributes that a call has to have: those of its message, and those
/// that come from the connection, which are the same for all MCP calls over
/// HTTP/1.1 that carry no context.
pub fn expected(side: Side, reply: &Reply, server: SocketAddr, message: Value) -> Value {
    let mut all = message;
    all["network.transport"] = "tcp".into();
    all["network.protocol.name"] = "http".into();
    merge(&mut all, network(side, reply, server));
    all
}

/// What every request over HTTP/1.1 has.
pub fn network(side: Side, reply: &Reply, server: SocketAddr) -> Value {
    match side {
        Side::Server => json!({
            "network.protocol.version": "1.1",
            "client.address": reply.from.ip().to_string(),
            "client.port": reply.from.port(),
        }),
        Side::Client => json!({
            "network.protocol.version": "1.1",
            "server.address": server.ip().to_string(),
            "server.port": server.port(),
            "meshtrace.parent.method": "background",
            "meshtrace.parent.exact": false,
        }),
    }
}

/// Adds the members of one object to another.
pub fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { panic!("an object") };
    for (key, value) in from {
        into[key] = value;
    }
}

/// Every span of a store, sorted by start.
pub fn all(store: &SpanStore) -> Vec<Span> {
    let traces = store.traces();
    let mut spans: Vec<Span> = traces.iter().flat_map(|trace| &trace.spans).map(|span| read(span)).collect();
    spans.sort_by_key(|span| span.start);
    spans
}

fn read(stored: &StoredSpan) -> Span {
    let span = &stored.span;
    let status = span.status.clone().unwrap_or_default();
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    assert!(span.events.is_empty() && span.dropped_attributes_count == 0, "{span:?}");
    assert_ne!(status.code, 1, "a proxy never says OK: {span:?}");
    Span {
        service: stored.service().to_owned(),
        resource: attributes(&stored.resource.attributes),
        scope: (stored.scope.name.clone(), stored.scope.version.clone()),
        name: span.name.clone(),
        kind: match span.kind {
            2 => "SERVER",
            3 => "CLIENT",
            other => panic!("kind {other}"),
        },
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        tracestate: span.trace_state.clone(),
        flags: span.flags & 0xff,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        links: span
            .links
            .iter()
            .map(|link| Link {
                trace: hex(&link.trace_id),
                id: hex(&link.span_id),
                reason: attributes(&link.attributes)["meshtrace.link.reason"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            })
            .collect(),
        error: (status.code == 2).then_some(status.message),
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, Value> {
    let all: BTreeMap<String, Value> =
        list.iter().map(|kv| (kv.key.clone(), value(kv.value.as_ref()))).collect();
    assert_eq!(all.len(), list.len(), "a key is there twice: {list:?}");
    all
}

fn value(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::BoolValue(truth)) => json!(truth),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(list)) => {
            list.values.iter().map(|one| self::value(Some(one))).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chain of spans from a root to its last descendant, where every span
/// has one child at most: service, kind and name of each.
pub fn tree(spans: &[Span]) -> Vec<String> {
    let mut chain = Vec::new();
    let mut parent = String::new();
    while let Some(span) = spans.iter().find(|span| span.parent == parent) {
        assert_eq!(spans.iter().filter(|other| other.parent == parent).count(), 1, "{spans:#?}");
        assert_eq!(span.trace, spans[0].trace);
        chain.push(format!("{} {} {}", span.service, span.kind, span.name));
        parent.clone_from(&span.id);
    }
    assert_eq!(chain.len(), spans.len(), "not one chain: {spans:#?}");
    chain
}
