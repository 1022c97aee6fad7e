//! JSON-RPC batches (JSON-RPC 2.0, section 6; MCP 2025-03-26): an array of messages, taken apart
//! without reading them.

use std::ops::Range;

use super::message::Doubt;
use super::scan::Scanner;

/// Finds the elements of the array that `body` is: their places, in order. What they are is left to
/// [`parse`](super::message::parse).
///
/// # Errors
///
/// A [`Doubt`] where the body is not one array of at least one and at most `most` elements, each an
/// object, and nothing else; the bytes are then best passed on untouched.
pub fn elements(body: &[u8], most: usize) -> Result<Vec<Range<usize>>, Doubt> {
    let text = std::str::from_utf8(body).map_err(|_| Doubt::NotUtf8)?;
    let mut scanner = Scanner::new(text);
    if scanner.space() != b'[' || !scanner.pass(b"[") {
        return Err(Doubt::NotObject);
    }
    let mut elements = Vec::new();
    loop {
        if scanner.space() != b'{' || elements.len() == most {
            return Err(Doubt::BadShape);
        }
        let start = scanner.at();
        scanner.skip()?;
        elements.push(start..scanner.at());
        match scanner.space() {
            b',' => scanner.pass(b","),
            b']' => break,
            _ => return Err(Doubt::NotJson),
        };
    }
    scanner.pass(b"]");
    if scanner.is_done() { Ok(elements) } else { Err(Doubt::NotJson) }
}

/// Shows each element, and gives the batch with those in their places that `edit` answers with;
/// `None` where it answers none.
pub fn edit(
    body: &[u8],
    elements: Vec<Range<usize>>,
    mut edit: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (mut out, mut done) = (Vec::new(), 0);
    for element in elements {
        if let Some(new) = edit(body.get(element.clone())?) {
            out.extend_from_slice(body.get(done..element.start)?);
            out.extend_from_slice(&new);
            done = element.end;
        }
    }
    if done == 0 {
        return None;
    }
    out.extend_from_slice(body.get(done..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Result<Vec<&str>, Doubt> {
        elements(body.as_bytes(), 3).map(|ranges| ranges.into_iter().map(|range| &body[range]).collect())
    }

    #[test]
    fn elements_are_found_where_they_stand() {
        assert_eq!(
            texts(r#" [ {"a":"]"} ,{},{"b":[{}]}] "#).unwrap(),
            [r#"{"a":"]"}"#, "{}", r#"{"b":[{}]}"#]
        );
    }

    #[test]
    fn whatever_else_is_left_alone() {
        for body in
            ["", "{}", "[]", "[1]", "[{}", "[{},]", "[{}]x", "[{} {}]", "[[]]", "[{},{},{},{}]", "[{]"]
        {
            assert!(texts(body).is_err(), "{body}");
        }
        assert_eq!(elements(b"[{\"\xff\":1}]", 3), Err(Doubt::NotUtf8));
    }
}
