//! Events of a stream, cut everywhere, and the limit.

use super::super::fuzz_sse;
use super::super::rewrite::Rewriter;
use super::super::samples::STREAMS;
use super::super::sse::{Event, Sse};

/// Each event as `type|data`, or `oversized`.
fn fed(sse: &mut Sse, chunk: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    sse.feed(chunk, |event| {
        events.push(match event {
            Event::Message { event, data, .. } => {
                let name = String::from_utf8_lossy(event.unwrap_or_default()).into_owned();
                name + "|" + &String::from_utf8_lossy(data)
            }
            Event::Oversized { .. } => "oversized".to_owned(),
        });
    });
    events
}

#[test]
fn events_are_those_of_the_standard() {
    for (stream, expected) in [
        ("data: a\n\n", &["|a"][..]),
        ("data:a\r\n\r\n", &["|a"]),
        ("data:  a\r\r", &["| a"]),
        ("data\n\n", &["|"]),
        ("data:\n\n", &["|"]),
        ("data: a\ndata: b\n\n", &["|a\nb"]),
        ("event: x\ndata: a\n\ndata: b\n\n", &["x|a", "|b"]),
        ("event: x\n\ndata: b\n\n", &["|b"]),
        ("event: x\nevent: y\ndata: b\n\n", &["y|b"]),
        (": comment\n\n:\n\n", &[]),
        ("data: a\n: comment\ndata: b\n\n", &["|a\nb"]),
        ("\u{feff}data: a\n\n", &["|a"]),
        ("\u{feff}\u{feff}data: a\n\n", &[]),
        (" data: a\n\n", &[]),
        ("Data: a\n\n", &[]),
        ("data: a\n", &[]),
        ("data: a\r\n\n", &["|a"]),
        ("data: a:b: c\n\n", &["|a:b: c"]),
    ] {
        let mut whole = Sse::new(usize::MAX);
        assert_eq!(fed(&mut whole, stream.as_bytes()), expected, "{stream:?}");
        for cut in 1..stream.len() {
            let (one, two) = stream.as_bytes().split_at(cut);
            let mut sse = Sse::new(usize::MAX);
            let mut events = fed(&mut sse, one);
            events.extend(fed(&mut sse, b""));
            events.extend(fed(&mut sse, two));
            assert_eq!(events, expected, "{stream:?} cut at {cut}");
        }
    }
}

#[test]
fn samples_give_the_same_events_however_they_are_cut() {
    for stream in STREAMS {
        for end in ["\n", "\r", "\r\n"] {
            let stream = stream.replace('\n', end);
            for limit in [0, 1, 5, 10, 20, 60] {
                fuzz_sse(&[&[limit, 7], stream.as_bytes()].concat());
            }
        }
    }
}

#[test]
fn an_event_within_one_chunk_is_not_copied() {
    let chunk = b"data: one\n\nevent: message\r\nid: 7\r\ndata: two\r\n\r\ndata: th";
    let mut seen = Vec::new();
    let mut sse = Sse::new(usize::MAX);
    sse.feed(chunk, |event| {
        if let Event::Message { data, data_at, end, .. } = event {
            let at = data_at.unwrap();
            assert_eq!(chunk[at..].as_ptr(), data.as_ptr());
            seen.push((data.to_vec(), end));
        }
    });
    assert_eq!(seen, [(b"one".to_vec(), 11), (b"two".to_vec(), 47)]);
    assert!(sse.saw_id() && sse.finish());
    let mut rest = Vec::new();
    sse.feed(b"ree\n\n", |event| rest.push(format!("{event:?}")));
    assert_eq!(rest.len(), 1);
    assert!(rest[0].contains("data_at: None, end: 5"), "{rest:?}");
    assert!(!sse.finish());
}

#[test]
fn the_limit_is_reached_exactly_and_then_the_stream_goes_on() {
    for (line, event) in [("data: 56789", "|56789"), ("unknown: 90", "")] {
        let stream = format!("{line}\n\ndata: x\n\n");
        let mut sse = Sse::new(line.len());
        let mut expected = vec![event, "|x"];
        expected.retain(|event| !event.is_empty());
        assert_eq!(fed(&mut sse, stream.as_bytes()), expected);
        let mut sse = Sse::new(line.len() - 1);
        assert_eq!(fed(&mut sse, stream.as_bytes()), ["oversized", "|x"]);
    }
    // Comments do not count, however long; several lines do together.
    let mut sse = Sse::new(16);
    let comment = ":".repeat(1000);
    assert_eq!(fed(&mut sse, format!("{comment}\ndata: 1\n\n").as_bytes()), ["|1"]);
    assert_eq!(fed(&mut sse, b"data: 1234\ndata: 1234\ndata: 1234\n\n"), ["oversized"]);
    assert_eq!(fed(&mut sse, b"event: long-name\ndata: 1234\n\n"), ["oversized"]);
    assert_eq!(fed(&mut sse, b"data: 1\n\n"), ["|1"]);
}

#[test]
fn memory_stays_within_the_limit() {
    let mut sse = Sse::new(10_000);
    for _ in 0..1000 {
        assert!(fed(&mut sse, &[b'x'; 1000]).is_empty());
        assert!(sse.held_bytes() <= 2 * 10_000 + 4096, "{}", sse.held_bytes());
    }
    assert!(sse.finish());
    assert_eq!(fed(&mut sse, b"\n\n"), ["oversized"]);
    assert!(!sse.finish());
    let _ = fed(&mut sse, &[b"data: ".as_slice(), &[b'y'; 9000]].concat());
    assert!(sse.held_bytes() >= 9000);
    let _ = fed(&mut sse, b"\n\n");
    assert!(sse.held_bytes() <= 3 * 4096);
}

#[test]
fn ids_and_retry_times_are_noticed() {
    for (stream, id, retry) in [
        ("id: 1\nretry: 500\n\n", true, Some(500)),
        ("id\nretry: soon\n\n", false, None),
        ("id:\nretry:\n\n", false, None),
        ("id: a\0b\nretry: 99999999999999999999\n\n", false, None),
    ] {
        let mut sse = Sse::new(usize::MAX);
        assert!(fed(&mut sse, stream.as_bytes()).is_empty());
        assert_eq!((sse.saw_id(), sse.retry_ms()), (id, retry), "{stream:?}");
    }
}

/// Passes pieces through a rewriter that edits requests; what came out, piece by piece.
fn passed(pieces: &[&str]) -> Vec<String> {
    let mut rewriter = Rewriter::new(1_000, true);
    let edit = |event: &Event<'_>| match event {
        Event::Message { data, .. } if data.ends_with(b"?}") => Some(b"{EDITED}".to_vec()),
        _ => None,
    };
    let mut out: Vec<String> = pieces
        .iter()
        .map(|piece| {
            String::from_utf8(rewriter.pass(piece.as_bytes().to_vec().into(), edit).to_vec()).unwrap()
        })
        .collect();
    out.push(String::from_utf8(rewriter.rest().to_vec()).unwrap());
    out
}

#[test]
fn what_may_not_change_passes_as_it_came() {
    let mut rewriter = Rewriter::new(1_000, false);
    for piece in ["data: {\"method\":\"roots/list\"}\n\n", "data: {\"met", "hod\":\"ping\"}\n\n"] {
        let mut seen = 0;
        let out = rewriter.pass(piece.into(), |_| {
            seen += 1;
            Some(b"{\"method\":\"edited\"}".to_vec())
        });
        assert_eq!((out, seen), (piece.into(), usize::from(piece.ends_with('\n'))));
    }
}

#[test]
fn only_what_may_be_a_request_waits_for_its_end() {
    // An answer and a notification pass in the pieces that they come in, once that is known.
    for start in [
        r#"data: {"jsonrpc":"2.0","id":1,"result":{"#,
        r#"data: {"method":"notifications/p"#,
        r#"data: {"id":1,"error": "#,
        ": keep-alive",
        "data: no json",
    ] {
        assert_eq!(passed(&[start, "x", "y\n\n"]), [start, "x", "y\n\n", ""], "{start}");
    }
    // A request waits, and what stands before it does not.
    let pieces =
        ["data: 1\n\nevent: mess", "age\ndata: {\"method\":\"roots", "/list?}\n", "\nda", "ta: 2\n\n"];
    let edited = ["data: 1\n\n", "", "", "event: message\ndata: {EDITED}\n\n", "data: 2\n\n", ""];
    assert_eq!(passed(&pieces), edited);
    // One whose end never comes is not lost.
    assert_eq!(passed(&["data: {\"method\":\"a"]), ["", "data: {\"method\":\"a"]);
}

#[test]
fn what_is_held_is_bounded_and_given_up() {
    let long = "x".repeat(400);
    let out = passed(&["data: {\"method\":\"a", &long, &long, &long, "?}\n\n"]);
    assert_eq!(out.iter().map(String::len).collect::<Vec<_>>(), [0, 0, 0, 18 + 1200, 4, 0]);
    // Many lines of one event are not looked at for ever.
    let lines = vec!["data: {\n"; 40];
    assert!(passed(&lines).iter().filter(|piece| piece.is_empty()).count() <= 17);
}
