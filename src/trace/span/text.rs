//! The text of a span: one string that everything dynamic is appended to, and places in it.

use super::{MAX_TEXT_BYTES, Value};

/// Storage above this many bytes is given back when a span is cleared, so that one large request does not stay in memory.
const KEPT_BYTES: usize = 8 * 1024;

/// A piece of text: static, or a place in the span's own string.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text {
    Static(&'static str),
    At { start: u32, len: u32 },
}

/// A value whose text is elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) enum Datum {
    Text(Text),
    Int(i64),
    Bool(bool),
    Double(f64),
    List { first: u32, count: u32 },
}

/// The string, and the lists of places that list values need.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    string: String,
    lists: Vec<Text>,
    /// Whether something did not fit.
    pub(super) cut: bool,
}

impl Texts {
    /// No text, with room for so many bytes of it.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Texts { string: String::with_capacity(bytes), ..Texts::default() }
    }

    /// Forgets the text and keeps the storage.
    pub(super) fn clear(&mut self) {
        self.string.clear();
        self.string.shrink_to(KEPT_BYTES);
        self.lists.clear();
        self.cut = false;
    }

    /// The bytes that it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.string.capacity()
    }

    /// Copies text, cut at `max_chars` characters and at what the string still takes.
    pub(super) fn store(&mut self, text: &str, max_chars: Option<u32>) -> Text {
        let text = limited(text, max_chars);
        let start = self.string.len();
        if text.len() > MAX_TEXT_BYTES.saturating_sub(start) {
            return self.join(&[text]);
        }
        self.string.push_str(text);
        Text::At { start: as_u32(start), len: as_u32(text.len()) }
    }

    /// Copies several texts as one.
    pub(super) fn join(&mut self, parts: &[&str]) -> Text {
        let start = self.string.len();
        for part in parts {
            let fitting = prefix(part, MAX_TEXT_BYTES.saturating_sub(self.string.len()));
            self.cut |= fitting.len() < part.len();
            self.string.push_str(fitting);
        }
        Text::At { start: as_u32(start), len: as_u32(self.string.len() - start) }
    }

    /// Copies a list of texts, each cut at `max_chars`.
    pub(super) fn store_list(&mut self, texts: &[&str], max_chars: Option<u32>) -> Datum {
        let first = as_u32(self.lists.len());
        for text in texts {
            let text = self.store(text, max_chars);
            self.lists.push(text);
        }
        Datum::List { first, count: as_u32(texts.len()) }
    }

    /// Copies a value.
    pub(super) fn store_value(&mut self, value: &Value<'_>, max_chars: Option<u32>) -> Datum {
        match value {
            Value::Str(text) => Datum::Text(self.store(text, max_chars)),
            Value::Int(number) => Datum::Int(*number),
            Value::Bool(truth) => Datum::Bool(*truth),
            Value::Double(number) => Datum::Double(*number),
            Value::Strings(texts) => self.store_list(texts, max_chars),
        }
    }

    pub(super) fn get(&self, text: Text) -> &str {
        match text {
            Text::Static(text) => text,
            Text::At { start, len } => {
                let start = start as usize;
                self.string.get(start..start + len as usize).unwrap_or_default()
            }
        }
    }

    pub(super) fn value(&self, datum: Datum) -> Value<'_> {
        match datum {
            Datum::Text(text) => Value::Str(self.get(text)),
            Datum::Int(number) => Value::Int(number),
            Datum::Bool(truth) => Value::Bool(truth),
            Datum::Double(number) => Value::Double(number),
            Datum::List { first, count } => {
                let first = first as usize;
                let texts = self.lists.get(first..first + count as usize).unwrap_or_default();
                Value::Strings(texts.iter().map(|text| self.get(*text)).collect())
            }
        }
    }
}

/// The first `max_chars` characters; each counts as one, however many bytes it has.
pub(super) fn limited(text: &str, max_chars: Option<u32>) -> &str {
    match max_chars {
        // Text has at least as many bytes as characters, so most is known to fit without counting.
        Some(limit) if text.len() > limit as usize => {
            text.char_indices().nth(limit as usize).map_or(text, |(end, _)| &text[..end])
        }
        _ => text,
    }
}

/// At most the first `max_bytes` bytes, whole characters only.
fn prefix(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(super) fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
