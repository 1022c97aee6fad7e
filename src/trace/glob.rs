//! Patterns with `*` and `?`, for hosts, paths, methods and tool names.
//!
//! `*` stands for any run of characters, the empty one and `/` included, and
//! `?` for exactly one character. There is no escape and no character class.

use std::fmt;

/// A pattern, compared against whole strings.
///
/// Matching allocates nothing and takes time in proportion to the text for
/// patterns with one `*`, and never more than pattern length times text
/// length: there is no recursion to blow up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// Every string is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        Glob(pattern.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches, letter case included.
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a == b)
    }

    /// Whether the whole text matches when ASCII letters are compared without
    /// case, as host names are (RFC 4343).
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        matches(&self.0, text, |a, b| a.eq_ignore_ascii_case(&b))
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Walks both strings once and returns to the latest `*` on a mismatch, which
/// is enough because an earlier `*` can gain nothing from taking more.
fn matches(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let mut pattern = pattern.chars();
    let mut text = text.chars();
    // The pattern after the latest `*`, and the text where that `*` ends so far.
    let mut retry = None;
    loop {
        let rest = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = rest;
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some('?'), Some(_)) => continue,
            (Some(p), Some(t)) if same(p, t) => continue,
            // The text is used up and the pattern still wants characters:
            // a longer `*` would only leave less of it.
            (Some(_), None) => return false,
            _ => {}
        }
        let Some((after_star, mut from)) = retry.take() else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        pattern = after_star.clone();
        text = from.clone();
        retry = Some((after_star, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_strings() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("ping", "ping", true),
            ("ping", "pings", false),
            ("ping", "Ping", false),
            ("*", "", true),
            ("*", "any/thing", true),
            ("**", "", true),
            ("kube-probe/*", "kube-probe/1.34", true),
            ("kube-probe/*", "kube-probe", false),
            ("*.svc", "a.b.svc", true),
            ("*.svc", "svc", false),
            ("create_*_v?", "create_a_vb_v2", true),
            ("create_*_v?", "create_a_v", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("*a", "aaab", false),
            ("*ab", "aab", true),
            ("?", "é", true),
            ("??", "é", false),
            ("?", "", false),
            ("*é", "naivé", true),
        ];
        for (pattern, text, expect) in cases {
            assert_eq!(Glob::new(pattern).matches(text), expect, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case() {
        assert!(Glob::new("*.Example.COM").matches_ignoring_case("api.eXample.com"));
        assert!(!Glob::new("*.Example.COM").matches("api.example.com"));
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(200) + "b";
        let text = "a".repeat(2_000);
        assert!(!Glob::new(&pattern).matches(&text));
        assert!(Glob::new(&pattern).matches(&(text + "b")));
    }

    /// A slow matcher that is obviously right, for comparison.
    fn reference(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', p)), rest) => reference(p, text) || rest.is_some_and(|(_, t)| reference(pattern, t)),
            (Some((p, ps)), Some((t, ts))) if *p == '?' || p == t => reference(ps, ts),
            _ => false,
        }
    }

    #[test]
    fn agrees_with_the_reference_on_all_short_strings() {
        let strings = |alphabet: &[char], longest: usize| {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last = last.iter().flat_map(|s| alphabet.iter().map(move |c| format!("{s}{c}"))).collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        for pattern in strings(&['a', 'b', '*', '?'], 4) {
            for text in strings(&['a', 'b'], 5) {
                let p: Vec<char> = pattern.chars().collect();
                let t: Vec<char> = text.chars().collect();
                assert_eq!(Glob::new(&pattern).matches(&text), reference(&p, &t), "{pattern:?} on {text:?}");
            }
        }
    }
}
