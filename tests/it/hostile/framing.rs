//! Where a body ends: two lengths, a length and chunks, bad chunks.

use super::send;
use crate::support::raw::{ALL, Direction};

#[test]
fn lengths_that_contradict_are_refused() {
    for direction in ALL {
        for fields in [
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 4",
            "Content-Length: 3\r\nX: y\r\ncontent-length: 0",
            "Content-Length: +3",
            "Content-Length: -3",
            "Content-Length: 0x3",
            "Content-Length: 3 3",
            "Content-Length: 3;",
            "Content-Length: ",
            "Content-Length: three",
            "Content-Length: 99999999999999999999",
            "Content-Length: 18446744073709551616",
            "Content-Length: \u{b3}",
        ] {
            send(direction, format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\nabc")).refused();
        }
    }
}

#[test]
fn a_length_said_twice_is_refused_or_said_once() {
    for direction in ALL {
        for fields in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3", "Content-Length: 03"]
        {
            send(direction, format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\nabc"));
        }
    }
}

#[test]
fn a_length_and_chunks_are_refused_or_chunks() {
    for direction in ALL {
        for fields in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Transfer-Encoding: chunked\r\nContent-Length: nonsense",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json",
            "Content-Length: 3\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        ] {
            let message = format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            if let super::Outcome::Passed(request) = send(direction, message) {
                assert_eq!(
                    (&request.body[..], request.all("content-length").len()),
                    (&b"abc"[..], 0),
                    "{fields}"
                );
            }
        }
    }
}

#[test]
fn a_coding_that_does_not_end_in_chunked_is_refused() {
    for direction in ALL {
        for fields in [
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunkedx",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding: ",
        ] {
            send(
                direction,
                format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            )
            .refused();
        }
    }
}

/// Each of these is read as the last coding says, and no server may read it
/// otherwise; but a second coding is one more than most servers know.
#[test]
fn other_ways_to_say_chunked_pass_as_one_message() {
    for direction in ALL {
        for fields in
            ["Transfer-Encoding: CHUNKED", "transfer-encoding:chunked", "Transfer-Encoding:\t chunked \t"]
        {
            let message = format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            assert_eq!(send(direction, message).passed().body, b"abc");
        }
    }
}

#[test]
fn chunked_said_twice_is_refused_or_one_message() {
    for fields in [
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: , chunked",
    ] {
        for direction in ALL {
            send(
                direction,
                format!("POST / HTTP/1.1\r\nHost: $HOST\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            );
        }
    }
}

#[test]
fn bad_chunks_never_become_a_message() {
    for direction in ALL {
        for kind in ["text/plain", "application/json"] {
            for chunks in [
                "0x3\r\nabc\r\n0\r\n\r\n",
                "-3\r\nabc\r\n0\r\n\r\n",
                "+3\r\nabc\r\n0\r\n\r\n",
                "g\r\nabc\r\n0\r\n\r\n",
                "\r\nabc\r\n0\r\n\r\n",
                "3\r\nabcd\r\n0\r\n\r\n",
                "3\r\nabcX\r\n0\r\n\r\n",
                "3\r\nabc0\r\n\r\n",
                "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
                "10000000000000003\r\nabc\r\n0\r\n\r\n",
                "3\rabc\r\n0\r\n\r\n",
                "3\0\r\nabc\r\n0\r\n\r\n",
                "3;a=\n3\r\nabc\r\n0\r\n\r\n",
                "3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
                "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
            ] {
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: $HOST\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                send(direction, head + chunks).refused();
            }
        }
    }
}

#[test]
fn odd_chunks_leave_as_plain_ones() {
    for direction in ALL {
        for chunks in [
            "3;ext=1\r\nabc\r\n0;last\r\n\r\n",
            "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n",
            "0003\r\nabc\r\n000\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\nX-Trailer: y\r\n\r\n",
            "3\r\nabc\r\n0\r\nContent-Length: 7\r\nHost: evil\r\n\r\n",
        ] {
            let message =
                format!("POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            if let super::Outcome::Passed(request) = send(direction, message) {
                assert_eq!(request.body, b"abc", "{chunks:?}");
            }
        }
    }
}

#[test]
fn a_chunk_line_without_end_is_cut_off() {
    let chunks = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(100_000));
    send(
        Direction::Inbound,
        format!("POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
    )
    .refused();
}

#[test]
fn trailers_without_end_are_cut_off() {
    let trailers: String = (0..20_000).map(|i| format!("X-{i}: y\r\n")).collect();
    let message = format!(
        "POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n"
    );
    send(Direction::Inbound, message).refused();
}

#[test]
fn chunks_from_an_old_client_are_refused() {
    for direction in ALL {
        send(
            direction,
            "POST / HTTP/1.0\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .refused();
    }
}
