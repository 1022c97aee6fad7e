//! Zipkin's B3, in the single header `b3` and in the older set of `x-b3-*` headers
//! (openzipkin/b3-propagation).
//!
//! B3 shares one span id between client and server where W3C has a parent and a new span. Here the
//! span id that comes in is the parent, and the parent id that B3 sends along is checked but not
//! used.

use opentelemetry::trace::{SpanId, TraceId};

use super::{encode_hex, read_hex, read_hex_128};

/// The name of the single header.
pub const B3: &str = "b3";
/// The name of the header with the trace id, 16 or 32 lower-case hexadecimal digits.
pub const TRACE_ID: &str = "x-b3-traceid";
/// The name of the header with the span id, 16 lower-case hexadecimal digits.
pub const SPAN_ID: &str = "x-b3-spanid";
/// The name of the header with the id of the parent's parent. It is never read nor written.
pub const PARENT_SPAN_ID: &str = "x-b3-parentspanid";
/// The name of the header with the decision, `1` or `0`.
pub const SAMPLED: &str = "x-b3-sampled";
/// The name of the header that asks for debugging with `1`.
pub const FLAGS: &str = "x-b3-flags";

/// The longest single header that is written, in bytes.
pub const MAX_SINGLE_BYTES: usize = 51;

/// What B3 says about a request. Ids are never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct B3Context {
    /// The trace; a 64-bit id has zeros on the left. `None` where only a decision came.
    pub trace_id: Option<TraceId>,
    /// The caller's span. It is present only together with a trace.
    pub span_id: Option<SpanId>,
    /// The decision of the caller; `None` leaves it to us. Debug implies `Some(true)`.
    pub sampled: Option<bool>,
    /// The caller wants this trace kept and marked for debugging.
    pub debug: bool,
}

/// The values of the `x-b3-*` headers to send; a header without value is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiHeaders {
    /// For [`TRACE_ID`].
    pub trace_id: Option<[u8; 32]>,
    /// For [`SPAN_ID`].
    pub span_id: Option<[u8; 16]>,
    /// For [`SAMPLED`]; absent with [`flags`](Self::flags), which say more.
    pub sampled: Option<[u8; 1]>,
    /// For [`FLAGS`].
    pub flags: Option<[u8; 1]>,
}

/// Reads the single header, without whitespace around it: `{trace}-{span}`, then optionally
/// `-{decision}` and `-{parent}`, or a decision alone. Anything else is `None`.
#[must_use]
pub fn extract_single(value: &[u8]) -> Option<B3Context> {
    let mut parts = value.split(|byte| *byte == b'-');
    let first = parts.next()?;
    let Some(second) = parts.next() else {
        return read_decision(first);
    };
    let mut context = match parts.next() {
        None => B3Context::default(),
        Some(text) => match read_decision(text) {
            Some(decision) => {
                parts.next().map_or(Some(0), read_id)?;
                decision
            }
            // The decision may be left open while the parent is given.
            None => read_id(text).map(|_| B3Context::default())?,
        },
    };
    context.trace_id = Some(read_trace_id(first)?);
    context.span_id = Some(read_span_id(second)?);
    parts.next().is_none().then_some(context)
}

/// Reads the set of headers, each without whitespace around it and `None` where it is missing.
///
/// A decision stands alone without ids. A trace id may come without a span id: the trace goes on
/// and has no parent we could name. An id that is present but wrong makes the whole set `None`, and
/// so does a set that says nothing. Besides `1` and `0` the decision may be `true` or `false`,
/// which old tracers send; other decisions and flags count as not given.
#[must_use]
pub fn extract_multi(
    trace_id: Option<&[u8]>,
    span_id: Option<&[u8]>,
    sampled: Option<&[u8]>,
    flags: Option<&[u8]>,
) -> Option<B3Context> {
    let debug = flags == Some(b"1");
    let sampled = match sampled {
        _ if debug => Some(true),
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        _ => None,
    };
    let trace_id = match trace_id {
        Some(text) => Some(read_trace_id(text)?),
        None => None,
    };
    let span_id = match span_id {
        Some(text) => Some(read_span_id(text)?).filter(|_| trace_id.is_some()),
        None => None,
    };
    let context = B3Context { trace_id, span_id, sampled, debug };
    (context != B3Context::default()).then_some(context)
}

impl B3Context {
    /// Appends the single header: both ids and the decision, or the decision alone where an id is
    /// missing. Nothing is written if there is neither.
    pub fn encode_single(&self, out: &mut Vec<u8>) {
        let decision = self.decision();
        if let (Some(trace_id), Some(span_id)) = (self.trace_id, self.span_id) {
            out.extend_from_slice(&trace_digits(trace_id));
            out.push(b'-');
            out.extend_from_slice(&span_digits(span_id));
            if decision.is_some() {
                out.push(b'-');
            }
        }
        out.extend(decision);
    }

    /// The values for the set of headers.
    #[must_use]
    pub fn encode_multi(&self) -> MultiHeaders {
        MultiHeaders {
            trace_id: self.trace_id.map(trace_digits),
            span_id: self.span_id.filter(|_| self.trace_id.is_some()).map(span_digits),
            sampled: self.decision().filter(|_| !self.debug).map(|decision| [decision]),
            flags: self.debug.then_some([b'1']),
        }
    }

    /// The decision as one character.
    fn decision(&self) -> Option<u8> {
        match (self.debug, self.sampled) {
            (true, _) => Some(b'd'),
            (false, Some(true)) => Some(b'1'),
            (false, Some(false)) => Some(b'0'),
            (false, None) => None,
        }
    }
}

fn read_decision(text: &[u8]) -> Option<B3Context> {
    let (sampled, debug) = match text {
        b"0" => (false, false),
        b"1" => (true, false),
        b"d" => (true, true),
        _ => return None,
    };
    Some(B3Context { sampled: Some(sampled), debug, ..B3Context::default() })
}

fn read_trace_id(text: &[u8]) -> Option<TraceId> {
    let number = if text.len() == 16 { read_hex(text)?.into() } else { read_hex_128(text)? };
    (number != 0).then_some(TraceId::from(number))
}

fn read_span_id(text: &[u8]) -> Option<SpanId> {
    read_id(text).filter(|number| *number != 0).map(SpanId::from)
}

fn read_id(text: &[u8]) -> Option<u64> {
    if text.len() == 16 { read_hex(text) } else { None }
}

fn trace_digits(trace_id: TraceId) -> [u8; 32] {
    let mut digits = [0; 32];
    encode_hex(&trace_id.to_bytes(), &mut digits);
    digits
}

fn span_digits(span_id: SpanId) -> [u8; 16] {
    let mut digits = [0; 16];
    encode_hex(&span_id.to_bytes(), &mut digits);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7;
    const SHORT_TRACE: u128 = 0x64fe_8b2a_57d3_eff7;
    const SPAN: u64 = 0x05e3_ac9a_4f6e_3b90;

    fn context(trace_id: u128, sampled: Option<bool>, debug: bool) -> B3Context {
        let (trace_id, span_id) = (Some(trace_id.into()), Some(SPAN.into()));
        B3Context { trace_id, span_id, sampled, debug }
    }

    fn decision(sampled: Option<bool>, debug: bool) -> B3Context {
        B3Context { sampled, debug, ..B3Context::default() }
    }

    /// Puts the ids in place of their names; the tables are easier to read without them.
    fn expand(text: &str) -> Vec<u8> {
        text.replace("TRACE", "80f198ee56343ba864fe8b2a57d3eff7")
            .replace("SHORT", "64fe8b2a57d3eff7")
            .replace("SPAN", "05e3ac9a4f6e3b90")
            .replace("PARENT", "e457b5a2e4d86bd1")
            .into_bytes()
    }

    #[test]
    fn reads_the_single_header() {
        for (text, wanted) in [
            ("0", decision(Some(false), false)),
            ("1", decision(Some(true), false)),
            ("d", decision(Some(true), true)),
            ("TRACE-SPAN", context(TRACE, None, false)),
            ("TRACE-SPAN-0", context(TRACE, Some(false), false)),
            ("TRACE-SPAN-1", context(TRACE, Some(true), false)),
            ("TRACE-SPAN-d", context(TRACE, Some(true), true)),
            ("TRACE-SPAN-1-PARENT", context(TRACE, Some(true), false)),
            ("TRACE-SPAN-PARENT", context(TRACE, None, false)),
            ("SHORT-SPAN-1", context(SHORT_TRACE, Some(true), false)),
            ("0000000000000000SHORT-SPAN-1", context(SHORT_TRACE, Some(true), false)),
        ] {
            assert_eq!(extract_single(&expand(text)), Some(wanted), "{text}");
        }
    }

    #[test]
    fn refuses_a_bad_single_header() {
        for text in [
            "",
            "-",
            "2",
            "D",
            "true",
            " 0",
            "TRACE",
            "TRACE-",
            "-SPAN",
            "1-SPAN",
            "00000000000000000000000000000000-SPAN-1",
            "0000000000000000-SPAN-1",
            "TRACE-0000000000000000-1",
            "80F198EE56343BA864FE8B2A57D3EFF7-SPAN-1",
            "80f198ee56343ba864fe8b2a57d3eff-SPAN-1",
            "0TRACE-SPAN-1",
            "0SHORT-SPAN-1",
            "TRACE-5e3ac9a4f6e3b90-1",
            "TRACE-0SPAN-1",
            "TRACE-SPAN-",
            "TRACE-SPAN-2",
            "TRACE-SPAN-1-",
            "TRACE-SPAN-1-e457b5a2e4d86bd",
            "TRACE-SPAN-1-PARENT-",
            "TRACE-SPAN-PARENT-1",
        ] {
            assert_eq!(extract_single(&expand(text)), None, "{text}");
        }
    }

    #[test]
    fn reads_the_set_of_headers() {
        let no_parent = B3Context { span_id: None, ..context(TRACE, None, false) };
        // The headers are separated by commas, and `?` is one that is missing.
        for (headers, wanted) in [
            ("TRACE,SPAN,?,?", Some(context(TRACE, None, false))),
            ("TRACE,SPAN,1,?", Some(context(TRACE, Some(true), false))),
            ("TRACE,SPAN,0,?", Some(context(TRACE, Some(false), false))),
            ("TRACE,SPAN,true,0", Some(context(TRACE, Some(true), false))),
            ("TRACE,SPAN,false,", Some(context(TRACE, Some(false), false))),
            ("TRACE,SPAN,yes,2", Some(context(TRACE, None, false))),
            ("TRACE,SPAN,0,1", Some(context(TRACE, Some(true), true))),
            ("SHORT,SPAN,1,?", Some(context(SHORT_TRACE, Some(true), false))),
            ("TRACE,?,?,?", Some(no_parent)),
            ("?,SPAN,0,?", Some(decision(Some(false), false))),
            ("?,?,0,?", Some(decision(Some(false), false))),
            ("?,?,?,1", Some(decision(Some(true), true))),
            ("?,SPAN,?,?", None),
            ("?,?,?,?", None),
            (",SPAN,1,?", None),
            ("TRACE,,1,?", None),
            ("TRACE,0000000000000000,1,?", None),
            ("0000000000000000,SPAN,1,?", None),
            ("64fe8b2a57d3eff,SPAN,1,?", None),
            ("TRACE,05E3AC9A4F6E3B90,1,?", None),
        ] {
            let text = expand(headers);
            let mut parts = text.split(|byte| *byte == b',').map(|part| (part != b"?").then_some(part));
            let mut next = || parts.next().flatten();
            assert_eq!(extract_multi(next(), next(), next(), next()), wanted, "{headers}");
        }
    }

    #[test]
    fn writes_the_single_header() {
        let no_span = B3Context { span_id: None, ..context(TRACE, None, false) };
        for (given, wanted) in [
            (context(TRACE, None, false), "TRACE-SPAN"),
            (context(TRACE, Some(false), false), "TRACE-SPAN-0"),
            (context(TRACE, Some(true), false), "TRACE-SPAN-1"),
            (context(TRACE, None, true), "TRACE-SPAN-d"),
            (context(1, None, false), "00000000000000000000000000000001-SPAN"),
            (decision(Some(false), false), "0"),
            (B3Context { sampled: Some(true), ..no_span }, "1"),
            (no_span, ""),
        ] {
            let mut out = Vec::new();
            given.encode_single(&mut out);
            assert_eq!(out, expand(wanted), "{wanted}");
            assert!(out.len() <= MAX_SINGLE_BYTES);
        }
    }

    #[test]
    fn writes_the_set_of_headers() {
        let headers = context(TRACE, Some(true), false).encode_multi();
        assert_eq!(headers.trace_id.map(Vec::from), Some(expand("TRACE")));
        assert_eq!(headers.span_id.map(Vec::from), Some(expand("SPAN")));
        assert_eq!((headers.sampled, headers.flags), (Some([b'1']), None));

        let headers = context(TRACE, Some(true), true).encode_multi();
        assert_eq!((headers.sampled, headers.flags), (None, Some([b'1'])));

        let headers = decision(Some(false), false).encode_multi();
        assert_eq!((headers.trace_id, headers.span_id), (None, None));
        assert_eq!((headers.sampled, headers.flags), (Some([b'0']), None));
    }
}
