//! Header fields that matter to tracing: which of them a head has, the context
//! and baggage that it carries, and writing both.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::TraceFlags;

use super::hop::remove;
use super::settings::Formats;
use crate::mcp::message::Meta;
use crate::trace::context::TraceContext;
use crate::trace::outgoing::Outgoing;
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;
use crate::w3c::{b3, trim_ows};

/// The fields of W3C Trace Context and W3C Baggage.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// See [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// See [`TRACEPARENT`].
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The trace and the parent of the library MCP Mesh: 32 and 16 hexadecimal digits.
const MESH_TRACE_ID: &str = "x-trace-id";
/// See [`MESH_TRACE_ID`].
const MESH_PARENT_SPAN: &str = "x-parent-span";

/// Which of the fields that matter here a head has. Looking each of them up
/// costs more than one pass over the few that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey(u16);

impl Survey {
    /// `Connection` or `Upgrade`.
    pub const HOP: Survey = Survey(1);
    /// `Expect`.
    pub const EXPECT: Survey = Survey(1 << 1);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Survey = Survey(1 << 2);
    /// `traceparent`, `tracestate` or B3.
    pub const TRACE: Survey = Survey(1 << 3);
    /// `baggage`.
    pub const BAGGAGE: Survey = Survey(1 << 4);
    /// Any field of MCP.
    pub const MCP: Survey = Survey(1 << 5);
    /// A digest, a signature, or credentials that may hold one.
    pub const SIGNED: Survey = Survey(1 << 6);
    /// `Content-Encoding`.
    pub const CONTENT_ENCODING: Survey = Survey(1 << 7);
    /// A field of the library MCP Mesh.
    pub const MESH: Survey = Survey(1 << 8);
    /// `Content-Type`; the next two say which of those that matter its first value is.
    const CONTENT_TYPE: Survey = Survey(1 << 9);
    const JSON: Survey = Survey(1 << 10);
    const EVENTS: Survey = Survey(1 << 11);

    /// Looks at the names of a head, and at its content type.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = 0;
        for (name, value) in headers {
            let name = name.as_str();
            // The first byte and the length tell most names apart.
            let field = match (name.as_bytes()[0], name.len()) {
                (b'c', 10) if name == "connection" => Survey::HOP,
                (b'u', 7) if name == "upgrade" => Survey::HOP,
                (b'c', 12) if name == "content-type" && seen & Survey::CONTENT_TYPE.0 == 0 => {
                    Survey::content_type(value)
                }
                (b'c', 16) if name == "content-encoding" => Survey::CONTENT_ENCODING,
                (b'c', 11 | 14) if matches!(name, "content-digest" | "content-md5") => Survey::SIGNED,
                (b'e', 6) if name == "expect" => Survey::EXPECT,
                (b't', 17) if name == "transfer-encoding" => Survey::TRANSFER_ENCODING,
                (b't', 10 | 11) if matches!(name, "traceparent" | "tracestate") => Survey::TRACE,
                (b'b', 7) if name == "baggage" => Survey::BAGGAGE,
                (b'b', 2) if name == "b3" => Survey::TRACE,
                (b'm', _) if name.starts_with("mcp-") => Survey::MCP,
                (b'x', _) if name.starts_with("x-b3-") => Survey::TRACE,
                (b'x', _) if matches!(name, MESH_TRACE_ID | "x-mesh-timeout") => Survey::MESH,
                (b'a', 13) if name == "authorization" => Survey::SIGNED,
                (b'd' | b'r' | b's' | b'x', _) if is_signature(name) => Survey::SIGNED,
                _ => continue,
            };
            seen |= field.0;
        }
        Survey(seen)
    }

    fn content_type(value: &HeaderValue) -> Survey {
        Survey(match Media::of(value.as_bytes()) {
            Media::Json => Survey::CONTENT_TYPE.0 | Survey::JSON.0,
            Media::Events => Survey::CONTENT_TYPE.0 | Survey::EVENTS.0,
            Media::Other => Survey::CONTENT_TYPE.0,
        })
    }

    /// The kind of content that the head announces, whatever its parameters.
    pub fn media(self) -> Media {
        match (self.has(Survey::JSON), self.has(Survey::EVENTS)) {
            (true, _) => Media::Json,
            (_, true) => Media::Events,
            _ => Media::Other,
        }
    }

    /// Whether one of these is there.
    pub fn has(self, fields: Survey) -> bool {
        self.0 & fields.0 != 0
    }
}

/// The kinds of content that are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `text/event-stream`.
    Events,
    /// Anything else, or nothing said.
    Other,
}

impl Media {
    fn of(content_type: &[u8]) -> Self {
        // Nearly all say it in these words.
        match content_type {
            b"application/json" => return Media::Json,
            b"text/event-stream" => return Media::Events,
            _ => {}
        }
        let said = trim_ows(content_type.split(|b| *b == b';').next().unwrap_or_default());
        if said.eq_ignore_ascii_case(b"application/json") {
            Media::Json
        } else if said.eq_ignore_ascii_case(b"text/event-stream") {
            Media::Events
        } else {
            Media::Other
        }
    }
}

fn is_signature(name: &str) -> bool {
    matches!(name, "digest" | "repr-digest" | "signature-input" | "x-amz-content-sha256")
}

/// Reads the context that the headers carry, in the formats that are on. Two
/// `traceparent` fields contradict each other and count as none.
pub fn extract(headers: &HeaderMap, formats: Formats) -> Option<TraceContext> {
    if formats.tracecontext
        && let Some(context) = extract_w3c(headers)
    {
        return Some(context);
    }
    if formats.b3 || formats.b3multi { extract_b3(headers, formats) } else { None }
}

fn extract_w3c(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let parent = Traceparent::parse(trim_ows(value.as_bytes()))?;
    let tracestate = match headers.contains_key(TRACESTATE) {
        true => Tracestate::parse(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes)),
        false => None,
    };
    Some(TraceContext { parent, tracestate })
}

/// The values of the ids of the library MCP Mesh.
pub fn mesh_ids(headers: &HeaderMap) -> (Option<&str>, Option<&str>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    (text(MESH_TRACE_ID), text(MESH_PARENT_SPAN))
}

fn extract_b3(headers: &HeaderMap, formats: Formats) -> Option<TraceContext> {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let single = if formats.b3 { value(b3::B3).and_then(b3::extract_single) } else { None };
    let multi = || {
        let found =
            b3::extract_multi(value(b3::TRACE_ID), value(b3::SPAN_ID), value(b3::SAMPLED), value(b3::FLAGS));
        if formats.b3multi { found } else { None }
    };
    let context = single.or_else(multi)?;
    // A caller that leaves the decision open is taken at its word that the
    // trace is worth having: it went to the trouble of naming one.
    let flags = if context.sampled == Some(false) { TraceFlags::NOT_SAMPLED } else { Traceparent::SAMPLED };
    let parent = Traceparent { trace_id: context.trace_id?, span_id: context.span_id?, flags };
    Some(TraceContext { parent, tracestate: None })
}

/// Reads the context that `_meta` carries.
pub fn extract_meta(meta: &Meta<'_>) -> Option<TraceContext> {
    let parent = Traceparent::parse(meta.traceparent.as_ref()?.decode().as_bytes())?;
    let state = meta.tracestate.as_ref().map(|t| t.decode());
    let tracestate = state.and_then(|text| Tracestate::parse([text.as_bytes()]));
    Some(TraceContext { parent, tracestate })
}

/// Reads the baggage that the headers carry.
pub fn extract_baggage(headers: &HeaderMap, formats: Formats) -> Option<Baggage> {
    if !formats.baggage || !headers.contains_key(BAGGAGE) {
        return None;
    }
    Baggage::parse(headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes))
}

/// Writes a context in the formats that are on, replacing what was there.
pub fn inject(headers: &mut HeaderMap, survey: Survey, formats: Formats, context: &Outgoing) {
    if formats.tracecontext {
        set(headers, TRACEPARENT, context.traceparent_bytes());
        if !context.tracestate.is_empty() {
            set(headers, TRACESTATE, context.tracestate.as_bytes());
        } else if survey.has(Survey::TRACE) {
            remove(headers, &[TRACESTATE]);
        }
    }
    if formats.b3 || formats.b3multi {
        inject_b3(headers, formats, &context.parent);
    }
}

fn inject_b3(headers: &mut HeaderMap, formats: Formats, parent: &Traceparent) {
    let context = b3::B3Context {
        trace_id: Some(parent.trace_id),
        span_id: Some(parent.span_id),
        sampled: Some(parent.is_sampled()),
        debug: false,
    };
    if formats.b3 {
        let mut text = Vec::with_capacity(b3::MAX_SINGLE_BYTES);
        context.encode_single(&mut text);
        set(headers, HeaderName::from_static(b3::B3), &text);
    }
    if formats.b3multi {
        // They would speak of the caller's parent, and of a wish that the
        // decision already took in.
        remove(headers, &[b3::PARENT_SPAN_ID, b3::FLAGS].map(HeaderName::from_static));
        let fields = context.encode_multi();
        let values = [
            (b3::TRACE_ID, fields.trace_id.as_ref().map(<[u8; 32]>::as_slice)),
            (b3::SPAN_ID, fields.span_id.as_ref().map(<[u8; 16]>::as_slice)),
            (b3::SAMPLED, fields.sampled.as_ref().map(<[u8; 1]>::as_slice)),
        ];
        for (name, value) in values {
            set(headers, HeaderName::from_static(name), value.unwrap_or_default());
        }
    }
}

/// Removes trace context in every format.
pub fn strip(headers: &mut HeaderMap) {
    let b3 = [b3::B3, b3::TRACE_ID, b3::SPAN_ID, b3::PARENT_SPAN_ID, b3::SAMPLED, b3::FLAGS];
    let b3 = b3.map(HeaderName::from_static);
    remove(headers, &[TRACEPARENT, TRACESTATE]);
    remove(headers, &b3);
}

/// Writes baggage, replacing what was there. Fields that say the same already
/// keep their spelling.
pub fn inject_baggage(headers: &mut HeaderMap, baggage: &Baggage) {
    let there = Baggage::parse(headers.get_all(BAGGAGE).iter().map(HeaderValue::as_bytes));
    if there.as_ref() != Some(baggage) {
        set(headers, BAGGAGE, baggage.as_str().as_bytes());
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    match headers.entry(name) {
        Entry::Occupied(there) if there.iter().map(HeaderValue::as_bytes).eq([value]) => {}
        Entry::Occupied(mut there) => {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                there.insert(value);
            }
        }
        Entry::Vacant(place) => {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                place.insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::hop::tests::{list, map};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_first_content_type_counts_whatever_its_case_and_parameters() {
        let media = |values: &[&'static str]| {
            let fields: Vec<_> = values.iter().map(|value| ("content-type", *value)).collect();
            Survey::of(&map(&fields)).media()
        };
        for json in ["application/json", "Application/JSON", " application/json ; charset=utf-8"] {
            assert_eq!(media(&[json]), Media::Json, "{json}");
        }
        for events in ["text/event-stream", "text/Event-Stream;charset=utf-8"] {
            assert_eq!(media(&[events]), Media::Events, "{events}");
        }
        for other in ["", "application/json-rpc", "text/html", "application/json, text/event-stream"] {
            assert_eq!(media(&[other]), Media::Other, "{other}");
        }
        assert_eq!(media(&[]), Media::Other);
        assert_eq!(media(&["text/html", "application/json"]), Media::Other);
        assert_eq!(media(&["application/json", "text/event-stream"]), Media::Json);
    }

    #[test]
    fn two_parents_are_none() {
        let formats = Formats::default();
        assert!(extract(&map(&[("traceparent", PARENT)]), formats).is_some());
        assert!(extract(&map(&[("traceparent", PARENT), ("traceparent", PARENT)]), formats).is_none());
        assert!(extract(&map(&[("tracestate", "a=1")]), formats).is_none());
        assert!(extract(&map(&[("traceparent", PARENT)]), Formats::NONE).is_none());
    }

    #[test]
    fn states_of_several_fields_are_joined() {
        let headers = map(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let context = extract(&headers, Formats::default()).unwrap();
        assert_eq!(context.tracestate.unwrap().as_str().replace(' ', ""), "a=1,b=2");
        let headers = map(&[("baggage", "a=1"), ("baggage", "b=2;p")]);
        let baggage = extract_baggage(&headers, Formats::default()).unwrap();
        assert_eq!(baggage.members().count(), 2);
    }

    #[test]
    fn injection_replaces_and_never_leaves_a_stale_state() {
        let mut headers = map(&[("tracestate", "old=1"), ("x", "1"), ("traceparent", "bad"), ("y", "2")]);
        let parent = Traceparent::parse(PARENT.as_bytes()).unwrap();
        let survey = Survey::of(&headers);
        inject(&mut headers, survey, Formats::default(), &Outgoing::new(parent, "".to_owned()));
        let names: Vec<_> = list(&headers).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["x", "traceparent", "y"]);
        inject(&mut headers, survey, Formats::default(), &Outgoing::new(parent, "mt=1".to_owned()));
        assert_eq!(headers.get(TRACESTATE).unwrap(), "mt=1");
    }

    #[test]
    fn b3_is_read_and_written_when_asked_for() {
        let b3 = Formats { b3: true, b3multi: true, ..Formats::NONE };
        let mut headers = HeaderMap::new();
        let parent = Traceparent::parse(PARENT.as_bytes()).unwrap();
        inject(&mut headers, Survey::default(), b3, &Outgoing::new(parent, "mt=1".to_owned()));
        assert!(!headers.contains_key(TRACEPARENT));
        assert!(headers.contains_key("x-b3-traceid"));
        let single = Formats { b3multi: false, ..b3 };
        let multi = Formats { b3: false, ..b3 };
        for formats in [single, multi] {
            let context = extract(&headers, formats).unwrap();
            assert_eq!(context.parent.span_id, parent.span_id);
            assert!(context.parent.is_sampled());
        }
    }
}
