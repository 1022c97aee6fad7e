//! Lists of ports as people write them: `8080`, `9000-9010`, `8080,9000-9010`.

use std::fmt;

/// The most ports and ranges in one list. Each becomes an element of a kernel set.
pub const MAX_RANGES: usize = 128;

/// A list of ports and ranges, each from 1 to 65535, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Reads a list. Blanks around the commas are allowed; an empty text is an empty list.
    ///
    /// # Errors
    /// `None` when anything in it is not a port or a range from a lower to a higher port, or when there are more than
    /// [`MAX_RANGES`].
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Ports::default());
        }
        let ranges = text.split(',').map(|part| range(part.trim())).collect::<Option<Vec<_>>>()?;
        (ranges.len() <= MAX_RANGES).then_some(Ports(ranges))
    }

    /// The ports given, without repetition.
    pub fn of(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Ports::default();
        for port in ports {
            if !list.contains(port) {
                list.0.push((port, port));
            }
        }
        list
    }

    /// Whether the list names no port.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ports and ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the port is in the list.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }
}

/// `8080` or `9000-9010`, digits only.
fn range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (port(low)?, port(high)?);
    (low <= high).then_some((low, high))
}

fn port(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

impl fmt::Display for Ports {
    /// As it was written, without blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_strictly() {
        for (text, expect) in [
            ("", Some("")),
            ("8080", Some("8080")),
            (" 80 , 9000-9010 ", Some("80,9000-9010")),
            ("65535", Some("65535")),
            ("7-7", Some("7")),
            ("0", None),
            ("65536", None),
            ("+80", None),
            ("80,", None),
            ("90-80", None),
            ("80 - 90", None),
            ("http", None),
            ("80;90", None),
            ("-", None),
        ] {
            assert_eq!(Ports::parse(text).map(|ports| ports.to_string()).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn a_list_has_a_limit() {
        let list = |count: usize| vec!["80"; count].join(",");
        assert!(Ports::parse(&list(MAX_RANGES)).is_some());
        assert!(Ports::parse(&list(MAX_RANGES + 1)).is_none());
    }

    #[test]
    fn ranges_contain_their_ends() {
        let ports = Ports::parse("80,9000-9010").unwrap();
        assert_eq!(
            [79, 80, 81, 8999, 9000, 9010, 9011].map(|port| ports.contains(port)),
            [false, true, false, false, true, true, false]
        );
        assert_eq!(Ports::of([80, 443, 80]).to_string(), "80,443");
    }
}
