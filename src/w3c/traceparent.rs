//! The `traceparent` value: which trace, which parent span, and two flags (W3C Trace Context Level
//! 2, section "Traceparent Header").

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::{encode_hex, read_hex, read_hex_128};

/// The length of a version `00` value, and the least length of any later version.
pub const LENGTH: usize = 55;

/// A parsed `traceparent`.
///
/// The fields are open so that a new parent can be put in place. A zero id makes a value that no
/// peer accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// The trace, never zero after [`parse`](Self::parse).
    pub trace_id: TraceId,
    /// The caller's span, never zero after [`parse`](Self::parse).
    pub span_id: SpanId,
    /// [`SAMPLED`](Self::SAMPLED) and [`RANDOM`](Self::RANDOM); the reserved bits are dropped on
    /// the way in and out.
    pub flags: TraceFlags,
}

impl Traceparent {
    /// The caller may have recorded its part of the trace.
    pub const SAMPLED: TraceFlags = TraceFlags::new(0x01);

    /// The low 56 bits of the trace id are random. A trace that goes on keeps this flag as it came,
    /// set or not.
    pub const RANDOM: TraceFlags = TraceFlags::new(0x02);

    const KNOWN_FLAGS: u8 = 0x03;

    /// Reads one header value, without whitespace around it.
    ///
    /// Version `00` has exactly 55 bytes. A later version may be longer if a `-` follows the flags;
    /// its first four fields are read and the rest is ignored. Upper-case digits, zero ids and
    /// version `ff` are refused. `None` means that a new trace starts and that `tracestate` must
    /// not be read either.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_first_chunk::<LENGTH>()?;
        let well_formed = match (read_hex(&fields[..2])?, rest) {
            (0xff, _) => false,
            (0x00, rest) => rest.is_empty(),
            (_, rest) => matches!(rest, [] | [b'-', ..]),
        };
        if !well_formed || (fields[2], fields[35], fields[52]) != (b'-', b'-', b'-') {
            return None;
        }
        let trace_id = TraceId::from(read_hex_128(&fields[3..35])?);
        let span_id = SpanId::from(read_hex(&fields[36..52])?);
        let flags = read_hex(&fields[53..])? as u8 & Self::KNOWN_FLAGS;
        if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
            return None;
        }
        Some(Self { trace_id, span_id, flags: TraceFlags::new(flags) })
    }

    /// Writes the value in version `00`, which is what the specification asks for whatever version
    /// came in.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut out = [b'-'; LENGTH];
        out[..2].copy_from_slice(b"00");
        encode_hex(&self.trace_id.to_bytes(), &mut out[3..35]);
        encode_hex(&self.span_id.to_bytes(), &mut out[36..52]);
        encode_hex(&[self.flags.to_u8() & Self::KNOWN_FLAGS], &mut out[53..]);
        out
    }

    /// Whether [`SAMPLED`](Self::SAMPLED) is set.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED == Self::SAMPLED
    }

    /// Whether [`RANDOM`](Self::RANDOM) is set.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.flags & Self::RANDOM == Self::RANDOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x1234_5678_9012_3456_7890_1234_5678_9012;
    const SPAN: u64 = 0x1234_5678_9012_3456;

    fn parse(text: &str) -> Option<Traceparent> {
        Traceparent::parse(text.as_bytes())
    }

    #[test]
    fn accepts_what_the_grammar_allows() {
        for (text, flags) in [
            ("00-12345678901234567890123456789012-1234567890123456-00", 0),
            ("00-12345678901234567890123456789012-1234567890123456-01", 1),
            ("00-12345678901234567890123456789012-1234567890123456-02", 2),
            ("00-12345678901234567890123456789012-1234567890123456-03", 3),
            ("00-12345678901234567890123456789012-1234567890123456-fc", 0),
            ("00-12345678901234567890123456789012-1234567890123456-ff", 3),
            ("01-12345678901234567890123456789012-1234567890123456-01", 1),
            ("cc-12345678901234567890123456789012-1234567890123456-01", 1),
            ("cc-12345678901234567890123456789012-1234567890123456-01-", 1),
            ("cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like", 1),
            ("fe-12345678901234567890123456789012-1234567890123456-02-\u{e9}", 2),
        ] {
            let wanted =
                Traceparent { trace_id: TRACE.into(), span_id: SPAN.into(), flags: TraceFlags::new(flags) };
            assert_eq!(parse(text), Some(wanted), "{text}");
            assert_eq!(wanted.is_sampled(), flags & 1 != 0);
            assert_eq!(wanted.is_random(), flags & 2 != 0);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "-",
            "00",
            "00-12345678901234567890123456789012-1234567890123456-01.",
            "00-12345678901234567890123456789012-1234567890123456-01-",
            "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
            "cc-12345678901234567890123456789012-1234567890123456-0",
            "cc-12345678901234567890123456789012-1234567890123456-011",
            "ff-12345678901234567890123456789012-1234567890123456-01",
            "FF-12345678901234567890123456789012-1234567890123456-01",
            "ff-12345678901234567890123456789012-1234567890123456-01-more",
            ".0-12345678901234567890123456789012-1234567890123456-01",
            "0.-12345678901234567890123456789012-1234567890123456-01",
            "+0-12345678901234567890123456789012-1234567890123456-01",
            "000-12345678901234567890123456789012-1234567890123456-01",
            "0000-12345678901234567890123456789012-1234567890123456-01",
            "0-12345678901234567890123456789012-1234567890123456-01",
            "00-00000000000000000000000000000000-1234567890123456-01",
            "00-.2345678901234567890123456789012-1234567890123456-01",
            "00-1234567890123456789012345678901.-1234567890123456-01",
            "00-+2345678901234567890123456789012-1234567890123456-01",
            "00-1234567890ABCDEF7890123456789012-1234567890123456-01",
            "00-123456789012345678901234567890123-1234567890123456-01",
            "00-1234567890123456789012345678901-1234567890123456-01",
            "00-12345678901234567890123456789012-0000000000000000-01",
            "00-12345678901234567890123456789012-.234567890123456-01",
            "00-12345678901234567890123456789012-123456789012345.-01",
            "00-12345678901234567890123456789012-12345678901234567-01",
            "00-12345678901234567890123456789012-123456789012345-01",
            "00-12345678901234567890123456789012-1234567890ABCDEF-01",
            "00-12345678901234567890123456789012-1234567890123456-.0",
            "00-12345678901234567890123456789012-1234567890123456-0.",
            "00-12345678901234567890123456789012-1234567890123456-0A",
            "00-12345678901234567890123456789012-1234567890123456-001",
            "00-12345678901234567890123456789012-1234567890123456-1",
            "00_12345678901234567890123456789012-1234567890123456-01",
            "00-12345678901234567890123456789012_1234567890123456-01",
            "00-12345678901234567890123456789012-1234567890123456_01",
            // The callers trim.
            " 00-12345678901234567890123456789012-1234567890123456-01",
            "00-12345678901234567890123456789012-1234567890123456-01\t",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_flipped_byte_is_read_the_same_or_refused() {
        let good = *b"00-12345678901234567890123456789012-1234567890123456-01";
        for at in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut text = good;
                text[at] = byte;
                if let Some(parsed) = Traceparent::parse(&text) {
                    assert_eq!(Traceparent::parse(&parsed.encode()), Some(parsed));
                    assert!(byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-'), "{at} {byte}");
                }
            }
        }
    }

    #[test]
    fn writes_version_00_and_known_flags_only() {
        let later = parse("cc-12345678901234567890123456789012-1234567890123456-03-more");
        assert_eq!(
            later.map(|parsed| parsed.encode()),
            Some(*b"00-12345678901234567890123456789012-1234567890123456-03")
        );
        let parsed = Traceparent { trace_id: 1.into(), span_id: 0xab.into(), flags: TraceFlags::new(0xff) };
        assert_eq!(&parsed.encode(), b"00-00000000000000000000000000000001-00000000000000ab-03");
    }
}
