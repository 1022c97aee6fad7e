//! Writing a `tracestate` list: members of our own on the left, the received ones behind them,
//! whole members only, within the limits of the W3C text.

use super::{LARGE_MEMBER_BYTES, MAX_BYTES, MAX_MEMBERS, Tracestate, valid_key, valid_value};

/// Appends to `out` the list to send: our `own` members from the left in the given order, then the
/// members of `rest` that have other keys.
///
/// An own member with an empty value is not written and still takes the place of its namesake in
/// `rest`: that is how a member is erased. An own member that the grammar does not allow, or that
/// repeats a key, is ignored.
///
/// Only whole members are written, 32 at most, the right-most being left out. When more than
/// [`MAX_BYTES`] would be written, members above [`LARGE_MEMBER_BYTES`] are left out one by one
/// from the right, and then, if that is not enough, any members from the right, as the W3C text
/// orders. Nothing is written when nothing is left.
pub fn compose(own: &[(&str, &str)], rest: Option<&Tracestate>, out: &mut Vec<u8>) {
    let mut list = Outgoing::default();
    for (key, value) in own {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        if valid_key(key) && valid_value(value) && !list.has(key) {
            list.push(key, value);
        }
    }
    for (key, value) in rest.into_iter().flat_map(Tracestate::members_as_bytes) {
        if !own.iter().any(|member| takes_place_of(member, key)) {
            list.push(key, value);
        }
    }
    list.shorten();
    list.write(out);
}

/// Whether an own member stands for, or erases, the member `key` of the received list.
fn takes_place_of((own_key, own_value): &(&str, &str), key: &[u8]) -> bool {
    own_key.as_bytes() == key && (own_value.is_empty() || valid_value(own_value.as_bytes()))
}

/// The key and the value of a member.
type Member<'a> = (&'a [u8], &'a [u8]);

/// Members while they are put together for sending. The array lives on the stack.
#[derive(Default)]
struct Outgoing<'a> {
    members: [Member<'a>; MAX_MEMBERS],
    count: usize,
    /// Every member with one comma, so one more than the list has when it is written.
    bytes: usize,
}

impl<'a> Outgoing<'a> {
    fn has(&self, key: &[u8]) -> bool {
        self.members().iter().any(|(other, _)| *other == key)
    }

    fn members(&self) -> &[Member<'a>] {
        &self.members[..self.count]
    }

    /// Adds a member on the right, unless the list is full.
    fn push(&mut self, key: &'a [u8], value: &'a [u8]) {
        if let Some(slot) = self.members.get_mut(self.count) {
            *slot = (key, value);
            self.count += 1;
            self.bytes += member_bytes(slot) + 1;
        }
    }

    fn shorten(&mut self) {
        while self.bytes > MAX_BYTES + 1 {
            let large = |member| member_bytes(member) > LARGE_MEMBER_BYTES;
            let right_most_large = self.members().iter().rposition(large);
            let Some(index) = right_most_large.or(self.count.checked_sub(1)) else {
                return;
            };
            self.bytes -= member_bytes(&self.members[index]) + 1;
            self.members.copy_within(index + 1..self.count, index);
            self.count -= 1;
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes);
        for (index, (key, value)) in self.members().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

/// The length of `key=value`.
fn member_bytes((key, value): &Member<'_>) -> usize {
    key.len() + 1 + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(own: &[(&str, &str)], rest: &str) -> String {
        let rest = Tracestate::parse([rest.as_bytes()]);
        let mut out = Vec::new();
        compose(own, rest.as_ref(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn numbered(from: usize, to: usize) -> String {
        (from..=to).map(|index| format!("bar{index:02}={index:02}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn own_members_go_left_and_replace_their_namesakes() {
        for (own, rest, wanted) in [
            (&[][..], "", ""),
            (&[], "a=1,b=2", "a=1,b=2"),
            (&[("mt", "x")], "", "mt=x"),
            (&[("mt", "x"), ("ot", "th:0")], "", "mt=x,ot=th:0"),
            (&[("mt", "x")], "a=1,b= 2", "mt=x,a=1,b= 2"),
            (&[("mt", "x")], "a=1,mt=old,b=2", "mt=x,a=1,b=2"),
            (&[("b", "x"), ("a", "y")], "a=1,b=2,ab=3", "b=x,a=y,ab=3"),
            // An empty value erases.
            (&[("ot", "")], "a=1,ot=th:c,b=2", "a=1,b=2"),
            (&[("ot", "")], "ot=th:c", ""),
            (&[("ot", ""), ("mt", "x")], "", "mt=x"),
            // What is not valid is ignored and erases nothing.
            (&[("a", "x,y"), ("b", "x "), ("C", "x"), ("", "x")], "a=1,b=2", "a=1,b=2"),
            (&[("a", "x"), ("a", "y")], "", "a=x"),
        ] {
            assert_eq!(composed(own, rest), wanted, "{own:?} {rest:?}");
        }
    }

    #[test]
    fn appends_to_what_is_there() {
        let mut out = b"tracestate: ".to_vec();
        compose(&[("a", "1")], None, &mut out);
        assert_eq!(out, b"tracestate: a=1");
        compose(&[], None, &mut out);
        assert_eq!(out, b"tracestate: a=1");
    }

    #[test]
    fn the_33rd_member_is_left_out() {
        assert_eq!(composed(&[("mt", "x")], &numbered(1, 32)), format!("mt=x,{}", numbered(1, 31)));
        assert_eq!(composed(&[("bar32", "x")], &numbered(1, 32)), format!("bar32=x,{}", numbered(1, 31)));
        let own = (0..40).map(|index| format!("own{index}")).collect::<Vec<_>>();
        let own = own.iter().map(|key| (key.as_str(), "1")).collect::<Vec<_>>();
        assert_eq!(composed(&own, "a=1").split(',').count(), MAX_MEMBERS);
    }

    /// A member of exactly `bytes` bytes.
    fn member(key: &str, bytes: usize) -> String {
        format!("{key}={}", "v".repeat(bytes - key.len() - 1))
    }

    #[test]
    fn exactly_512_bytes_pass_and_one_more_does_not() {
        let parts = [member("a", 128), member("b", 128), member("c", 128)];
        let fits = format!("{},{},{},{}", parts[0], parts[1], parts[2], member("d", 125));
        assert_eq!(fits.len(), MAX_BYTES);
        assert_eq!(composed(&[], &fits), fits);
        let over = format!("{},{},{},{}", parts[0], parts[1], parts[2], member("d", 126));
        assert_eq!(composed(&[], &over), parts.join(","));
    }

    #[test]
    fn large_members_go_first_then_the_right_end() {
        let (large, other_large) = (member("large", 129), member("other", 200));
        let (a, b, c, d) = (member("a", 128), member("b", 128), member("c", 128), member("d", 128));
        // One large member is enough: the one further right.
        assert_eq!(
            composed(&[], &[&*large, &a, &other_large, &b].map(ToOwned::to_owned).join(",")),
            format!("{large},{a},{b}")
        );
        // All large members, then from the right.
        let all = [&*large, &a, &b, &other_large, &c, &d].map(ToOwned::to_owned).join(",");
        assert_eq!(composed(&[], &all), format!("{a},{b},{c}"));
        // Members of our own follow the same rule; being on the left they are the last to go.
        assert_eq!(composed(&[("mt", "x")], &all), format!("mt=x,{a},{b},{c}"));
        let value = "v".repeat(256);
        let long_key = "k".repeat(256);
        assert_eq!(composed(&[(&long_key, &value)], ""), "");
        assert_eq!(composed(&[(&long_key, &value)], "a=1"), "a=1");
    }
}
