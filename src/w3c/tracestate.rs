//! The `tracestate` value: an ordered list of what each tracing system wants to find again (W3C
//! Trace Context Level 2, section "Tracestate Header").
//!
//! Members of other systems pass through byte for byte and in order. Only [`compose`] writes, and
//! the only things it changes are the members of our own, which go to the left.

use std::sync::Arc;

use super::trim_ows;

mod compose;

pub use compose::compose;

/// The most members that a list may have.
pub const MAX_MEMBERS: usize = 32;

/// The longest list that [`compose`] writes, in bytes. It is the length that every system is asked
/// to pass on; what is beyond it may be lost at any later hop, so we shorten by the specified rules
/// instead of leaving that to chance.
pub const MAX_BYTES: usize = 512;

/// A member longer than this many bytes is the first to go when a list has to be shortened.
pub const LARGE_MEMBER_BYTES: usize = 128;

/// The most bytes in a key, and the most bytes in a value.
const MAX_PART_BYTES: usize = 256;

/// A valid, non-empty list of members with distinct keys, joined by single commas. Cloning shares
/// the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tracestate {
    text: Arc<str>,
}

impl Tracestate {
    /// Reads the values of all `tracestate` headers, in the order in which they came, as one list.
    ///
    /// Empty members and whitespace around members are dropped, as both are allowed on the way in.
    /// Of several members with one key the first is kept: it is the most recent one, and the
    /// specification lets duplicates be discarded but does not make them an error. A member outside
    /// the grammar or a 33rd member spoils the whole list, because nobody can tell what else in it
    /// is wrong. `None` means that there is nothing to pass on; the `traceparent` that came along
    /// stays valid.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut joined = Joined::default();
        let mut only_value = None;
        for (index, value) in values.into_iter().enumerate() {
            only_value = (index == 0).then_some(value);
            for member in value.split(|byte| *byte == b',') {
                joined.push(trim_ows(member))?;
            }
        }
        if joined.kept == 0 {
            return None;
        }
        // Nearly always there is one header in which nothing had to be dropped, and one copy of it
        // is all we need.
        let text = match only_value {
            Some(value) if value.len() == joined.bytes() => Arc::from(std::str::from_utf8(value).ok()?),
            _ => Arc::from(String::from_utf8(joined.to_vec()).ok()?),
        };
        Some(Self { text })
    }

    /// The whole list as it goes into one header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value of one member.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Keys and values from left (the most recent) to right.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split(',').filter_map(|member| member.split_once('='))
    }

    /// The same as bytes, for the writer: on members this short a plain loop is faster than a
    /// search in a string.
    fn members_as_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let members = self.text.as_bytes().split(|byte| *byte == b',');
        members.filter_map(split_member)
    }
}

/// Members while they are collected from headers. The arrays live on the stack.
#[derive(Default)]
struct Joined<'a> {
    members: [(&'a [u8], &'a [u8]); MAX_MEMBERS],
    kept: usize,
    seen: usize,
    member_bytes: usize,
}

impl<'a> Joined<'a> {
    /// Takes the next trimmed member. `None` means that the list is not valid.
    fn push(&mut self, member: &'a [u8]) -> Option<()> {
        if member.is_empty() {
            return Some(());
        }
        self.seen += 1;
        if self.seen > MAX_MEMBERS {
            return None;
        }
        let (key, value) = split_member(member)?;
        if !valid_key(key) || !valid_value(value) {
            return None;
        }
        if !self.members[..self.kept].iter().any(|(other, _)| *other == key) {
            self.members[self.kept] = (key, member);
            self.kept += 1;
            self.member_bytes += member.len();
        }
        Some(())
    }

    /// The length of the joined list with its commas.
    fn bytes(&self) -> usize {
        self.member_bytes + self.kept.saturating_sub(1)
    }

    fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        for (index, (_, member)) in self.members[..self.kept].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(member);
        }
        out
    }
}

/// Splits a member at its first `=`; a valid value has no other.
fn split_member(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = member.iter().position(|byte| *byte == b'=')?;
    Some((&member[..equals], &member[equals + 1..]))
}

/// Whether the bytes are a key of Level 2, which lets a key begin with a digit and puts no limits
/// around `@`.
fn valid_key(key: &[u8]) -> bool {
    key.len() <= MAX_PART_BYTES
        && matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && key.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// Whether the bytes are a value: printable ASCII that does not end in a space. Leading spaces are
/// part of a value.
fn valid_value(value: &[u8]) -> bool {
    value.len() <= MAX_PART_BYTES
        && value.last().is_some_and(|byte| *byte != b' ')
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<String> {
        let values = values.iter().map(|value| value.as_bytes());
        Tracestate::parse(values).map(|list| list.as_str().to_owned())
    }

    fn numbered(from: usize, to: usize) -> String {
        (from..=to).map(|index| format!("bar{index:02}={index:02}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn joins_headers_and_drops_only_what_is_empty() {
        for (values, wanted) in [
            (&["foo=1,bar=2"][..], "foo=1,bar=2"),
            (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3"),
            (&["foo=1", ""], "foo=1"),
            (&["", "foo=1"], "foo=1"),
            (&["foo=1,,bar=2,", " \t "], "foo=1,bar=2"),
            (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
            (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
            (&[" foo=1"], "foo=1"),
            (&["\tfoo=1"], "foo=1"),
            (&["foo=1 "], "foo=1"),
            (&["foo=1\t"], "foo=1"),
            (&["\t foo=1 \t"], "foo=1"),
            // Leading spaces belong to the value, trailing ones do not.
            (&["foo=  1 2  ,bar=2"], "foo=  1 2,bar=2"),
            // Same length as the input, but not the same text.
            (&["a=1", "b=2"], "a=1,b=2"),
        ] {
            assert_eq!(parse(values).as_deref(), Some(wanted), "{values:?}");
        }
    }

    #[test]
    fn nothing_to_pass_on_is_none() {
        for values in [&[][..], &[""], &["", ""], &[",, ,\t"]] {
            assert_eq!(parse(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_first_of_several_namesakes_stays() {
        for (values, wanted) in [
            (&["foo=1,foo=1"][..], "foo=1"),
            (&["foo=1,foo=2"], "foo=1"),
            (&["foo=1", "foo=2"], "foo=1"),
            (&["foo=1,bar=2", "foo=2,baz=3,bar=4"], "foo=1,bar=2,baz=3"),
        ] {
            assert_eq!(parse(values).as_deref(), Some(wanted), "{values:?}");
        }
    }

    #[test]
    fn one_bad_member_spoils_the_list() {
        for bad in [
            "foo",
            "=",
            "=1",
            "foo=",
            "foo= ",
            "foo =1",
            "FOO=1",
            "fOo=1",
            "foo.bar=1",
            "@foo=1",
            "_foo=1",
            "-foo=1",
            "*foo=1",
            "/foo=1",
            "foo=bar=baz",
            "foo==",
            "foo=a\tb",
            "foo=a\u{7f}",
            "foo=\u{e9}",
            "f\u{e9}=1",
            "foo=1;bar\r\n",
            "foo;a=",
        ] {
            assert_eq!(parse(&[bad]), None, "{bad:?}");
            assert_eq!(parse(&["ok=1", bad]), None, "{bad:?}");
            assert_eq!(parse(&[&format!("{bad},ok=1")]), None, "{bad:?}");
        }
        assert_eq!(Tracestate::parse([&b"foo=\xff"[..]]), None);
    }

    #[test]
    fn all_allowed_bytes_pass() {
        let value = (0x20..=0x7e_u8).map(char::from).filter(|byte| !",=".contains(*byte)).collect::<String>();
        for key in [
            "abcdefghijklmnopqrstuvwxyz0123456789_-*/",
            "0",
            "9@",
            "foo@",
            "foo@@bar",
            "foo@bar@baz",
            "a@a-z0-9_-*/",
        ] {
            let text = format!("{key}={value}");
            let list = Tracestate::parse([text.as_bytes()]).unwrap();
            assert_eq!(list.as_str(), text);
            assert_eq!(list.get(key), Some(value.as_str()));
        }
    }

    #[test]
    fn keys_and_values_have_256_bytes_at_most() {
        let (most, more) = ("z".repeat(256), "z".repeat(257));
        assert!(parse(&["foo=1", &format!("{most}=1")]).is_some());
        assert!(parse(&["foo=1", &format!("{more}=1")]).is_none());
        assert!(parse(&[&format!("foo={most}")]).is_some());
        assert!(parse(&[&format!("foo={more}")]).is_none());
        for key in [
            format!("{}@{}", "t".repeat(241), "v".repeat(14)),
            format!("{}@v", "t".repeat(242)),
            "t@vvvvvvvvvvvvvvv".into(),
        ] {
            assert!(parse(&["foo=1", &format!("{key}=1")]).is_some(), "{key}");
        }
    }

    #[test]
    fn lists_have_32_members_at_most() {
        let full = parse(&[&numbered(1, 10), &numbered(11, 20), &numbered(21, 32)]);
        assert_eq!(full.as_deref(), Some(numbered(1, 32).as_str()));
        assert_eq!(parse(&[&numbered(1, 10), &numbered(11, 20), &numbered(21, 33)]), None);
        // Duplicates are members as well, empty members are not.
        assert_eq!(parse(&[&numbered(1, 32), "bar01=1"]), None);
        assert_eq!(parse(&[&numbered(1, 32), ",,,"]), full);
    }

    #[test]
    fn finds_members() {
        let list = Tracestate::parse([&b"a=1,ab=2, c=3"[..]]).unwrap();
        assert_eq!(list.members().collect::<Vec<_>>(), [("a", "1"), ("ab", "2"), ("c", "3")]);
        assert_eq!((list.get("ab"), list.get("b"), list.get("")), (Some("2"), None, None));
    }
}
