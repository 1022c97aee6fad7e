//! Readers of single values, for what is no message of MCP. What has another type than expected is
//! passed and counts as absent.

use super::keys::Keys;
use super::message::{Doubt, Text};
use super::scan::{Member, Scanner};

/// A scanner of bytes of which only what is handed out has to be text.
pub(crate) type Reader<'a> = Scanner<'a, &'a [u8]>;
/// Whether something could be read.
pub(crate) type Outcome = Result<(), Doubt>;

/// Reads an object member by member.
pub(crate) fn object<'a, K: Keys>(
    scanner: &mut Reader<'a>,
    mut visit: impl FnMut(&mut Reader<'a>, K) -> Outcome,
) -> Outcome {
    if scanner.peek() != b'{' {
        return scanner.skip();
    }
    scanner.members(|scanner, member: Member<K>| visit(scanner, member.key)).map(drop)
}

/// Reads an array element by element.
pub(crate) fn each<'a>(
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

/// Reads a text.
pub(crate) fn text<'a>(scanner: &mut Reader<'a>) -> Result<Option<Text<'a>>, Doubt> {
    if scanner.peek() == b'"' { scanner.string() } else { scanner.skip().map(|()| None) }
}

/// Reads a whole number.
pub(crate) fn count(scanner: &mut Reader<'_>) -> Result<Option<i64>, Doubt> {
    number(scanner).map(|raw| raw?.parse().ok())
}

/// Reads a number of any kind.
pub(crate) fn quantity(scanner: &mut Reader<'_>) -> Result<Option<f64>, Doubt> {
    number(scanner).map(|raw| raw?.parse().ok().filter(|value: &f64| value.is_finite()))
}

/// Reads a truth value; anything else is false.
pub(crate) fn truth(scanner: &mut Reader<'_>) -> Result<bool, Doubt> {
    let truth = scanner.peek() == b't';
    scanner.skip().map(|()| truth)
}

fn number<'a>(scanner: &mut Reader<'a>) -> Result<Option<&'a str>, Doubt> {
    match scanner.number()? {
        None => scanner.skip().map(|()| None),
        raw => Ok(raw),
    }
}
