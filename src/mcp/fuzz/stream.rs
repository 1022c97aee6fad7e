//! The entry point for streams of events.

use super::super::rewrite::Rewriter;
use super::super::sse::{Event, Sse};

/// Feeds `data` as a stream, cut in several ways, and compares the events with each other and with
/// those of a plain reading of the standard. The first two bytes choose the limit and the cuts.
///
/// # Panics
///
/// When they differ.
pub fn fuzz_sse(data: &[u8]) {
    let [limit, seed, stream @ ..] = data else {
        return;
    };
    let limit = if *limit == 0 { usize::MAX } else { usize::from(*limit) };
    let whole = events(stream, limit, |_| stream.len());
    let single = events(stream, limit, |_| 1);
    let mut state = u32::from(*seed) | 1;
    let uneven = events(stream, limit, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 9
    });
    assert_eq!(whole, single);
    assert_eq!(whole, uneven);
    if limit == usize::MAX {
        assert_eq!(whole.events, plain_events(stream));
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Option<(Vec<u8>, Vec<u8>)>>,
    unfinished: bool,
    saw_id: bool,
    retry_ms: Option<u64>,
}

fn events(stream: &[u8], limit: usize, mut size: impl FnMut(usize) -> usize) -> Outcome {
    let mut sse = Sse::new(limit);
    let mut events = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size(rest.len()).clamp(1, rest.len()));
        rest = after;
        let mut last = 0;
        sse.feed(chunk, |event| {
            let end = match event {
                Event::Message { event, data, data_at, end } => {
                    if let Some(at) = data_at {
                        assert_eq!(chunk.get(at..at + data.len()), Some(data));
                    }
                    events.push(Some((event.unwrap_or_default().to_vec(), data.to_vec())));
                    end
                }
                Event::Oversized { end } => {
                    events.push(None);
                    end
                }
            };
            assert!(last < end && end <= chunk.len());
            assert!(matches!(chunk.get(end - 1), Some(b'\r' | b'\n')));
            last = end;
        });
    }
    Outcome { events, unfinished: sse.finish(), saw_id: sse.saw_id(), retry_ms: sse.retry_ms() }
}

/// The algorithm of the standard, word for word and slow.
fn plain_events(stream: &[u8]) -> Vec<Option<(Vec<u8>, Vec<u8>)>> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut events = Vec::new();
    let (mut name, mut data) = (Vec::new(), Vec::new());
    let mut line = Vec::new();
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\r' && byte != b'\n' {
            line.push(byte);
            continue;
        }
        if byte == b'\r' {
            bytes.next_if_eq(&b'\n');
        }
        let line = std::mem::take(&mut line);
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            if data.pop().is_some() {
                events.push(Some((name, std::mem::take(&mut data))));
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            _ => {}
        }
    }
    events
}

/// Passes `data` as a stream through a rewriter, cut in several ways. The first three bytes choose
/// the limit, the cuts, and which events are edited.
///
/// # Panics
///
/// When a byte is lost, or anything but the data of an edited event has changed.
pub fn fuzz_rewrite(data: &[u8]) {
    let [limit, seed, edits, stream @ ..] = data else {
        return;
    };
    let limit = if *limit == 0 { usize::MAX } else { usize::from(*limit) };
    let same = rewritten(stream, limit, *seed, |_| None);
    assert_eq!(same, stream, "changed without an edit");
    let chosen = |data: &[u8]| edits & 1 == 0 || data.len() % 3 == usize::from(edits & 2);
    let edit = |data: &[u8]| chosen(data).then(|| EDITED.to_vec());
    let edited = rewritten(stream, limit, *seed, edit);
    // The limit is one on what is read; what came of it is read whole.
    let before = events(stream, usize::MAX, |_| stream.len());
    let after = events(&edited, usize::MAX, |_| edited.len().max(1));
    assert_eq!(before.events.len(), after.events.len());
    assert_eq!(
        (before.unfinished, before.saw_id, before.retry_ms),
        (after.unfinished, after.saw_id, after.retry_ms)
    );
    for (before, after) in before.events.iter().flatten().zip(after.events.iter().flatten()) {
        assert_eq!(before.0, after.0);
        assert!(after.1 == before.1 || (after.1 == EDITED && chosen(&before.1)));
    }
}

const EDITED: &[u8] = br#"{"edited":1}"#;

fn rewritten(stream: &[u8], limit: usize, seed: u8, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut rewriter = Rewriter::new(limit, true);
    let mut out = Vec::new();
    let mut state = u32::from(seed) | 1;
    let mut rest = stream;
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = 1 + (state >> 24) as usize % (1 + usize::from(seed));
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        out.extend_from_slice(&rewriter.pass(chunk.to_vec().into(), |event| match event {
            Event::Message { data, .. } => edit(data),
            Event::Oversized { .. } => None,
        }));
    }
    out.extend_from_slice(&rewriter.rest());
    out
}
