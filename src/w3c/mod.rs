//! Codecs for the headers that carry trace context: W3C `traceparent`, `tracestate` and `baggage`,
//! the OpenTelemetry member of `tracestate`, and Zipkin's B3.
//!
//! Everything here is a pure function over bytes that came from a peer. A value is either read to
//! the letter of its grammar or refused; no input panics, and what is kept of other vendors' data
//! is kept byte for byte. The HTTP side (finding headers, refusing two `traceparent` headers,
//! trimming) belongs to the callers, because the same values also travel in the `_meta` object of
//! an MCP message.

pub mod b3;
pub mod baggage;
mod fuzz;
pub mod ot;
mod percent;
pub mod traceparent;
pub mod tracestate;

#[doc(hidden)]
pub use fuzz::fuzz_w3c;

/// Removes the optional whitespace (space and tab, RFC 9110 section 5.6.3) around a header value or
/// a list member.
#[must_use]
pub fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Reads 1 to 16 lower-case hexadecimal digits; anything else is `None`.
fn read_hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut seen = 0;
    for digit in digits {
        let nibble = NIBBLE[usize::from(*digit)];
        seen |= nibble;
        value = (value << 4) | u64::from(nibble & 0x0f);
    }
    (matches!(digits.len(), 1..=16) && seen != NOT_HEX).then_some(value)
}

/// Reads exactly 32 lower-case hexadecimal digits.
fn read_hex_128(digits: &[u8]) -> Option<u128> {
    let (high, low) = digits.split_at_checked(16)?;
    if low.len() != 16 {
        return None;
    }
    Some((u128::from(read_hex(high)?) << 64) | u128::from(read_hex(low)?))
}

/// Writes each byte as two lower-case hexadecimal digits, for as many bytes as `out` has room.
pub fn encode_hex(bytes: &[u8], out: &mut [u8]) {
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    table
};

/// What [`NIBBLE`] holds for a byte that is no lower-case hexadecimal digit. All of its bits are
/// set, so that one OR over a whole field tells whether any digit was bad.
const NOT_HEX: u8 = 0xff;

/// The value of each lower-case hexadecimal digit.
const NIBBLE: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_only_spaces_and_tabs() {
        for (given, wanted) in [("", ""), (" \t ", ""), (" a\t", "a"), ("a b", "a b"), ("\na\r", "\na\r")] {
            assert_eq!(trim_ows(given.as_bytes()), wanted.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn reads_lower_case_hex_only() {
        assert_eq!(read_hex(b"00ff"), Some(255));
        assert_eq!(read_hex(b"ffffffffffffffff"), Some(u64::MAX));
        for bad in ["", "+1", "0x1", "F", "g", "1 ", "00000000000000001"] {
            assert_eq!(read_hex(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(read_hex_128(b"000000000000000100000000000000ff"), Some((1 << 64) | 255));
        assert_eq!(read_hex_128(b"00000000000000010000000000000ff"), None);
        assert_eq!(read_hex_128(b"000000000000000100000000000000ff0"), None);
        assert_eq!(read_hex_128(b"12"), None);
    }

    #[test]
    fn every_byte_is_a_digit_or_not() {
        for byte in 0..=u8::MAX {
            let wanted = match byte {
                b'0'..=b'9' | b'a'..=b'f' => char::from(byte).to_digit(16).map(u64::from),
                _ => None,
            };
            assert_eq!(read_hex(&[byte]), wanted, "{byte}");
        }
    }
}
