//! Values that tell requests apart: long words with digits in them, such as
//! identifiers, found in the arguments of requests and in what calls say. The
//! bytes are those of the network, and may be anything.

use std::ops::RangeInclusive;

/// Arguments up to this long are looked at when their request begins, which
/// takes less than keeping them for later. In bytes.
const SHORT_BYTES: usize = 256;

/// The shortest and the longest value, in bytes: what is longer is content.
pub const VALUE_BYTES: RangeInclusive<usize> = 16..=128;

/// The fewest digits in a value: names of things have none.
pub const MIN_DIGITS: usize = 4;

/// Whether these arguments may hold a value, so that they are worth keeping
/// for as long as the request is in flight.
pub fn may_tell(arguments: &[u8]) -> bool {
    let mut found = false;
    if arguments.len() <= SHORT_BYTES {
        for_each_value(arguments, |_| {
            found = true;
            false
        });
        return found;
    }
    true
}

/// Hands over the values in a text until `accept` has enough. A run of word
/// characters that is long enough covers one place in sixteen, so only those
/// are looked at until one is found.
pub fn for_each_value<'t>(text: &'t [u8], mut accept: impl FnMut(&'t [u8]) -> bool) {
    let shortest = *VALUE_BYTES.start();
    let mut at = shortest - 1;
    while let Some(byte) = text.get(at) {
        if !is_word(byte) {
            at += shortest;
            continue;
        }
        let before = text[..at].iter().rev().take_while(|byte| is_word(byte)).count();
        let after = text[at..].iter().take_while(|byte| is_word(byte)).count();
        let value = &text[at - before..at + after];
        if is_value(value) && !accept(value) {
            return;
        }
        at += after + shortest;
    }
}

fn is_word(byte: &u8) -> bool {
    WORD[usize::from(*byte)]
}

/// Which bytes belong to words.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        byte += 1;
    }
    table
};

fn is_value(word: &[u8]) -> bool {
    VALUE_BYTES.contains(&word.len())
        && word.iter().filter(|byte| byte.is_ascii_digit()).count() >= MIN_DIGITS
}

/// Looks for values in arbitrary bytes as is done here and plainly, word by
/// word. For the fuzz target and the mutation test.
///
/// # Panics
/// When the two differ.
pub fn check(bytes: &[u8]) {
    let mut found = Vec::new();
    for_each_value(bytes, |value| {
        found.push(value);
        true
    });
    let plain: Vec<_> = bytes.split(|byte| !is_word(byte)).filter(|word| is_value(word)).collect();
    assert_eq!(found, plain, "other values than a plain search finds");
    assert!(may_tell(bytes) || (found.is_empty() && bytes.len() <= SHORT_BYTES), "told and not kept");
    let mut first = None;
    for_each_value(bytes, |value| {
        assert!(first.is_none(), "went on although it had enough");
        first = Some(value);
        false
    });
    assert_eq!(first, found.first().copied());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;

    fn found(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        for_each_value(text.as_bytes(), |value| {
            all.push(String::from_utf8_lossy(value).into_owned());
            true
        });
        all
    }

    const ID: &str = "3f2a9c41-77de-4b1a-9a55-0c1d2e3f4a5b";

    #[test]
    fn values_are_long_words_with_digits() {
        for text in [
            ID.to_owned(),
            format!("{{\"order\":\"{ID}\"}}"),
            format!("please look up {ID}, thank you very much indeed"),
            format!("/orders/{ID}/items?page=1"),
            format!("{}{ID}", " ".repeat(15)),
            format!("x {ID}"),
        ] {
            assert_eq!(found(&text), [ID], "{text}");
        }
        let none = [
            "",
            "{\"a\":1}",
            "{\"destination_airport_code\":\"FRA\"}",
            "2026-11-26T10:00:00.000Z",
            "1732630000.123456",
            "short-1234",
            &"1234567890".repeat(13),
        ];
        for text in none {
            assert_eq!(found(text), [""; 0], "{text}");
        }
        assert_eq!(found("order-00000001-a,order-00000002-b").len(), 2, "neighbours");
        assert_eq!(found("1234567890123456"), ["1234567890123456"]);
    }

    #[test]
    fn short_arguments_without_a_value_are_not_kept() {
        assert!(may_tell(ID.as_bytes()) && !may_tell(b"{\"city\":\"Oslo\"}"));
        assert!(!may_tell(&[b' '; SHORT_BYTES]) && may_tell(&[b' '; SHORT_BYTES + 1]), "looked at later");
    }

    /// Texts of values, all but values, and what stands between them, cut and
    /// changed anywhere.
    #[test]
    fn no_mutation_hides_a_value() {
        let ids = Ids::seeded(14001, 2);
        let roll = |sides: usize| (ids.random() >> 64) as usize % sides;
        let longest = "1".repeat(*VALUE_BYTES.end());
        let (short, long) = (&longest[..*VALUE_BYTES.start() - 1], format!("{longest}1"));
        let parts: [&[u8]; 12] = [
            ID.as_bytes(),
            b"order-00000001-a",
            b"destination_airport_code",
            longest.as_bytes(),
            short.as_bytes(),
            long.as_bytes(),
            b"\",\"",
            b" ",
            b"\xc3\xa9",
            b"\0\xff",
            b"_-",
            b"7",
        ];
        for _ in 0..20_000 {
            let mut text: Vec<u8> = (0..roll(12)).flat_map(|_| parts[roll(parts.len())].to_vec()).collect();
            for _ in 0..roll(4) {
                let at = roll(text.len() + 1);
                match text.get_mut(at) {
                    Some(byte) => *byte = roll(256) as u8,
                    None => text.push(roll(256) as u8),
                }
            }
            text.truncate(text.len() - roll(text.len() / 4 + 1));
            check(&text);
        }
    }
}
