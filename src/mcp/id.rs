//! JSON-RPC request identifiers: typed, compared by value, and kept in a compact owned form while a
//! request is pending.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::text::Text;

/// Longest identifier that can be kept, in bytes. The peer chooses identifiers, and a table of
/// pending requests must not grow by what it chooses; real ones are counters or UUIDs.
pub const MAX_ID_BYTES: usize = 1024;

/// Longest identifier kept without an allocation, in bytes; a UUID takes 36.
const INLINE_BYTES: usize = 45;

/// The `id` of a request or of its answer (JSON-RPC 2.0, section 4; MCP allows strings and
/// numbers).
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    /// A number, as the text that stands in the body.
    Number(&'a str),
    /// A string.
    String(Text<'a>),
}

impl Id<'_> {
    /// Whether both identify the same request. The type counts: number `1` is not string `"1"`. The
    /// spelling does not: `1.0` is `1`, and `"\u0061"` is `"a"`.
    pub fn same(&self, other: &Id<'_>) -> bool {
        match (self, other) {
            (Id::Number(one), Id::Number(two)) => {
                one == two || integer(one).is_some_and(|n| integer(two) == Some(n))
            }
            (Id::String(one), Id::String(two)) => one.same(two),
            _ => false,
        }
    }
}

/// The value without quotes, as the attribute `jsonrpc.request.id` wants it.
impl fmt::Display for Id<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(raw) => formatter.write_str(raw),
            Id::String(text) => text.fmt(formatter),
        }
    }
}

/// An identifier that outlives the body it came from. Two are equal exactly when [`Id::same`] says
/// so of what they were made from, and then their hashes are equal too.
#[derive(Clone)]
pub struct OwnedId(Repr);

#[derive(Clone)]
enum Repr {
    Inline { number: bool, length: u8, bytes: [u8; INLINE_BYTES] },
    Boxed { number: bool, text: Box<str> },
}

impl OwnedId {
    /// Keeps an identifier; `None` if it is longer than [`MAX_ID_BYTES`]. Allocates above 45 bytes
    /// only.
    pub fn new(id: &Id<'_>) -> Option<Self> {
        match id {
            Id::Number(raw) if spelled_as_float(raw) => match integer(raw) {
                Some(integer) => Self::keep(true, &integer.to_string()),
                None => Self::keep(true, raw),
            },
            Id::Number(raw) => Self::keep(true, raw),
            Id::String(text) if text.raw().len() > 6 * MAX_ID_BYTES => None,
            Id::String(text) => Self::keep(false, &text.decode()),
        }
    }

    /// Whether `id` identifies the same request.
    pub fn matches(&self, id: &Id<'_>) -> bool {
        match id {
            Id::String(text) => !self.is_number() && text.eq_str(self.as_str()),
            Id::Number(_) => self.is_number() && id.same(&Id::Number(self.as_str())),
        }
    }

    /// Whether it was a JSON number.
    pub fn is_number(&self) -> bool {
        match self.0 {
            Repr::Inline { number, .. } | Repr::Boxed { number, .. } => number,
        }
    }

    /// The value without quotes.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Inline { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Repr::Boxed { text, .. } => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes, .. } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Repr::Boxed { text, .. } => text.as_bytes(),
        }
    }

    fn keep(number: bool, text: &str) -> Option<Self> {
        let mut bytes = [0; INLINE_BYTES];
        if let (Some(inline), Ok(length)) = (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            inline.copy_from_slice(text.as_bytes());
            return Some(Self(Repr::Inline { number, length, bytes }));
        }
        (text.len() <= MAX_ID_BYTES).then(|| Self(Repr::Boxed { number, text: text.into() }))
    }
}

impl PartialEq for OwnedId {
    fn eq(&self, other: &Self) -> bool {
        self.is_number() == other.is_number() && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for OwnedId {}

impl Hash for OwnedId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_number().hash(state);
        self.as_bytes().hash(state);
    }
}

/// The value without quotes, as the attribute `jsonrpc.request.id` wants it.
impl fmt::Display for OwnedId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for OwnedId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_number() {
            formatter.write_str(self.as_str())
        } else {
            write!(formatter, "{:?}", self.as_str())
        }
    }
}

fn spelled_as_float(raw: &str) -> bool {
    raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// The integer that a number stands for, where a 64-bit float still tells integers apart: a peer
/// whose language has no integers may send `7` back as `7.0`.
fn integer(raw: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !spelled_as_float(raw) {
        return raw.parse().ok();
    }
    let value: f64 = raw.parse().ok()?;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn text(raw: &str) -> Id<'_> {
        Id::String(Text::new(raw, raw.contains('\\')))
    }

    #[test]
    fn identifiers_are_compared_by_type_and_value() {
        let long = "x".repeat(INLINE_BYTES + 1);
        let groups: [&[Id<'_>]; 9] = [
            &[Id::Number("1"), Id::Number("1.0"), Id::Number("1e0"), Id::Number("10E-1")],
            &[text("1"), text(r"\u0031")],
            &[Id::Number("-1")],
            &[Id::Number("0"), Id::Number("0.0")],
            &[Id::Number("1.5")],
            &[Id::Number("9007199254740993")],
            &[Id::Number("9007199254740992"), Id::Number("9007199254740992.0")],
            &[Id::Number("123456789012345678901234567890")],
            &[text(&long)],
        ];
        let all: Vec<(usize, Id<'_>)> = groups
            .iter()
            .enumerate()
            .flat_map(|(group, ids)| ids.iter().map(move |id| (group, *id)))
            .collect();
        for (one, id) in &all {
            let owned = OwnedId::new(id).unwrap();
            for (two, other) in &all {
                assert_eq!(id.same(other), one == two, "{id} {other}");
                assert_eq!(owned.matches(other), one == two, "{id} {other}");
                assert_eq!(owned == OwnedId::new(other).unwrap(), one == two, "{id} {other}");
            }
        }
        let distinct: HashSet<OwnedId> = all.iter().filter_map(|(_, id)| OwnedId::new(id)).collect();
        assert_eq!(distinct.len(), groups.len());
    }

    #[test]
    fn both_lengths_around_the_inline_limit_are_kept_whole() {
        for length in [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, MAX_ID_BYTES] {
            let value = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let owned = OwnedId::new(&text(&value)).unwrap();
            assert_eq!(owned.to_string(), value);
            assert_eq!(format!("{owned:?}"), format!("{value:?}"));
        }
        assert!(size_of::<OwnedId>() <= 48);
    }

    #[test]
    fn an_identifier_over_the_limit_is_not_kept() {
        assert!(OwnedId::new(&text(&"x".repeat(MAX_ID_BYTES + 1))).is_none());
        assert!(OwnedId::new(&text(&r"\u0041".repeat(MAX_ID_BYTES + 1))).is_none());
        assert!(OwnedId::new(&text(&r"\u0041".repeat(MAX_ID_BYTES))).is_some());
        assert!(OwnedId::new(&Id::Number(&"1".repeat(MAX_ID_BYTES + 1))).is_none());
    }
}
