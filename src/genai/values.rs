//! Readers of single values. What has another type than expected is passed and counts as absent.

use crate::mcp::keys::Keys;
use crate::mcp::message::{Doubt, Text};
use crate::mcp::scan::{Member, Scanner};

pub(super) type Reader<'a> = Scanner<'a, &'a [u8]>;
pub(super) type Outcome = Result<(), Doubt>;

/// Reads an object member by member.
pub(super) fn object<'a, K: Keys>(
    scanner: &mut Reader<'a>,
    mut visit: impl FnMut(&mut Reader<'a>, K) -> Outcome,
) -> Outcome {
    if scanner.peek() != b'{' {
        return scanner.skip();
    }
    scanner.members(|scanner, member: Member<K>| visit(scanner, member.key)).map(drop)
}

/// Reads an array element by element.
pub(super) fn each<'a>(
    scanner: &mut Reader<'a>,
    mut visit: impl FnMut(&mut Reader<'a>) -> Outcome,
) -> Outcome {
    if !scanner.pass(b"[") {
        return scanner.skip();
    }
    if scanner.space() == b']' {
        scanner.pass(b"]");
        return Ok(());
    }
    loop {
        visit(scanner)?;
        match scanner.space() {
            b',' => scanner.pass(b","),
            b']' if scanner.pass(b"]") => return Ok(()),
            _ => return Err(Doubt::NotJson),
        };
        scanner.space();
    }
}

pub(super) fn text<'a>(scanner: &mut Reader<'a>) -> Result<Option<Text<'a>>, Doubt> {
    if scanner.peek() == b'"' { scanner.string() } else { scanner.skip().map(|()| None) }
}

/// Reads a whole number.
pub(super) fn count(scanner: &mut Reader<'_>) -> Result<Option<i64>, Doubt> {
    number(scanner).map(|raw| raw?.parse().ok())
}

/// Reads a number of any kind.
pub(super) fn quantity(scanner: &mut Reader<'_>) -> Result<Option<f64>, Doubt> {
    number(scanner).map(|raw| raw?.parse().ok().filter(|value: &f64| value.is_finite()))
}

/// Reads a truth value; anything else is false.
pub(super) fn truth(scanner: &mut Reader<'_>) -> Result<bool, Doubt> {
    let truth = scanner.peek() == b't';
    scanner.skip().map(|()| truth)
}

fn number<'a>(scanner: &mut Reader<'a>) -> Result<Option<&'a str>, Doubt> {
    match scanner.number()? {
        None => scanner.skip().map(|()| None),
        raw => Ok(raw),
    }
}
