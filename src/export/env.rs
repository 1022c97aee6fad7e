//! Environment variables as the OpenTelemetry specification reads them ("Environment Variable Specification").
//!
//! An empty value is the same as none. A number or a word that cannot be understood is reported and then ignored. What
//! may hold a secret is never repeated in a report.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

/// A variable whose value was ignored or needs attention. Shown as `NAME: what is wrong`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// The name of the variable.
    pub variable: String,
    /// What is wrong, and what was done instead.
    pub message: String,
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// A duration of zero stands for "no limit" in the specification. Nothing here waits for ever, so this is the longest.
pub const NO_LIMIT: Duration = Duration::from_secs(3600);

/// The variables, and what was wrong with them so far.
pub(super) struct Env<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Env<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, warnings: Vec::new() }
    }

    /// The value without surrounding white space, if there is any.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = (self.get)(name)?;
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// Only the word `true`, in any case, is true. Every other word but `false` is reported.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.text(name)?;
        if value.eq_ignore_ascii_case("true") {
            return Some(true);
        }
        if !value.eq_ignore_ascii_case("false") {
            self.warn(name, format!("`{}` is neither true nor false; false is used", shown(&value)));
        }
        Some(false)
    }

    /// A whole number of at least `least`.
    pub(super) fn number<T: Display + FromStr + PartialOrd>(&mut self, name: &str, least: T) -> Option<T> {
        let value = self.text(name)?;
        match value.parse::<T>() {
            Ok(number) if number >= least => Some(number),
            _ => {
                self.warn(
                    name,
                    format!("`{}` is not a whole number of at least {least}; ignored", shown(&value)),
                );
                None
            }
        }
    }

    /// A limit on time in milliseconds, where zero means none.
    pub(super) fn timeout(&mut self, name: &str) -> Option<Duration> {
        self.number::<u64>(name, 0).map(|millis| match millis {
            0 => NO_LIMIT,
            millis => Duration::from_millis(millis).min(NO_LIMIT),
        })
    }

    /// One of the words that `known` names, in any case.
    pub(super) fn word<T: Copy>(&mut self, name: &str, known: &[(&str, T)]) -> Option<T> {
        let value = self.text(name)?;
        let found =
            known.iter().find(|(word, _)| word.eq_ignore_ascii_case(&value)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            self.warn(name, format!("`{}` is not one of {}; ignored", shown(&value), words.join(", ")));
        }
        found
    }

    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: name.to_owned(), message: message.into() });
    }
}

/// A value in a message: short, and with no control characters.
pub(super) fn shown(value: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut shown: String =
        value.chars().take(MAX_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect();
    if value.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// A list `key=value,key=value` in the syntax of the W3C Baggage header without properties: values are percent-encoded,
/// space around keys and values is not part of them, empty members are skipped.
///
/// # Errors
/// Says which member cannot be read, by its place and never by its text.
pub fn key_value_list(list: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut pairs = Vec::new();
    for (index, member) in list.split(',').enumerate() {
        if member.trim().is_empty() {
            continue;
        }
        let place = index + 1;
        let (key, value) = member.split_once('=').ok_or_else(|| format!("member {place} has no `=`"))?;
        let key = percent_decoded(key.trim()).and_then(|key| String::from_utf8(key).ok());
        let key =
            key.filter(|key| !key.is_empty()).ok_or_else(|| format!("member {place} has no usable key"))?;
        let value = percent_decoded(value.trim())
            .ok_or_else(|| format!("member {place} has a bad percent-encoding"))?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The bytes that percent-encoded text stands for, or none if a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        decoded.push((high * 16 + low) as u8);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_percent_decoded_and_trimmed() {
        let pairs = key_value_list(" a = b%20c ,, d%2E=%C3%A9=x,e=").unwrap();
        let expected = [("a", "b c"), ("d.", "é=x"), ("e", "")];
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_bad_member_is_named_by_place_only() {
        for (list, message) in [
            ("a=1,secret", "member 2 has no `=`"),
            ("=1", "member 1 has no usable key"),
            ("%FF=1", "member 1 has no usable key"),
            ("a=%2", "member 1 has a bad percent-encoding"),
            ("a=%zz", "member 1 has a bad percent-encoding"),
            ("a=%+1", "member 1 has a bad percent-encoding"),
        ] {
            assert_eq!(key_value_list(list).unwrap_err(), message, "{list}");
        }
    }

    #[test]
    fn values_are_read_as_the_specification_says() {
        let get = |name: &str| match name {
            "EMPTY" => Some("  ".to_owned()),
            "TRUE" => Some("TrUe".to_owned()),
            "ONE" => Some("1".to_owned()),
            "ZERO" => Some("0".to_owned()),
            "MINUS" => Some("-5".to_owned()),
            "HUGE" => Some("99999999999999999999".to_owned()),
            _ => None,
        };
        let mut env = Env::new(&get);
        assert_eq!(env.text("EMPTY"), None);
        assert_eq!(env.flag("TRUE"), Some(true));
        assert_eq!(env.flag("ONE"), Some(false));
        assert_eq!(env.flag("NONE"), None);
        assert_eq!(env.number("ONE", 1_u32), Some(1));
        assert_eq!(env.number("ZERO", 1_u32), None);
        assert_eq!(env.number("MINUS", 0_u32), None);
        assert_eq!(env.number("HUGE", 0_u32), None);
        assert_eq!(env.timeout("ZERO"), Some(NO_LIMIT));
        assert_eq!(env.word("ONE", &[("a", 1), ("b", 2)]), None);
        assert_eq!(env.word("TRUE", &[("true", 1), ("b", 2)]), Some(1));
        let reports: Vec<_> = env.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(reports[0], "ONE: `1` is neither true nor false; false is used");
        assert_eq!(reports[4], "ONE: `1` is not one of a, b; ignored");
        assert_eq!(reports.len(), 5);
    }
}
