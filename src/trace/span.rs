//! The record of one operation, filled while a request passes and encoded once when it ends.
//!
//! It is made to be cheap: attributes are written at once as they will leave, and a span that was cleared keeps its
//! storage for the next request. The names and meanings are those of the OpenTelemetry trace data
//! model; only what this program records exists here, so there are no span events.

mod attributes;
mod text;

use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};

use attributes::{Attributes, OF_LINK, OF_SPAN};
use text::{Text, Texts, as_u32, limited};

/// The text that one span may hold in all, in bytes. What does not fit is cut, and the span says so.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The limits of OpenTelemetry's SDK specification ("Span Limits") that apply to one span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanLimits {
    /// Attributes a span may have; more are counted as dropped.
    pub attribute_count: u32,
    /// Characters an attribute's text may have; the rest is cut. None means no limit but [`MAX_TEXT_BYTES`].
    pub attribute_value_length: Option<u32>,
    /// Links a span may have; more are counted as dropped.
    pub link_count: u32,
    /// Attributes a link may have; more are counted as dropped.
    pub link_attribute_count: u32,
    /// Events a span may have. Read and checked like the others, without effect: no events are recorded.
    pub event_count: u32,
    /// Attributes an event may have. Without effect, as above.
    pub event_attribute_count: u32,
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self {
            attribute_count: 128,
            attribute_value_length: None,
            link_count: 128,
            link_attribute_count: 128,
            event_count: 128,
            event_attribute_count: 128,
        }
    }
}

/// One operation: ids, name, times, attributes, links and status.
///
/// Start and end are nanoseconds since the Unix epoch and are set by the caller, because nothing here reads a clock.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that the span belongs to.
    pub trace_id: TraceId,
    /// The span itself.
    pub span_id: SpanId,
    /// The W3C trace flags of the span's own context.
    pub flags: TraceFlags,
    /// The parent, if there is one.
    pub parent: Option<SpanId>,
    /// Whether the parent's context came from another process.
    pub parent_remote: bool,
    /// Which side of the call the span describes.
    pub kind: SpanKind,
    /// When the operation began, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// When the operation ended, in nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    limits: SpanLimits,
    name: Text,
    tracestate: Text,
    status: Option<Text>,
    attributes: Attributes,
    links: Vec<StoredLink>,
    link_attributes: Attributes,
    texts: Texts,
    dropped_attributes: u32,
    dropped_links: u32,
}

/// A few attributes that many spans share, written once for all of them. Their text is not counted in the text of a span.
#[derive(Clone, Debug)]
pub struct Prepared {
    attributes: Attributes,
}

impl Prepared {
    /// Those that `set` sets on a span of these limits.
    pub fn new(limits: SpanLimits, set: impl FnOnce(&mut Span)) -> Self {
        let mut span = Span::new(limits);
        set(&mut span);
        Self { attributes: span.attributes }
    }
}

/// The value of an attribute as it is read back, and as it is given to a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Str(&'a str),
    /// A whole number.
    Int(i64),
    /// A yes or no.
    Bool(bool),
    /// A floating point number.
    Double(f64),
    /// A list of texts.
    Strings(Vec<&'a str>),
}

/// A pointer to another span, as it is read back.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The trace of the other span.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// The W3C trace flags that came with its context.
    pub flags: TraceFlags,
    /// Whether its context came from another process.
    pub remote: bool,
    /// Attributes over the limit.
    pub dropped_attributes: u32,
    span: &'a Span,
    stored: &'a StoredLink,
}

/// Whether the operation failed. A proxy never says `Ok`: that word is the application's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status<'a> {
    /// Nothing is known to be wrong.
    Unset,
    /// The operation failed; the text says why and may be empty.
    Error(&'a str),
}

#[derive(Clone, Copy, Debug)]
struct StoredLink {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
    remote: bool,
    /// Where its attributes are, in bytes, and how many there are.
    place: (u32, u32),
    count: u32,
    dropped_attributes: u32,
}

/// What the spans of most requests have at most, in bytes.
const USUAL_ATTRIBUTES: usize = 512;
const USUAL_TEXT: usize = 96;

impl Span {
    /// An empty span under `limits`. It allocates nothing until something is recorded.
    pub fn new(limits: SpanLimits) -> Self {
        Self {
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            flags: TraceFlags::default(),
            parent: None,
            parent_remote: false,
            kind: SpanKind::Internal,
            start_unix_nanos: 0,
            end_unix_nanos: 0,
            limits,
            name: Text::Static(""),
            tracestate: Text::Static(""),
            status: None,
            attributes: Attributes::of(OF_SPAN, 0),
            links: Vec::new(),
            link_attributes: Attributes::of(OF_LINK, 0),
            texts: Texts::default(),
            dropped_attributes: 0,
            dropped_links: 0,
        }
    }

    /// An empty span with room for what a request usually has, so that it
    /// grows once and not step by step.
    pub fn with_room(limits: SpanLimits) -> Self {
        let attributes = Attributes::of(OF_SPAN, USUAL_ATTRIBUTES);
        Self { attributes, texts: Texts::with_capacity(USUAL_TEXT), ..Self::new(limits) }
    }

    /// Makes the span as new and keeps its limits and storage.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.attributes.clear();
        self.links.clear();
        self.link_attributes.clear();
        (self.trace_id, self.span_id, self.flags) =
            (TraceId::INVALID, SpanId::INVALID, TraceFlags::default());
        (self.parent, self.parent_remote, self.kind) = (None, false, SpanKind::Internal);
        (self.start_unix_nanos, self.end_unix_nanos) = (0, 0);
        (self.name, self.tracestate, self.status) = (Text::Static(""), Text::Static(""), None);
        (self.dropped_attributes, self.dropped_links) = (0, 0);
    }

    /// Names the span.
    pub fn set_name(&mut self, name: &str) {
        self.name = self.texts.store(name);
    }

    /// Names the span with text that lives as long as the program.
    pub fn set_name_static(&mut self, name: &'static str) {
        self.name = Text::Static(name);
    }

    /// Names the span `method target`, the form of the MCP and HTTP conventions.
    pub fn set_name_parts(&mut self, method: &str, target: &str) {
        self.name = self.texts.join(&[method, " ", target]);
    }

    /// Keeps the W3C `tracestate` of the span's own context, as it goes out.
    pub fn set_tracestate(&mut self, tracestate: &str) {
        self.tracestate = self.texts.store(tracestate);
    }

    /// Sets a text attribute. A key that is set again gets the new value.
    ///
    /// It is called and not copied to where it is called from, and so is the next: a request sets so many that copies would
    /// crowd other code out of the processor's cache.
    #[inline(never)]
    pub fn set_str(&mut self, key: &'static str, value: &str) {
        let value = self.texts.admit(value, self.limits.attribute_value_length);
        self.set(key, &Value::Str(value));
    }

    /// Sets a text attribute whose text lives as long as the program.
    #[inline(never)]
    pub fn set_static(&mut self, key: &'static str, value: &'static str) {
        self.set(key, &Value::Str(limited(value, self.limits.attribute_value_length)));
    }

    /// Sets a whole number.
    pub fn set_int(&mut self, key: &'static str, value: i64) {
        self.set(key, &Value::Int(value));
    }

    /// Sets a yes or no.
    pub fn set_bool(&mut self, key: &'static str, value: bool) {
        self.set(key, &Value::Bool(value));
    }

    /// Sets a floating point number.
    pub fn set_double(&mut self, key: &'static str, value: f64) {
        self.set(key, &Value::Double(value));
    }

    /// Sets a list of texts, each of them under the length limit.
    pub fn set_strings(&mut self, key: &'static str, values: &[&str]) {
        let max_chars = self.limits.attribute_value_length;
        let values = values.iter().map(|value| self.texts.admit(value, max_chars)).collect();
        self.set(key, &Value::Strings(values));
    }

    /// Sets a text attribute whose key is known only at run time, such as one that the configuration names.
    pub fn set_named(&mut self, key: &str, value: &str) {
        let key = self.texts.admit(key, None);
        let value = self.texts.admit(value, self.limits.attribute_value_length);
        self.set(key, &Value::Str(value));
    }

    /// Sets attributes that many spans share.
    pub fn set_prepared(&mut self, prepared: &Prepared) {
        let dropped = self.attributes.set_all(&prepared.attributes, self.limits.attribute_count);
        self.dropped_attributes = self.dropped_attributes.saturating_add(dropped);
    }

    /// The limits that it is under.
    pub fn limits(&self) -> SpanLimits {
        self.limits
    }

    /// Marks the span as failed: sets `error.type` and the status with its description.
    pub fn error(&mut self, error_type: &str, description: &str) {
        self.set_str("error.type", error_type);
        self.status = Some(self.texts.store(description));
    }

    /// Adds a pointer to another span. Over the limit of links it is counted as dropped.
    pub fn add_link(
        &mut self,
        trace_id: TraceId,
        span_id: SpanId,
        flags: TraceFlags,
        remote: bool,
        attributes: &[(&'static str, Value<'_>)],
    ) {
        if self.links.len() >= self.limits.link_count as usize {
            self.dropped_links = self.dropped_links.saturating_add(1);
            return;
        }
        let first = as_u32(self.link_attributes.end());
        let count = attributes.len().min(self.limits.link_attribute_count as usize);
        let max_chars = self.limits.attribute_value_length;
        for (key, value) in &attributes[..count] {
            let value = match value {
                Value::Str(text) => Value::Str(self.texts.admit(text, max_chars)),
                Value::Strings(texts) => {
                    Value::Strings(texts.iter().map(|text| self.texts.admit(text, max_chars)).collect())
                }
                other => other.clone(),
            };
            self.link_attributes.push(key, &value);
        }
        let place = (first, as_u32(self.link_attributes.end()));
        let dropped_attributes = as_u32(attributes.len() - count);
        let count = as_u32(count);
        self.links.push(StoredLink { trace_id, span_id, flags, remote, place, count, dropped_attributes });
    }

    /// The name; empty until one is set.
    pub fn name(&self) -> &str {
        self.text(self.name)
    }

    /// The `tracestate` header value; empty if there is none.
    pub fn tracestate(&self) -> &str {
        self.text(self.tracestate)
    }

    /// Whether the operation failed.
    pub fn status(&self) -> Status<'_> {
        self.status.map_or(Status::Unset, |description| Status::Error(self.text(description)))
    }

    /// The attributes in the order in which their keys were first set.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.attributes.read(0, self.attributes.count())
    }

    /// The same as they leave: elements of the field `attributes` of OTLP's `Span`.
    pub fn encoded_attributes(&self) -> &[u8] {
        self.attributes.encoded()
    }

    /// One attribute by its key.
    pub fn attribute(&self, key: &str) -> Option<Value<'_>> {
        self.attributes().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The links in the order in which they were added.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        self.links.iter().map(|stored| Link {
            trace_id: stored.trace_id,
            span_id: stored.span_id,
            flags: stored.flags,
            remote: stored.remote,
            dropped_attributes: stored.dropped_attributes,
            span: self,
            stored,
        })
    }

    /// Attributes that the limit kept out.
    pub fn dropped_attributes(&self) -> u32 {
        self.dropped_attributes
    }

    /// Links that the limit kept out.
    pub fn dropped_links(&self) -> u32 {
        self.dropped_links
    }

    /// Whether text was cut at [`MAX_TEXT_BYTES`].
    pub fn is_cut(&self) -> bool {
        self.texts.cut
    }

    fn set(&mut self, key: &str, value: &Value<'_>) {
        if !self.attributes.set(key, value, self.limits.attribute_count) {
            self.dropped_attributes = self.dropped_attributes.saturating_add(1);
        }
    }

    fn text(&self, text: Text) -> &str {
        self.texts.get(text)
    }
}

impl<'a> Link<'a> {
    /// The attributes of the link.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        self.span.link_attributes.read(self.stored.place.0 as usize, self.stored.count)
    }

    /// The same as they leave: elements of the field `attributes` of OTLP's `Span.Link`.
    pub fn encoded_attributes(&self) -> &'a [u8] {
        let (start, end) = self.stored.place;
        self.span.link_attributes.encoded().get(start as usize..end as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
