//! The `baggage` value: names and values that a user attaches to a request (W3C Baggage, section
//! "Baggage HTTP Header Format").
//!
//! Baggage is somebody else's data, so members are kept byte for byte and in order, repeated keys
//! included. Only [`Baggage::set`] changes anything, and only the member that it is told to.

use std::borrow::Cow;

use super::{percent, trim_ows};

/// The most members that are kept and sent. Every system has to pass on this many.
pub const MAX_MEMBERS: usize = 64;

/// The most bytes that are kept and sent, commas included. Every system has to pass on this many.
pub const MAX_BYTES: usize = 8192;

/// A list of valid members within both limits, joined by single commas. The default has no members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Baggage {
    text: String,
    count: usize,
}

/// One member of a [`Baggage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name, an RFC 9110 token. Case matters.
    pub key: &'a str,
    /// The value as it came, percent-encoded.
    pub value: &'a str,
    text: &'a str,
    properties: Option<&'a str>,
}

impl Baggage {
    /// Reads the values of all `baggage` headers, in the order in which they came, as one list.
    ///
    /// A member outside the grammar is dropped and the others are kept. The specification leaves
    /// the choice open; a comma cannot occur inside a member, so one careless producer does not
    /// make the others' members doubtful, and dropping them all would lose data that is not ours.
    /// Empty members and whitespace around members are dropped too. A member that would exceed
    /// [`MAX_MEMBERS`] or [`MAX_BYTES`] is left out whole; a later, smaller one may still fit.
    /// `None` means that there is nothing to pass on.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut baggage = Self::default();
        for value in values {
            baggage.text.reserve(value.len().min(MAX_BYTES));
            for member in value.split(|byte| *byte == b',') {
                if let Some(member) = Member::parse(trim_ows(member)) {
                    baggage.push(member.text);
                }
            }
        }
        (baggage.count > 0).then_some(baggage)
    }

    /// The whole list as it goes into one header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there are no members. Such a list must not be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The members in order.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.text.split(',').filter_map(Member::split)
    }

    /// The decoded value of a member. Of several with the same key it is the last, as in the
    /// OpenTelemetry SDKs.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.members().filter(|member| member.key == key).last().map(|member| member.decoded())
    }

    /// Sets a member to a plain text, which is percent-encoded as needed.
    ///
    /// The new member has no properties. It takes the place of the first member with the same key,
    /// the others with that key are removed, and without one it goes to the end. Returns `false`,
    /// and changes nothing, if the key is not an RFC 9110 token or if the list would exceed
    /// [`MAX_MEMBERS`] or [`MAX_BYTES`].
    #[must_use]
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        if !is_token(key) || value.len() > MAX_BYTES {
            return false;
        }
        let mut member = String::with_capacity(key.len() + 1 + value.len());
        member.push_str(key);
        member.push('=');
        percent::encode(value, &mut member);

        let mut changed = Self::default();
        changed.text.reserve(self.text.len() + 1 + member.len());
        let mut placed = false;
        let mut fits = true;
        for old in self.members() {
            if old.key != key {
                fits &= changed.push(old.text);
            } else if !placed {
                placed = true;
                fits &= changed.push(&member);
            }
        }
        fits = fits && (placed || changed.push(&member));
        if fits {
            *self = changed;
        }
        fits
    }

    /// Appends a valid member if both limits allow it.
    fn push(&mut self, member: &str) -> bool {
        let comma = usize::from(self.count > 0);
        if self.count == MAX_MEMBERS || self.text.len() + comma + member.len() > MAX_BYTES {
            return false;
        }
        if comma == 1 {
            self.text.push(',');
        }
        self.text.push_str(member);
        self.count += 1;
        true
    }
}

impl<'a> Member<'a> {
    /// The value with its percent-encoding undone. Bytes that are not UTF-8 become U+FFFD; a `%`
    /// that no two hexadecimal digits follow stays.
    #[must_use]
    pub fn decoded(&self) -> Cow<'a, str> {
        percent::decode(self.value)
    }

    /// The properties in order: a name, and a percent-encoded value if it has one.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.properties.into_iter().flat_map(|list| list.split(';')).map(split_property)
    }

    /// Reads one member that has no whitespace around it.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let member = Self::split(std::str::from_utf8(text).ok()?)?;
        let valid = is_token(member.key)
            && is_value(member.value)
            && member.properties().all(|(key, value)| is_token(key) && value.is_none_or(is_value));
        valid.then_some(member)
    }

    /// Finds the parts of a member without looking at their bytes.
    fn split(text: &'a str) -> Option<Self> {
        let (head, properties) = match text.split_once(';') {
            Some((head, properties)) => (head, Some(properties)),
            None => (text, None),
        };
        let (key, value) = head.split_once('=')?;
        Some(Self { key: trim(key), value: trim(value), text, properties })
    }
}

fn split_property(property: &str) -> (&str, Option<&str>) {
    match property.split_once('=') {
        Some((key, value)) => (trim(key), Some(trim(value))),
        None => (trim(property), None),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether the text is a token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_value(text: &str) -> bool {
    text.bytes().all(percent::is_octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<Baggage> {
        Baggage::parse(values.iter().map(|value| value.as_bytes()))
    }

    fn text(values: &[&str]) -> Option<String> {
        parse(values).map(|baggage| baggage.as_str().to_owned())
    }

    #[test]
    fn keeps_order_bytes_and_duplicates() {
        for (values, wanted) in [
            (&["SomeKey=SomeValue"][..], "SomeKey=SomeValue"),
            (
                &["userId=alice", "serverNode=DF%2028,isProduction=false"],
                "userId=alice,serverNode=DF%2028,isProduction=false",
            ),
            (&["userId =   alice", "a=1"], "userId =   alice,a=1"),
            (&[" a = b \t, \tc=d;p ; q = r "], "a = b,c=d;p ; q = r"),
            (&["a=1,a=2", "a=1"], "a=1,a=2,a=1"),
            (&["k=dGVzdA=="], "k=dGVzdA=="),
            (&["k="], "k="),
            (&["k=%zz%"], "k=%zz%"),
            (&[",a=1,,b=2,", ""], "a=1,b=2"),
            (
                &["!#$%&'*+-.^_`|~09azAZ=!#$%&'()*+-./:<=>?@[]^_`{|}~"],
                "!#$%&'*+-.^_`|~09azAZ=!#$%&'()*+-./:<=>?@[]^_`{|}~",
            ),
        ] {
            assert_eq!(text(values).as_deref(), Some(wanted), "{values:?}");
        }
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["", " , "]), None);
    }

    #[test]
    fn a_bad_member_goes_alone() {
        for bad in [
            "a",
            "=",
            "=1",
            "a b=1",
            "a(=1",
            "a=b c",
            "a=\"b\"",
            "a=\\",
            "a=\u{e9}",
            "\u{e9}=1",
            "a=\u{1}",
            "a=b\r\nc",
            "a=b;",
            "a=b;;p",
            "a=b;=c",
            "a=b;p q",
            "a=b;p=q r",
            "a;b=c",
            ";",
            "a\t=\u{b}b",
        ] {
            assert_eq!(text(&[bad]), None, "{bad:?}");
            assert_eq!(text(&[&format!("x=1,{bad},y=2")]).as_deref(), Some("x=1,y=2"), "{bad:?}");
        }
        assert_eq!(Baggage::parse([&b"a=\xff,b=1"[..]]).unwrap().as_str(), "b=1");
    }

    #[test]
    fn splits_members_and_properties() {
        let ows = "SomeKey \t = \t Some%20Value=x \t ; \t Flag \t ; \t Prop \t = \t Val=1 \t , \t Other=2";
        let baggage = parse(&[ows]).unwrap();
        let members = baggage.members().collect::<Vec<_>>();
        assert_eq!(members.len(), 2);
        assert_eq!((members[0].key, members[0].value), ("SomeKey", "Some%20Value=x"));
        assert_eq!(members[0].properties().collect::<Vec<_>>(), [("Flag", None), ("Prop", Some("Val=1"))]);
        assert_eq!((members[1].key, members[1].value), ("Other", "2"));
        assert_eq!(members[1].properties().count(), 0);
    }

    #[test]
    fn gets_the_decoded_value_of_the_last_namesake() {
        let baggage = parse(&["a=1,b=2%20x,a=3"]).unwrap();
        assert_eq!(baggage.get("a").as_deref(), Some("3"));
        assert_eq!(baggage.get("b").as_deref(), Some("2 x"));
        assert_eq!(baggage.get("A"), None);
    }

    #[test]
    fn sets_by_replacing_or_appending() {
        for (given, key, value, wanted) in [
            ("", "a", "1", "a=1"),
            ("a=1", "b", "x y", "a=1,b=x%20y"),
            ("a = 1;p,b=2", "a", "", "a=,b=2"),
            ("a=1,b=2,a=3,c=4", "a", "x", "a=x,b=2,c=4"),
            ("a=1", "A", "100%, \u{e9};\"\\\n", "a=1,A=100%25%2C%20%C3%A9%3B%22%5C%0A"),
        ] {
            let mut baggage = parse(&[given]).unwrap_or_default();
            assert!(baggage.set(key, value), "{given}");
            assert_eq!(baggage.as_str(), wanted);
            assert_eq!(baggage.get(key).as_deref(), Some(value));
            assert_eq!(parse(&[wanted]), Some(baggage));
        }
        let mut baggage = Baggage::default();
        assert!(baggage.is_empty());
        for key in ["", "a b", "a=", "a,b", "\u{e9}"] {
            assert!(!baggage.set(key, "1"), "{key}");
        }
        assert!(baggage.is_empty());
    }

    #[test]
    fn every_byte_that_is_set_comes_back() {
        let value = (0..=0xff_u8).map(char::from).collect::<String>();
        let mut baggage = Baggage::default();
        assert!(baggage.set("k", &value));
        assert_eq!(parse(&[baggage.as_str()]), Some(baggage.clone()));
        assert_eq!(baggage.get("k").as_deref(), Some(value.as_str()));
    }

    #[test]
    fn keeps_64_members() {
        let list = |count: usize| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(text(&[&list(65)]), Some(list(64)));
        assert_eq!(text(&[&list(64), "more=1"]), Some(list(64)));
        let mut full = parse(&[&list(64)]).unwrap();
        assert!(!full.set("more", "1"));
        assert_eq!(full.as_str(), list(64));
        assert!(full.set("k63", "1"));
        assert_eq!(full.members().count(), MAX_MEMBERS);
    }

    #[test]
    fn keeps_8192_bytes_of_whole_members() {
        let member = |key: &str, bytes: usize| format!("{key}={}", "v".repeat(bytes - key.len() - 1));
        let most = format!("{},{}", member("a", 4096), member("b", 4095));
        assert_eq!(most.len(), MAX_BYTES);
        assert_eq!(text(&[&most]).as_ref(), Some(&most));
        assert_eq!(text(&[&most, "c=1"]).as_ref(), Some(&most));
        // A member that does not fit is skipped, a later one that fits is not.
        let over = format!("{},{},c=1", member("a", 4096), member("b", 4096));
        assert_eq!(text(&[&over]), Some(format!("{},c=1", member("a", 4096))));
        assert_eq!(text(&[&member("a", 8193)]), None);

        let mut full = parse(&[&most]).unwrap();
        assert!(!full.set("c", ""));
        assert!(!full.set("b", &"v".repeat(4094)));
        assert!(!full.set("b", &"v".repeat(MAX_BYTES + 1)));
        assert_eq!(full.as_str(), most);
        assert!(full.set("b", &"v".repeat(4093)));
        assert_eq!(full.as_str(), most);
    }
}
