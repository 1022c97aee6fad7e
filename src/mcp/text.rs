//! A JSON string as it stands in the body: borrowed, and decoded only when somebody asks for it.

use std::borrow::Cow;
use std::fmt;

/// The inside of a JSON string that the scanner has accepted, without its quotes.
///
/// Every escape in it is known to be well formed. Unpaired surrogates are well formed by RFC 8259
/// and stand for no character; they decode to U+FFFD.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The characters between the quotes, escapes included, as they were sent.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Whether [`raw`](Self::raw) holds at least one escape, and so differs from the value it
    /// stands for.
    pub fn has_escapes(&self) -> bool {
        self.escaped
    }

    /// The value of the string. Borrows, unless there are escapes to resolve.
    pub fn decode(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut value = String::with_capacity(self.raw.len());
        self.pieces(|piece| {
            value.push_str(piece);
            true
        });
        Cow::Owned(value)
    }

    /// Whether the value of the string is `other`. Never allocates.
    pub fn eq_str(&self, other: &str) -> bool {
        if !self.escaped {
            return self.raw == other;
        }
        let mut rest = other;
        let matched = self.pieces(|piece| match rest.strip_prefix(piece) {
            Some(after) => {
                rest = after;
                true
            }
            None => false,
        });
        matched && rest.is_empty()
    }

    /// Whether both strings have the same value, however they were spelled. Never allocates.
    pub fn same(&self, other: &Text<'_>) -> bool {
        match (self.escaped, other.escaped) {
            (false, _) => other.eq_str(self.raw),
            (true, false) => self.eq_str(other.raw),
            (true, true) => *self.decode() == *other.decode(),
        }
    }

    /// Hands the value over in order, piece by piece, until `accept` refuses one; says whether all
    /// were accepted.
    fn pieces(&self, mut accept: impl FnMut(&str) -> bool) -> bool {
        let mut rest = self.raw;
        while let Some((plain, escape)) = rest.split_once('\\') {
            let (character, length) = unescape(escape);
            if !(plain.is_empty() || accept(plain)) || !accept(character.encode_utf8(&mut [0; 4])) {
                return false;
            }
            rest = escape.get(length..).unwrap_or_default();
        }
        rest.is_empty() || accept(rest)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut outcome = Ok(());
        self.pieces(|piece| {
            outcome = formatter.write_str(piece);
            outcome.is_ok()
        });
        outcome
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.raw)
    }
}

/// Reads the escape whose backslash has just been passed: the character, and how many bytes it
/// took.
fn unescape(escape: &str) -> (char, usize) {
    match escape.as_bytes().first() {
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{c}', 1),
        Some(b'n') => ('\n', 1),
        Some(b'r') => ('\r', 1),
        Some(b't') => ('\t', 1),
        Some(b'u') => unicode(escape),
        Some(&other) => (char::from(other), 1),
        None => (char::REPLACEMENT_CHARACTER, 0),
    }
}

/// `uXXXX`, or a surrogate pair `uXXXX\uXXXX`, which is one character.
fn unicode(escape: &str) -> (char, usize) {
    let Some(first) = hex(escape, 1) else {
        return (char::REPLACEMENT_CHARACTER, 1);
    };
    if let Some(character) = char::from_u32(first) {
        return (character, 5);
    }
    let second = match escape.get(5..7) {
        Some("\\u") => hex(escape, 7),
        _ => None,
    };
    if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, second) {
        let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::REPLACEMENT_CHARACTER, 5)
}

fn hex(escape: &str, at: usize) -> Option<u32> {
    u32::from_str_radix(escape.get(at..at + 4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_decode_as_rfc_8259_says() {
        for (raw, value) in [
            (r#"plain"#, "plain"),
            (r#"t\u006fols\/call"#, "tools/call"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#"\ud83d\ude00!"#, "\u{1f600}!"),
            (r#"\ud83d"#, "\u{fffd}"),
            (r#"\ud83dx"#, "\u{fffd}x"),
            (r#"\ud83d\u0041"#, "\u{fffd}A"),
            (r#"\ud83d\n"#, "\u{fffd}\n"),
            (r#"\ude00\ud83d"#, "\u{fffd}\u{fffd}"),
            (r#"\u0000é\u00e9"#, "\0éé"),
            (r#""#, ""),
        ] {
            let text = Text::new(raw, raw.contains('\\'));
            assert_eq!(text.decode(), value, "{raw}");
            assert!(text.eq_str(value), "{raw}");
            assert!(!text.eq_str(&format!("{value}x")), "{raw}");
            assert!(!text.eq_str("other"), "{raw}");
            assert_eq!(text.to_string(), value);
            assert!(text.same(&Text::new(raw, text.has_escapes())));
        }
    }

    #[test]
    fn spelling_does_not_matter_for_sameness() {
        let plain = Text::new("abc", false);
        let spelled = Text::new(r"a\u0062c", true);
        assert!(plain.same(&spelled) && spelled.same(&plain));
        assert!(!plain.same(&Text::new(r"a\u0062", true)));
    }

    #[test]
    fn a_malformed_escape_cannot_panic() {
        for raw in ["\\", "\\u", "\\u12", "\\uzzzz", "\\ud800\\u", "\\ué", "a\\ué€"] {
            Text::new(raw, true).decode();
        }
    }
}
