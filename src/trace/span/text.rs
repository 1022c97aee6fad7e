//! The text of a span beside its attributes: one string that everything dynamic is appended to, and places in it.

use super::MAX_TEXT_BYTES;

/// Storage above this many bytes is given back when a span is cleared, so that one large request does not stay in memory.
pub(super) const KEPT_BYTES: usize = 8 * 1024;

/// A piece of text: static, or a place in the span's own string.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text {
    Static(&'static str),
    At { start: u32, len: u32 },
}

/// The string, and how much text there is beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    string: String,
    /// Text that is kept elsewhere and counts like that in the string, in bytes.
    elsewhere: usize,
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
        self.elsewhere = 0;
        self.cut = false;
    }

    /// What of a text still has room, where it is kept elsewhere.
    #[inline]
    pub(super) fn admit<'t>(&mut self, text: &'t str, max_chars: Option<u32>) -> &'t str {
        let text = limited(text, max_chars);
        let text = if text.len() > self.room() { self.fitting(text) } else { text };
        self.elsewhere += text.len();
        text
    }

    /// Copies text, cut at what there is room for.
    pub(super) fn store(&mut self, text: &str) -> Text {
        self.join(&[text])
    }

    /// Copies several texts as one.
    pub(super) fn join(&mut self, parts: &[&str]) -> Text {
        let start = self.string.len();
        for part in parts {
            let part = if part.len() > self.room() { self.fitting(part) } else { part };
            self.string.push_str(part);
        }
        Text::At { start: as_u32(start), len: as_u32(self.string.len() - start) }
    }

    fn room(&self) -> usize {
        MAX_TEXT_BYTES.saturating_sub(self.string.len() + self.elsewhere)
    }

    #[cold]
    fn fitting<'t>(&mut self, text: &'t str) -> &'t str {
        self.cut = true;
        prefix(text, self.room())
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
}

/// The first `max_chars` characters; each counts as one, however many bytes it has.
#[inline]
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
