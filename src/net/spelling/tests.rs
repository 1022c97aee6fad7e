//! What was read is what is written, whatever way it is cut into pieces.

use super::fuzz::check;
use super::{Heads, Respelled, Spelled};

const MAX: usize = 4096;

/// Spells the head again after its names went through lower case.
fn through(spelled: Spelled, raw: &str) -> String {
    let lower: Vec<_> = raw
        .split_inclusive("\r\n")
        .enumerate()
        .map(|(at, line)| match line.split_once(':') {
            Some((name, value)) if at > 0 => format!("{}:{value}", name.to_ascii_lowercase()),
            _ => line.to_owned(),
        })
        .collect();
    let head = Respelled::of(spelled, lower.concat().as_bytes()).unwrap();
    String::from_utf8(head.rest().to_vec()).unwrap()
}

/// The heads of `bytes`, which arrive in pieces of so many bytes.
fn heads(mut heads: Heads, bytes: &[u8], piece: usize) -> Heads {
    bytes.chunks(piece).for_each(|bytes| heads.saw(bytes));
    heads
}

const REQUESTS: [&str; 5] = [
    "POST /mcp HTTP/1.1\r\nHost: a\r\nX-ODD: 1\r\nx-odd: 2\r\nContent-LENGTH:  11 \r\n\r\nGET / HTTP/1",
    "\r\n\r\nPOST / HTTP/1.1\r\nHOST: b\r\nTransfer-encoding: chunked\r\n\r\n\
     a;name=\"x\"\r\n0123456789\r\n1\r\n\n\r\n0\r\nTrailer-Field: 1\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: c\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\ntransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

#[test]
fn heads_are_found_between_bodies_in_any_pieces() {
    // The first body looks like a head and ends before it would.
    let first = REQUESTS[0].replace("GET / HTTP/1", "GET / HTTP/");
    let all = [&first, &REQUESTS[1..].concat()].map(|text| text.as_str()).concat();
    for piece in [1, 2, 3, 7, 64, 1000] {
        let mut read = heads(Heads::of_requests(MAX), all.as_bytes(), piece);
        for request in [&first, REQUESTS[1], REQUESTS[2], REQUESTS[3], REQUESTS[4]] {
            let head = request.trim_start_matches("\r\n");
            let head = &head[..head.find("\r\n\r\n").unwrap() + 4];
            assert_eq!(through(read.take(), head), head, "pieces of {piece}");
        }
        assert!(read.take().is_empty());
    }
}

#[test]
fn a_response_is_read_when_it_is_expected_and_interim_ones_are_passed_over() {
    let final_head = "HTTP/1.1 200 OK\r\nContent-Type: x\r\nETag: y\r\n\r\n";
    let bytes =
        ["HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", final_head, "Body: not a head\r\n\r\n"].concat();
    let mut read = heads(Heads::of_responses(MAX), bytes.as_bytes(), 5);
    assert!(read.take().is_empty(), "nobody asked");
    read.expect();
    let mut read = heads(read, bytes.as_bytes(), 5);
    assert_eq!(through(read.take(), final_head), final_head);
    assert!(read.take().is_empty(), "one is all that was expected");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    read.expect();
    assert_eq!(through(heads(read, switching.as_bytes(), 9).take(), switching), switching);
}

#[test]
fn names_that_moved_were_added_or_are_gone_do_no_harm() {
    let came = "GET / HTTP/1.1\r\nHost: a\r\nA-b: 1\r\nGone: x\r\na-B: 2\r\nLast: z\r\n\r\n";
    let left =
        "GET / HTTP/1.1\r\nlast: z\r\na-b: 1\r\na-b: 2\r\nnew: y\r\nhost: a\r\nhost: b\r\n\r\nHost: body";
    let wanted = "GET / HTTP/1.1\r\nLast: z\r\nA-b: 1\r\na-B: 2\r\nnew: y\r\nHost: a\r\nhost: b\r\n\r\n";
    let spelled = heads(Heads::of_requests(MAX), came.as_bytes(), 1000).take();
    let head = Respelled::of(spelled, left.as_bytes()).unwrap();
    assert_eq!(std::str::from_utf8(head.rest()).unwrap(), wanted);
}

#[test]
fn lower_case_needs_nothing() {
    let head = b"GET / HTTP/1.1\r\nhost: A\r\naccept: X\r\n\r\n";
    assert!(heads(Heads::of_requests(MAX), head, 100).take().is_empty());
}

#[test]
fn lower_case_of_eight_bytes_is_that_of_each() {
    for byte in 0..=u8::MAX {
        let bytes = [byte, b'A', byte, 0xff, 0, byte, b'Z', byte];
        let lower = super::lower(u64::from_le_bytes(bytes)).to_le_bytes();
        assert_eq!(lower, bytes.map(|byte| byte.to_ascii_lowercase()));
    }
}

#[test]
fn names_of_every_length_are_told_apart() {
    let letters = b"Content-LENGTH-of-a-Name";
    for length in 1..=letters.len() {
        let (spelled, lower) = (&letters[..length], letters[..length].to_ascii_lowercase());
        assert!(super::is_spelling_of(spelled, &lower));
        assert!(!super::is_spelling_of(spelled, &lower[1..]));
        for at in 0..length {
            let mut other = lower.clone();
            other[at] ^= 0x21;
            assert!(!super::is_spelling_of(spelled, &other), "{at} of {length}");
        }
    }
}

/// Longer than what is copied at once, cut off and not.
#[test]
fn long_heads_are_written_whole() {
    for length in [900, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 3000, 9000] {
        let field = format!("X-Long: {}\r\n", "v".repeat(length));
        let came = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}Last: z\r\n\r\n");
        let spelled = || heads(Heads::of_requests(1 << 14), came.as_bytes(), 1 << 14).take();
        assert_eq!(through(spelled(), &came), came);
        let left = came.to_ascii_lowercase().replace("get / http", "GET / HTTP");
        for body in ["", "x", &"Host: b\r\n\r\n".repeat(200)] {
            let written = Respelled::of(spelled(), (left.clone() + body).as_bytes()).unwrap();
            assert!(written.rest() == came.as_bytes());
        }
        assert!(Respelled::of(spelled(), &left.as_bytes()[..left.len() - 1]).is_none());
    }
}

#[test]
fn what_is_not_a_head_is_not_touched() {
    let spelled = || heads(Heads::of_requests(MAX), REQUESTS[2].as_bytes(), 100).take();
    for bytes in
        ["host: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n", "", "GET / HTTP/1.1\r\nno colon\r\n\r\n"]
    {
        assert!(Respelled::of(spelled(), bytes.as_bytes()).is_none(), "{bytes:?}");
    }
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nhost: a\r\n\r\nrest";
    let head = Respelled::of(spelled(), interim.as_bytes()).unwrap();
    assert_eq!(head.rest(), b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nHost: a\r\n\r\n");
}

#[test]
fn a_head_is_written_in_parts() {
    let spelled = heads(Heads::of_requests(MAX), REQUESTS[2].as_bytes(), 100).take();
    let mut head = Respelled::of(spelled, b"GET / HTTP/1.1\r\nhost: c\r\n\r\nbody").unwrap();
    assert!(!head.wrote(17));
    assert_eq!(head.rest(), b"ost: c\r\n\r\n");
    assert!(head.wrote(14), "the body counts too");
}

#[test]
fn memory_is_bounded() {
    // One head without end.
    let mut read = Heads::of_requests(MAX);
    for _ in 0..1000 {
        read.saw(b"X-Field: 0123456789\r\n");
    }
    read.saw(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(read.take().is_empty(), "it reads no more");
    // Requests that nobody takes.
    let mut read = Heads::of_requests(MAX);
    for _ in 0..1000 {
        read.saw(REQUESTS[2].as_bytes());
    }
    assert!(read.take().is_empty(), "it gave up");
}

#[test]
fn no_mutation_makes_more_of_it_than_a_change_of_case() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let all = REQUESTS.concat();
    for _ in 0..3000 {
        let mut bytes = all.clone().into_bytes();
        for _ in 0..=dice(6) {
            if bytes.len() < 2 {
                break;
            }
            let at = dice(bytes.len());
            match dice(4) {
                0 => bytes[at] = b"\r\n:0aA \0"[dice(8)],
                1 => _ = bytes.remove(at),
                2 => bytes.insert(at, b"\r\n:9Z;-\xff"[dice(8)]),
                _ => bytes.truncate(at),
            }
        }
        check(&bytes);
    }
}
