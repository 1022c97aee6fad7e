//! Writes trace context into `params._meta` (MCP 2026-07-28, reserved keys) by editing bytes.
//!
//! Nothing is serialised again: number spellings, member order, white space and unknown members
//! leave as they came. Only the lower-case keys count; a key spelled with escapes counts as what it
//! decodes to.

use super::message::Message;
use super::scan::Extent;

/// The context to leave in the message. Each is written as given, or where `None` or empty removed,
/// since an empty value is no valid W3C header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carrier<'c> {
    /// W3C `traceparent`.
    pub traceparent: Option<&'c str>,
    /// W3C `tracestate`.
    pub tracestate: Option<&'c str>,
    /// W3C `baggage`.
    pub baggage: Option<&'c str>,
}

/// Appends `body` to `out` with `params._meta` carrying exactly `context`, every other byte
/// unchanged. `_meta` and `params` are created where they are missing and needed.
///
/// `message` has to be what [`parse`](super::message::parse) made of this very `body`. Returns
/// `false`, with `out` as it was, for a response and where `params` or `_meta` is not an object
/// ([`Message::spliceable`]).
pub fn splice(body: &[u8], message: &Message<'_>, context: &Carrier<'_>, out: &mut Vec<u8>) -> bool {
    if !message.spliceable() {
        return false;
    }
    let before = out.len();
    let done = Splice::new(body, &message.points, context, out).and_then(Splice::run);
    if done.is_none() {
        out.truncate(before);
    }
    done.is_some()
}

/// The members of `_meta` that are ours to write, as they are written.
const KEYS: [&str; 3] = [r#""traceparent":"#, r#""tracestate":"#, r#""baggage":"#];

/// Where the edits go: offsets into the body, remembered while reading it.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    /// Offset of the brace that closes the message.
    pub(super) top_close: usize,
    pub(super) params: Place,
    pub(super) meta: Place,
    /// The members of `_meta` that are ours to edit, in the order of [`KEYS`].
    pub(super) slots: [Option<Slot>; 3],
}

impl Points {
    pub(super) const TRACEPARENT: usize = 0;
    pub(super) const TRACESTATE: usize = 1;
    pub(super) const BAGGAGE: usize = 2;

    pub(super) fn are_objects(&self) -> bool {
        !matches!(self.params, Place::Foreign) && !matches!(self.meta, Place::Foreign)
    }
}

/// What stands in the place of an object.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Place {
    #[default]
    Absent,
    /// A value that is not an object.
    Foreign,
    Object(Extent),
}

/// One member of `_meta`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// How many members stand before it.
    pub(super) index: usize,
    pub(super) key_start: usize,
    pub(super) value_start: usize,
    pub(super) value_end: usize,
    pub(super) comma_before: Option<usize>,
    pub(super) comma_after: Option<usize>,
}

/// One run over the body, from left to right.
struct Splice<'s> {
    body: &'s [u8],
    points: &'s Points,
    values: [Option<&'s str>; 3],
    out: &'s mut Vec<u8>,
    /// The body up to here has been copied or left out.
    done: usize,
}

impl<'s> Splice<'s> {
    fn new(body: &'s [u8], points: &'s Points, context: &Carrier<'s>, out: &'s mut Vec<u8>) -> Option<Self> {
        let values = [context.traceparent, context.tracestate, context.baggage]
            .map(|value| value.filter(|value| !value.is_empty()));
        // Room for the values, their keys and punctuation, and for `"params":{"_meta":{}}`; escapes
        // are not expected.
        let added: usize = values.iter().flatten().map(|value| value.len() + 18).sum();
        out.reserve(body.len() + added + 24);
        Some(Self { body, points, values, out, done: 0 })
    }

    fn run(mut self) -> Option<()> {
        let missing = |which: &usize| self.points.slots[*which].is_none() && self.values[*which].is_some();
        let inserts = (0..KEYS.len()).any(|which| missing(&which));
        match (self.points.params, self.points.meta) {
            (_, Place::Object(meta)) => self.edit(meta, inserts)?,
            (Place::Object(params), _) if inserts => {
                self.copy_to(params.inside)?;
                self.out.extend_from_slice(br#""_meta":{"#);
                self.insert_missing();
                self.out.push(b'}');
                self.comma_if(params.members > 0);
            }
            (Place::Absent, _) if inserts => {
                // A message that can be spliced has a method, so this is never its first member.
                self.copy_to(self.points.top_close)?;
                self.out.extend_from_slice(br#","params":{"_meta":{"#);
                self.insert_missing();
                self.out.extend_from_slice(b"}}");
            }
            _ => {}
        }
        self.copy_to(self.body.len())
    }

    /// Edits an existing `_meta`: what is missing goes to the front, what is there is replaced or
    /// removed in place.
    fn edit(&mut self, meta: Extent, inserts: bool) -> Option<()> {
        let mut slots =
            [0, 1, 2].map(|which| self.points.slots[which].map(|slot| (slot, self.values[which])));
        slots.sort_unstable_by_key(|slot| slot.map(|(slot, _)| slot.index));
        let removed = slots.iter().flatten().filter(|(_, value)| value.is_none()).count();
        if inserts {
            self.copy_to(meta.inside)?;
            self.insert_missing();
            self.comma_if(meta.members > removed);
        }
        // While only removed members have been met, a removed one takes the comma after it along;
        // later ones the comma before. So no comma is taken twice, and none is left at an edge.
        let mut leading = 0;
        for (slot, value) in slots.into_iter().flatten() {
            match value {
                Some(value) => {
                    self.copy_to(slot.value_start)?;
                    self.string(value);
                    self.done = slot.value_end;
                }
                None if slot.index == leading => {
                    leading += 1;
                    self.copy_to(slot.key_start)?;
                    self.done = slot.comma_after.map_or(slot.value_end, |comma| comma + 1);
                }
                None => {
                    self.copy_to(slot.comma_before?)?;
                    self.done = slot.value_end;
                }
            }
        }
        Some(())
    }

    fn insert_missing(&mut self) {
        let mut first = true;
        for (which, key) in KEYS.iter().enumerate() {
            if let (None, Some(value)) = (self.points.slots[which], self.values[which]) {
                self.comma_if(!first);
                first = false;
                self.out.extend_from_slice(key.as_bytes());
                self.string(value);
            }
        }
    }

    fn comma_if(&mut self, wanted: bool) {
        if wanted {
            self.out.push(b',');
        }
    }

    fn copy_to(&mut self, end: usize) -> Option<()> {
        self.out.extend_from_slice(self.body.get(self.done..end)?);
        self.done = end;
        Some(())
    }

    /// Writes a JSON string.
    fn string(&mut self, value: &str) {
        self.out.push(b'"');
        let bytes = value.as_bytes();
        // Valid context never needs an escape.
        if any_needs_escape(bytes) {
            self.escaped(bytes);
        } else {
            self.out.extend_from_slice(bytes);
        }
        self.out.push(b'"');
    }

    #[cold]
    fn escaped(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *byte]),
                _ if needs_escape(*byte) => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.out.push(*byte),
            }
        }
    }
}

/// Looks at sixteen bytes at a time, the last of them perhaps a second time.
fn any_needs_escape(bytes: &[u8]) -> bool {
    let any = |block: &[u8]| block.iter().fold(false, |any, byte| any | needs_escape(*byte));
    let of_block = |block: &[u8; 16]| any(block);
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().any(of_block) || of_block(last),
        None => any(bytes),
    }
}

#[inline(always)]
fn needs_escape(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}
