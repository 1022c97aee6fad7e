//! Heads that are broken, oversized, or say two things at once.

use super::{Outcome, send};
use crate::support::raw::{ALL, Direction, FIXED, Mesh};

#[test]
fn broken_heads_are_refused() {
    let heads: [&[u8]; 25] = [
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\n X: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: $HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX\t: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX\0: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX: a\x7fb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nX(y): a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: $HOST\r\nContent-Length\xa0: 3\r\n\r\n",
        b"GET /a\0b HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: $HOST\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: $HOST\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: $HOST\r\n\r\n",
        b"GET / http/1.1\r\nHost: $HOST\r\n\r\n",
        b"GET / HTTP/11\r\nHost: $HOST\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ];
    for direction in ALL {
        for head in heads {
            assert_ne!(send(direction, head).refused(), Some(408));
        }
    }
}

/// A server that takes a bare LF for the end of a line and one that does not
/// read these differently; what leaves has no bare LF.
#[test]
fn bare_line_feeds_are_refused_or_made_whole() {
    let heads = [
        "GET / HTTP/1.1\nHost: $HOST\n\n",
        "GET / HTTP/1.1\r\nHost: $HOST\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: $HOST\r\n\n",
        "POST / HTTP/1.1\r\nHost: $HOST\r\nX: y\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\n\n",
        "\nGET / HTTP/1.1\r\nHost: $HOST\r\n\r\n",
    ];
    for direction in ALL {
        for head in heads {
            send(direction, head);
        }
    }
}

#[test]
fn a_missing_host_or_two_are_refused() {
    for direction in ALL {
        for fields in [
            "X: y",
            "Host: $HOST\r\nHost: $HOST",
            "Host: $HOST\r\nhost: evil.example",
            "Host: evil.example, $HOST",
            "Host: $HOST evil.example",
            "Host: $HOST/path",
            "Host: user@$HOST",
            "Host: $HOST?x",
            "Host: $HOST#x",
            "Host: http://$HOST",
            "Host: $HOST\\evil",
            "Host: \"$HOST\"",
            "Host: caf\u{e9}.example",
        ] {
            assert_eq!(
                send(direction, format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).refused(),
                Some(400),
                "{fields}"
            );
        }
    }
}

#[test]
fn a_host_with_a_nonsensical_port_is_refused_where_it_is_looked_at() {
    for fields in ["Host: a.example:port", "Host: a.example:99999", "Host: [::1", "Host: a:1:2", "Host: "] {
        assert_eq!(
            send(Direction::Forward, format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).refused(),
            Some(400),
            "{fields}"
        );
    }
}

/// RFC 9112, 3.2.2: the target decides. Whoever passes both on has to make
/// them agree, or say no.
#[test]
fn a_target_that_contradicts_host_is_refused_or_made_to_agree() {
    for direction in ALL {
        for target in ["http://evil.example/x", "http://$HOST@evil.example/x", "http://evil.example:1/"] {
            if direction == Direction::Forward {
                continue;
            }
            send(direction, format!("GET {target} HTTP/1.1\r\nHost: $HOST\r\n\r\n"));
        }
    }
    let request =
        send(Direction::Forward, "GET http://$HOST/x HTTP/1.1\r\nHost: evil.example\r\n\r\n").passed();
    assert_eq!(request.line, "GET /x HTTP/1.1");
    assert_ne!(request.all("host"), ["evil.example"]);
}

#[test]
fn other_schemes_are_refused_by_a_forward_proxy() {
    for target in
        ["https://$HOST/", "ftp://$HOST/", "file:///etc/passwd", "*:80", "x", "http:///x", "http://"]
    {
        assert_eq!(
            send(Direction::Forward, format!("GET {target} HTTP/1.1\r\nHost: $HOST\r\n\r\n")).refused(),
            Some(400),
            "{target}"
        );
    }
}

#[test]
fn a_target_that_is_no_path_is_refused_everywhere() {
    for direction in ALL {
        for target in ["x", "*:80", "$HOST", "evil.example:80", "?x", "x/y"] {
            assert_eq!(
                send(direction, format!("GET {target} HTTP/1.1\r\nHost: $HOST\r\n\r\n")).refused(),
                Some(400),
                "{target}"
            );
        }
    }
}

#[test]
fn connection_cannot_take_away_what_the_message_is() {
    for direction in ALL {
        let message = "POST / HTTP/1.1\r\nHost: $HOST\r\nConnection: host, content-length, traceparent, tracestate, baggage, X-Gone\r\n\
                       X-Gone: 1\r\nX-Kept: 1\r\nContent-Length: 3\r\n\r\nabc";
        let request = send(direction, message).passed();
        assert_eq!(request.body, b"abc", "{direction:?}");
        assert_eq!((request.all("x-gone").len(), request.all("x-kept").len()), (0, 1), "{direction:?}");
        assert_eq!(request.all("traceparent").len(), 1, "{direction:?}");
        assert!(request.all("connection").is_empty(), "{direction:?}");
        let message = "POST / HTTP/1.1\r\nHost: $HOST\r\nConnection: transfer-encoding, Trailer, te\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(send(direction, message).passed().body, b"abc", "{direction:?}");
    }
}

#[test]
fn connection_cannot_drop_the_context_that_came() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for direction in ALL {
        let message = format!(
            "GET / HTTP/1.1\r\nHost: $HOST\r\ntraceparent: {parent}\r\nConnection: close, Traceparent\r\nConnection: TRACEPARENT\r\n\r\n"
        );
        let request = send(direction, message).passed();
        assert!(request.all("traceparent")[0].starts_with(&parent[..36]), "{direction:?}");
    }
}

#[test]
fn h2c_is_not_passed_on() {
    for direction in ALL {
        let message = "GET / HTTP/1.1\r\nHost: $HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let request = send(direction, message).passed();
        let gone = ["upgrade", "http2-settings", "connection"].map(|name| request.all(name).len());
        assert_eq!(gone, [0, 0, 0], "{direction:?}: {request:?}");
        // Without `Connection` the field means nothing, and goes as well.
        let request = send(direction, "GET / HTTP/1.1\r\nHost: $HOST\r\nUpgrade: foo, H2C\r\n\r\n").passed();
        assert!(!request.all("upgrade").iter().any(|v| v.to_lowercase().contains("h2c")), "{request:?}");
    }
}

/// Sends a head and gives the status of the answer.
fn status(mesh: &Mesh, head: &str) -> String {
    let mut client = mesh.connect();
    client.try_send(head);
    let answer = client.head();
    assert!(mesh.try_accept().is_none());
    answer[9..12].to_owned()
}

#[test]
fn oversized_heads_are_refused() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let host = mesh.host();
        let long = "x".repeat(70_000);
        assert_eq!(status(&mesh, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {long}\r\n\r\n")), "431");
        let target = status(&mesh, &format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(["414", "431"].contains(&target.as_str()), "{target}");
        let many: String = (0..101).map(|i| format!("X-{i}: y\r\n")).collect();
        assert_eq!(status(&mesh, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n")), "431");
        let method = status(&mesh, &format!("{long} / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(["400", "431", "501"].contains(&method.as_str()), "{method}");
    }
}

/// A head that never ends is refused once it is too long, not kept.
#[test]
fn a_head_without_end_is_refused() {
    for start in ["GET / HTTP/1.1\r\nX: ", "GET /", "G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mesh = Mesh::start(Direction::Inbound);
        let mut client = mesh.connect();
        client.send(start);
        while client.try_send([b'x'; 4096]) {}
        client.end();
        assert!(mesh.try_accept().is_none());
    }
}

#[test]
fn a_refusal_ends_with_a_clean_close() {
    for head in ["GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/9.9\r\nHost: a\r\n\r\n"] {
        let mesh = Mesh::start(Direction::Inbound);
        let mut client = mesh.connect();
        client.send(head);
        assert!(client.head().starts_with("HTTP/1.1 400 "));
        client.closes();
    }
}

#[test]
fn a_bad_request_behind_a_good_one_does_not_spoil_it() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: {}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            mesh.host()
        ));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(client.head().starts_with("HTTP/1.1 400 "));
        assert!(mesh.try_accept().is_none());
    }
}

#[test]
fn what_is_left_of_a_refused_request_is_not_taken_for_the_next() {
    for direction in ALL {
        let inner = "GET /inner HTTP/1.1\r\nHost: $HOST\r\n\r\n";
        let outer = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len() + 16
        );
        if let Outcome::Passed(request) = send(direction, outer) {
            assert_ne!(request.line, "GET /inner HTTP/1.1", "{direction:?}");
        }
    }
}
