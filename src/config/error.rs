//! What is wrong with a setting, in one line: where it stands, what it says
//! and what is allowed there.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// A setting that cannot be used. The program exits with code 2 on it.
///
/// `Display` is one line and repeats at most [`SHOWN`] characters of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}{problem}")]
pub struct Error {
    origin: Origin,
    problem: String,
}

/// The place that a setting was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag, written as `--name`.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A configuration file, with the line and the column, both from 1, where
    /// they are known.
    File(PathBuf, Option<(u64, u64)>),
    /// The settings taken together.
    Whole,
}

/// What a parser of one value says when it refuses it: what it would take.
pub(crate) type Expected = Cow<'static, str>;

/// The most characters of a wrong value that a message repeats.
pub const SHOWN: usize = 80;

impl Error {
    /// A problem that the message describes completely.
    pub(crate) fn new(origin: Origin, problem: impl Into<String>) -> Self {
        // A line break in a message would look like a second message, and an
        // escape sequence could say anything at all on a terminal.
        let problem = problem.into().replace(char::is_control, " ");
        let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
        Error { origin, problem }
    }

    /// A value that is not what the setting takes.
    pub(crate) fn value(origin: Origin, value: &str, expected: &Expected) -> Self {
        Error::new(origin, format!("{}: expected {expected}", quote(value)))
    }

    /// Where the setting stands.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Origin {
    pub(crate) fn file(path: &Path, at: Option<(u64, u64)>) -> Self {
        Origin::File(path.to_owned(), at)
    }
}

impl fmt::Display for Origin {
    /// Ends with the separator that the problem follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Variable(name) => write!(f, "{name} "),
            Origin::File(path, None) => write!(f, "{}: ", path.display()),
            Origin::File(path, Some((line, column))) => {
                write!(f, "{}:{line}:{column}: ", path.display())
            }
            Origin::Whole => Ok(()),
        }
    }
}

/// The value in quotes, on one line, shortened, and without the user and
/// password that a URL may carry.
pub(crate) fn quote(value: &str) -> String {
    let mut text = value.to_owned();
    if let (Some(scheme), Some(at)) = (value.find("://"), value.rfind('@'))
        && scheme + 3 <= at
    {
        text.replace_range(scheme + 3..at, "REDACTED");
    }
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        let error = Error::value(Origin::Flag("--admin"), &"x\n".repeat(100), &"y".into());
        let text = error.to_string();
        assert!(!text.contains('\n'));
        assert!(text.chars().count() < 2 * SHOWN + 40, "{text}");
    }

    #[test]
    fn passwords_in_urls_are_not_repeated() {
        assert_eq!(quote("http://me:secret@host/"), r#""http://REDACTED@host/""#);
        assert_eq!(quote("0.0.0.0:1=http://a:b@c@host"), r#""0.0.0.0:1=http://REDACTED@host""#);
        assert_eq!(quote("@://"), r#""@://""#);
    }
}
