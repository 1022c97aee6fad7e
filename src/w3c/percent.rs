//! Percent-encoding as W3C Baggage uses it (RFC 3986 section 2.1 over UTF-8).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a byte may stand in a value: printable ASCII but for space, quote, comma, semicolon and
/// backslash.
pub(super) fn is_octet(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~')
}

/// Appends a text, escaping every byte that may not stand for itself.
pub(super) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if is_octet(byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Undoes the encoding. Bytes that are not UTF-8 become U+FFFD, and a `%` that no two hexadecimal
/// digits follow stays. Borrows where there is nothing to undo.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = if *first == b'%' { tail.first_chunk::<2>().and_then(escaped_byte) } else { None };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    match String::from_utf8(decoded) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The byte that two hexadecimal digits of either case stand for.
fn escaped_byte([high, low]: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        for (text, wanted) in [
            ("", ""),
            ("alice", "alice"),
            ("DF%2028", "DF 28"),
            ("Am%C3%A9lie", "Am\u{e9}lie"),
            ("Am%c3%a9lie", "Am\u{e9}lie"),
            ("a%2Cb%3Bc%25", "a,b;c%"),
            ("%zz%1", "%zz%1"),
            ("%+1%-1", "%+1%-1"),
            ("%", "%"),
            ("%%41", "%A"),
            ("%2541", "%41"),
            ("%C3", "\u{fffd}"),
            ("a%FFb%C3%28", "a\u{fffd}b\u{fffd}("),
        ] {
            assert_eq!(decode(text), wanted, "{text}");
            assert_eq!(matches!(decode(text), Cow::Borrowed(_)), !text.contains('%'), "{text}");
        }
    }

    #[test]
    fn encodes_what_may_not_stand_for_itself() {
        for (text, wanted) in [
            ("", ""),
            ("az09!#&'()*+-./:<=>?@[]^_`{|}~", "az09!#&'()*+-./:<=>?@[]^_`{|}~"),
            ("100%", "100%25"),
            (" \t\n\0\u{7f}", "%20%09%0A%00%7F"),
            (",;\"\\", "%2C%3B%22%5C"),
            ("\u{e9}\u{1f600}", "%C3%A9%F0%9F%98%80"),
        ] {
            let mut out = String::new();
            encode(text, &mut out);
            assert_eq!(out, wanted);
            assert_eq!(decode(&out), text);
        }
    }
}
