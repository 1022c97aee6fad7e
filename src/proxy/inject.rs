//! Writes the decided context into a request: into its headers, and into
//! `params._meta` by editing bytes where the message allows that beyond doubt.

use std::ops::Range;

use bytes::Bytes;
use http::header::{self, Entry};
use http::{HeaderMap, HeaderValue, request};

use super::headers::{self, BAGGAGE, Survey};
use super::hop;
use super::settings::Propagation;
use crate::mcp::message::Message;
use crate::mcp::meta::{self, Carrier};
use crate::trace::outgoing::Outgoing;
use crate::w3c::baggage::Baggage;

/// What is to be written.
#[derive(Debug)]
pub struct Injection {
    /// The trace context.
    pub context: Context,
    /// Baggage that replaces what is there; nothing is changed without it.
    pub baggage: Option<Baggage>,
    /// Whether baggage that is there has to go.
    pub drop_baggage: bool,
    /// Whether `_meta` gets the same as the headers.
    pub into_meta: bool,
}

/// What becomes of the trace context of a request.
#[derive(Debug)]
pub enum Context {
    /// It stays as it came, absent if it was absent.
    Leave,
    /// It becomes this.
    Write(Outgoing),
    /// It goes.
    Strip,
}

impl Injection {
    /// An injection that changes nothing.
    pub fn nothing() -> Self {
        Injection { context: Context::Leave, baggage: None, drop_baggage: false, into_meta: false }
    }

    /// Changes the headers, and gives the new body where `_meta` changed.
    pub fn apply(
        &self,
        head: &mut request::Parts,
        survey: Survey,
        body: &Bytes,
        message: Option<&Message<'_>>,
        propagation: &Propagation,
    ) -> Option<Bytes> {
        let signed = match survey.has(Survey::SIGNED) {
            true => Signed::of(&head.headers),
            false => Signed::default(),
        };
        let spliced = message
            .filter(|_| self.into_meta && !signed.body)
            .and_then(|m| self.splice(body, m, propagation));
        if !signed.context {
            self.write_headers(&mut head.headers, survey, propagation);
        }
        let spliced = Bytes::from(spliced?);
        set_length(&mut head.headers, spliced.len());
        Some(spliced)
    }

    fn write_headers(&self, headers: &mut HeaderMap, survey: Survey, propagation: &Propagation) {
        match &self.context {
            Context::Leave => {}
            Context::Write(out) => headers::inject(headers, survey, propagation.formats, out),
            Context::Strip => headers::strip(headers),
        }
        match &self.baggage {
            Some(baggage) => headers::inject_baggage(headers, baggage),
            None if self.drop_baggage => hop::remove(headers, &[BAGGAGE]),
            None => {}
        }
    }

    /// The body with `_meta` brought up to date, or nothing where it is so already.
    pub(crate) fn splice(
        &self,
        body: &[u8],
        message: &Message<'_>,
        propagation: &Propagation,
    ) -> Option<Vec<u8>> {
        if !propagation.formats.tracecontext {
            return None;
        }
        let mut carrier = Carrier::default();
        let held = message.meta.traceparent.as_ref().map(|t| t.decode());
        let held_state = message.meta.tracestate.as_ref().map(|t| t.decode());
        let held_baggage = message.meta.baggage.as_ref().map(|t| t.decode());
        match &self.context {
            Context::Leave => {
                carrier.traceparent = held.as_deref();
                carrier.tracestate = held_state.as_deref();
            }
            Context::Write(out) => {
                carrier.traceparent = Some(out.traceparent());
                carrier.tracestate = Some(&*out.tracestate).filter(|text| !text.is_empty());
            }
            Context::Strip => {}
        }
        carrier.baggage = match &self.baggage {
            Some(baggage) => Some(baggage.as_str()),
            None if self.drop_baggage => None,
            None => held_baggage.as_deref(),
        };
        let same = carrier.traceparent == held.as_deref()
            && carrier.tracestate == held_state.as_deref()
            && carrier.baggage == held_baggage.as_deref();
        if same {
            return None;
        }
        let mut out = Vec::with_capacity(body.len() + 512);
        meta::splice(body, message, &carrier, &mut out).then_some(out)
    }
}

/// Does the same for a batch: each message gets its own context, and the
/// headers that of the first message that has one to give.
pub fn apply_to_batch(
    edits: &[(&Injection, &Message<'_>, Range<usize>)],
    head: &mut request::Parts,
    survey: Survey,
    body: &Bytes,
    propagation: &Propagation,
) -> Option<Bytes> {
    let signed = match survey.has(Survey::SIGNED) {
        true => Signed::of(&head.headers),
        false => Signed::default(),
    };
    let gives = |(injection, ..): &&(&Injection, _, _)| matches!(injection.context, Context::Write(_));
    if let Some((first, ..)) = edits.iter().find(gives).or(edits.first())
        && !signed.context
    {
        first.write_headers(&mut head.headers, survey, propagation);
    }
    let mut out = Vec::with_capacity(body.len() + 256 * edits.len());
    let mut done = 0;
    for (injection, message, place) in edits {
        let old = body.get(place.clone())?;
        let may = injection.into_meta && !signed.body;
        if let Some(new) = Some(*injection).filter(|_| may).and_then(|i| i.splice(old, message, propagation))
        {
            out.extend_from_slice(body.get(done..place.start)?);
            out.extend_from_slice(&new);
            done = place.end;
        }
    }
    if done == 0 {
        return None;
    }
    out.extend_from_slice(body.get(done..)?);
    set_length(&mut head.headers, out.len());
    Some(Bytes::from(out))
}

/// Brings the length up to date where the head names one.
fn set_length(headers: &mut HeaderMap, length: usize) {
    if let Entry::Occupied(mut named) = headers.entry(header::CONTENT_LENGTH)
        && let Ok(length) = HeaderValue::from_str(itoa::Buffer::new().format(length))
    {
        named.insert(length);
    }
}

/// What of a request is covered by a signature and so must not be touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signed {
    body: bool,
    context: bool,
}

impl Signed {
    /// Looks for digests of the body (RFC 9530, RFC 9421, AWS Signature
    /// Version 4) and for signatures that list the context's own headers.
    fn of(headers: &HeaderMap) -> Self {
        const DIGESTS: [&str; 5] =
            ["content-digest", "repr-digest", "digest", "content-md5", "x-amz-content-sha256"];
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let aws = text("authorization").strip_prefix("AWS4-HMAC-SHA256");
        let input = text("signature-input");
        if aws.is_none() && input.is_empty() && !DIGESTS.iter().any(|name| headers.contains_key(*name)) {
            return Signed::default();
        }
        let unsigned = text("x-amz-content-sha256") == "UNSIGNED-PAYLOAD";
        let digest = DIGESTS.iter().any(|name| headers.contains_key(*name) && !unsigned);
        let body = digest || (aws.is_some() && !unsigned) || input.contains("content-digest");
        let covers = |name: &str| aws.is_some_and(|aws| aws.contains(name)) || input.contains(name);
        Signed { body, context: covers("traceparent") || covers("tracestate") || covers("baggage") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(fields: &[(&'static str, &'static str)]) -> Signed {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Signed::of(&headers)
    }

    #[test]
    fn signatures_are_respected() {
        let none = Signed::default();
        let body = Signed { body: true, context: false };
        let both = Signed { body: true, context: true };
        let aws = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;x-amz-date, Signature=b";
        let covering = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;traceparent, Signature=b";
        assert_eq!(signed(&[("authorization", "Bearer x")]), none);
        assert_eq!(signed(&[("content-digest", "sha-256=:x:")]), body);
        assert_eq!(signed(&[("authorization", aws)]), body);
        assert_eq!(signed(&[("authorization", aws), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]), none);
        assert_eq!(signed(&[("authorization", covering)]), both);
        assert_eq!(signed(&[("signature-input", "s=(\"@method\" \"content-digest\")")]), body);
        assert_eq!(signed(&[("signature-input", "s=(\"@method\")")]), none);
    }
}
