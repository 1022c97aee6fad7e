//! The attributes of a span or of a link, in the form in which they leave: elements `KeyValue` of OTLP
//! (`opentelemetry/proto/common/v1/common.proto`), so that each is written once, when it is set.

use super::Value;
use super::text::KEPT_BYTES;
use crate::trace::protobuf::{
    FIXED64, LEN, VARINT, bytes, fixed64, tag, take_bytes, take_varint, text, text_len, varint, varint_len,
};

/// The field of a span that its attributes are elements of.
pub(super) const OF_SPAN: u8 = 9;
/// The field of a link.
pub(super) const OF_LINK: u8 = 4;

/// Attributes, one after the other, each key once.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    field: u8,
    bytes: Vec<u8>,
    count: u32,
    /// One bit for each hash of a key that was set: a clear bit proves that a key is new, without a search.
    seen: u64,
}

impl Attributes {
    /// None, to be elements of this field, with room for so many bytes.
    pub(super) fn of(field: u8, capacity: usize) -> Self {
        Attributes { field, bytes: Vec::with_capacity(capacity), count: 0, seen: 0 }
    }

    /// Forgets them and keeps the storage.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        (self.count, self.seen) = (0, 0);
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How far the bytes reach.
    pub(super) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// As they leave.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets one; a key that is there gets the new value in its place. `false` where it would be one more than `most`.
    pub(super) fn set(&mut self, key: &str, value: &Value<'_>, most: u32) -> bool {
        let bit = key_bit(key);
        if self.seen & bit != 0 && self.replace(key, value) {
            return true;
        }
        if self.count >= most {
            return false;
        }
        self.seen |= bit;
        self.push(key, value);
        true
    }

    /// Sets all of another list, as many as there may be; says how many there were too many.
    pub(super) fn set_all(&mut self, others: &Attributes, most: u32) -> u32 {
        if self.seen & others.seen == 0 && most.saturating_sub(self.count) >= others.count {
            self.bytes.extend_from_slice(&others.bytes);
            self.seen |= others.seen;
            self.count += others.count;
            return 0;
        }
        let set = |(key, value): (&str, Value<'_>)| u32::from(!self.set(key, &value, most));
        others.read(0, others.count).map(set).sum()
    }

    /// Adds one whose key is not there.
    #[inline]
    pub(super) fn push(&mut self, key: &str, value: &Value<'_>) {
        self.count += 1;
        if let Value::Str(text) = value
            && short_text(&mut self.bytes, self.field, key, text)
        {
            return;
        }
        key_value(&mut self.bytes, self.field, key, value);
    }

    #[cold]
    fn replace(&mut self, key: &str, value: &Value<'_>) -> bool {
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let start = self.bytes.len() - rest.len();
            let Some((there, _)) = take(&mut rest) else { return false };
            if there == key {
                let end = self.bytes.len() - rest.len();
                let mut new = Vec::new();
                key_value(&mut new, self.field, key, value);
                self.bytes.splice(start..end, new);
                return true;
            }
        }
        false
    }

    /// Those whose bytes begin at `from` or later, `count` at most.
    pub(super) fn read(&self, from: usize, count: u32) -> impl Iterator<Item = (&str, Value<'_>)> {
        let mut rest = self.bytes.get(from..).unwrap_or_default();
        (0..count).map_while(move |_| take(&mut rest))
    }
}

/// A bit that a key's length and two of its bytes choose. Keys of one span rarely share one.
#[inline]
fn key_bit(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let (Some(middle), Some(last)) = (bytes.get(bytes.len() / 2), bytes.last()) else { return 1 };
    let hash = bytes.len() + usize::from(*middle) * 4 + usize::from(*last) * 5;
    1 << (hash & 63)
}

fn key_value(out: &mut Vec<u8>, field: u8, key: &str, value: &Value<'_>) {
    let value_len = any_value_len(value);
    let key_len = if key.is_empty() { 0 } else { text_len(key) };
    tag(out, field, LEN);
    varint(out, (key_len + 1 + varint_len(value_len as u64) + value_len) as u64);
    text(out, 1, key);
    tag(out, 2, LEN);
    varint(out, value_len as u64);
    any_value(out, value);
}

/// Writes a text attribute if it is short enough for every length in it to be one byte, as nearly all are. Such
/// attributes are most of a span, and with the bytes between the texts written together they take half the time.
#[inline]
fn short_text(out: &mut Vec<u8>, field: u8, key: &str, text: &str) -> bool {
    const AROUND: usize = 6;
    if key.is_empty() || key.len() + text.len() + AROUND > 0x7f {
        return false;
    }
    let (key_len, text_len) = (key.len() as u8, text.len() as u8);
    out.reserve(AROUND + 2 + key.len() + text.len());
    out.extend_from_slice(&[field << 3 | LEN, key_len + text_len + AROUND as u8, 1 << 3 | LEN, key_len]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[2 << 3 | LEN, text_len + 2, 1 << 3 | LEN, text_len]);
    out.extend_from_slice(text.as_bytes());
    true
}

/// `AnyValue` is a oneof: the field is written even when it holds the default of its type.
fn any_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Str(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => out.extend_from_slice(&[2 << 3 | VARINT, u8::from(*truth)]),
        Value::Int(number) => {
            tag(out, 3, VARINT);
            varint(out, number.cast_unsigned());
        }
        Value::Double(number) => fixed64(out, 4, number.to_bits()),
        Value::Strings(texts) => {
            tag(out, 5, LEN);
            varint(out, texts.iter().map(|text| list_item_len(text)).sum::<usize>() as u64);
            for text in texts {
                tag(out, 1, LEN);
                varint(out, text_len(text) as u64);
                bytes(out, 1, text.as_bytes());
            }
        }
    }
}

fn any_value_len(value: &Value<'_>) -> usize {
    match value {
        Value::Str(text) => text_len(text),
        Value::Bool(_) => 2,
        Value::Int(number) => 1 + varint_len(number.cast_unsigned()),
        Value::Double(_) => 9,
        Value::Strings(texts) => {
            let len: usize = texts.iter().map(|text| list_item_len(text)).sum();
            1 + varint_len(len as u64) + len
        }
    }
}

fn list_item_len(text: &str) -> usize {
    let len = text_len(text);
    1 + varint_len(len as u64) + len
}

/// Takes one attribute off the front of what was written here.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, Value<'a>)> {
    take_varint(rest)?;
    let mut inside = take_bytes(rest)?;
    let key = match inside.first()? >> 3 {
        1 => take_text(&mut inside)?,
        _ => "",
    };
    take_varint(&mut inside)?;
    Some((key, value(take_bytes(&mut inside)?)?))
}

fn value(mut any: &[u8]) -> Option<Value<'_>> {
    let tag = any.split_off_first()?;
    Some(match (tag >> 3, tag & 7) {
        (1, LEN) => Value::Str(str::from_utf8(take_bytes(&mut any)?).ok()?),
        (2, VARINT) => Value::Bool(take_varint(&mut any)? != 0),
        (3, VARINT) => Value::Int(take_varint(&mut any)?.cast_signed()),
        (4, FIXED64) => Value::Double(f64::from_le_bytes(any.try_into().ok()?)),
        _ => {
            let mut list = take_bytes(&mut any)?;
            let mut texts = Vec::new();
            while !list.is_empty() {
                take_varint(&mut list)?;
                texts.push(take_text(&mut take_bytes(&mut list)?)?);
            }
            Value::Strings(texts)
        }
    })
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    take_varint(bytes)?;
    str::from_utf8(take_bytes(bytes)?).ok()
}
