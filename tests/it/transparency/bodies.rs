//! Bodies and their framing over HTTP/1.1: what was fixed stays fixed, what
//! was chunked stays chunked, and no byte differs that is not context.

use crate::support::raw::{ALL, Direction, End, Mesh, Raw, field, strict, text, without_trace};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"caf\u00e9  1e0"} , "_meta" : {"other":1}}}"#;

/// Reads one whole request from the upstream side, strictly.
fn request(server: &mut Raw) -> strict::Request {
    let mut bytes = server.head().into_bytes();
    loop {
        match strict::requests(&bytes) {
            Ok(mut requests) if requests.len() == 1 => return requests.remove(0),
            Ok(_) => panic!("more than one request"),
            Err(problem) if ["short", "chunk", "have no end"].iter().any(|short| problem.contains(short)) => {
                bytes.extend(server.take(1));
            }
            Err(problem) => panic!("{problem}: {:?}", text(&bytes)),
        }
    }
}

fn answer(client: &mut Raw, server: &mut Raw) {
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

/// The body with the keys that we may write taken out.
fn without_meta(body: &[u8]) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let meta = value["params"]["_meta"].as_object_mut().unwrap();
    assert!(meta.remove("traceparent").is_some(), "no traceparent in {}", text(body));
    meta.remove("tracestate");
    meta.remove("baggage");
    value
}

#[test]
fn a_spliced_body_has_its_new_length_and_otherwise_its_old_bytes() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nCONTENT-length: {}\r\nContent-Type: application/json\r\nX: y\r\n\r\n{CALL}",
            mesh.host(),
            CALL.len()
        ));
        let mut server = mesh.accept();
        let request = request(&mut server);
        let names: Vec<_> = request.fields.iter().map(|(n, _)| n.as_str()).take(4).collect();
        assert_eq!(names, ["Host", "CONTENT-length", "Content-Type", "X"], "{direction:?}");
        assert!(request.body.len() > CALL.len(), "{direction:?}");
        assert_eq!(without_meta(&request.body), serde_json::from_str::<serde_json::Value>(CALL).unwrap());
        let got = String::from_utf8(request.body).unwrap();
        let cut = CALL.find(r#"{"other""#).unwrap() + 1;
        assert!(
            got.starts_with(&CALL[..cut]) && got.ends_with(r#""other":1}}}"#)
                || got.starts_with(&CALL[..CALL.len() - 3]),
            "{got}"
        );
        answer(&mut client, &mut server);
    }
}

#[test]
fn a_spliced_chunked_body_stays_chunked() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let (one, two) = CALL.split_at(40);
        client.send(format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\ntransfer-ENCODING: chunked\r\nContent-Type: application/json; charset=utf-8\r\n\r\n\
             {:x}\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\n\r\n",
            mesh.host(), one.len(), two.len()
        ));
        let mut server = mesh.accept();
        let request = request(&mut server);
        assert_eq!(request.all("transfer-encoding"), ["chunked"], "{direction:?}");
        assert!(request.all("content-length").is_empty(), "{direction:?}");
        assert_eq!(without_meta(&request.body), serde_json::from_str::<serde_json::Value>(CALL).unwrap());
        answer(&mut client, &mut server);
    }
}

#[test]
fn a_body_that_is_no_call_is_not_touched() {
    let bodies: [&[u8]; 9] = [
        b"{\"jsonrpc\":\"2.0\"  ,\n\"a\":1}",
        b"{\"a\":1,}",
        b"[1,2, 3]",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"method\":\"ping\",\"params\":{}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\"}}",
        b"\0\x01\xff\xfe",
        b" ",
        b"null",
    ];
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        for body in bodies {
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                mesh.host(),
                body.len()
            );
            client.send([head.as_bytes(), body].concat());
            assert_eq!(server.plain_head(), head, "{direction:?}");
            server.expect(body);
            answer(&mut client, &mut server);
        }
    }
}

#[test]
fn an_encoded_or_signed_call_is_not_touched() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        for extra in ["Content-Encoding: gzip", "Content-Digest: sha-256=:AAAA:"] {
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{extra}\r\nContent-Length: {}\r\n\r\n",
                mesh.host(),
                CALL.len()
            );
            client.send(format!("{head}{CALL}"));
            assert_eq!(server.plain_head(), head, "{direction:?}");
            server.expect(CALL);
            answer(&mut client, &mut server);
        }
    }
}

#[test]
fn one_byte_at_a_time_arrives_as_the_same_message() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            mesh.host(),
            CALL.len()
        );
        for byte in format!("{head}{CALL}").bytes() {
            client.send([byte]);
        }
        let mut server = mesh.accept();
        let request = request(&mut server);
        assert_eq!(without_meta(&request.body), serde_json::from_str::<serde_json::Value>(CALL).unwrap());
        for byte in "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".bytes() {
            server.send([byte]);
        }
        assert_eq!(client.head(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(client.chunked_end().0, b"hello");
    }
}

#[test]
fn chunked_stays_chunked_and_fixed_stays_fixed() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let head =
            format!("PUT / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n", mesh.host());
        client.send(format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
        assert_eq!(server.plain_head(), head, "{direction:?}");
        assert_eq!(server.chunked_end(), (b"abcde".to_vec(), String::new()));
        let response = "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";
        server.send(format!("{response}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
        assert_eq!(client.head(), response, "{direction:?}");
        assert_eq!(client.chunked_end(), (b"abcde".to_vec(), String::new()));
        let head = format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\nX: y\r\n\r\n", mesh.host());
        client.send(format!("{head}abcde"));
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.expect("abcde");
        answer(&mut client, &mut server);
    }
}

#[test]
fn an_empty_chunked_body_stays_chunked() {
    for kind in ["text/plain", "application/json"] {
        for direction in ALL {
            let mesh = Mesh::start(direction);
            let (mut client, mut server) = mesh.pair();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nContent-Type: {kind}\r\nX: y\r\n\r\n",
                mesh.host()
            );
            client.send(format!("{head}0\r\n\r\n"));
            assert_eq!(server.plain_head(), head, "{direction:?} {kind}");
            assert_eq!(server.chunked_end(), (Vec::new(), String::new()));
            let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n";
            server.send(format!("{response}0\r\n\r\n"));
            assert_eq!(client.head(), response, "{direction:?} {kind}");
            assert_eq!(client.chunked_end(), (Vec::new(), String::new()));
        }
    }
}

#[test]
fn a_get_with_a_body_keeps_it() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nContent-Length: 3\r\n\r\n", mesh.host());
        client.send(format!("{head}abc"));
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.expect("abc");
        answer(&mut client, &mut server);
    }
}

/// hyper passes trailers on where the head announces them, and to clients
/// only where they said that they read them; their names go in lower case.
#[test]
fn announced_trailers_pass_both_ways() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let head = format!(
            "PUT / HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nTrailer: x-sum, X-More\r\nTransfer-Encoding: chunked\r\n\r\n",
            mesh.host()
        );
        client.send(format!("{head}3\r\nabc\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"));
        assert_eq!(server.plain_head(), head, "{direction:?}");
        assert_eq!(server.chunked_end(), (b"abc".to_vec(), "x-sum: 1\r\nx-more: 2\r\n".to_owned()));
        let response = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        server.send(format!("{response}3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"));
        assert_eq!(client.head(), response);
        assert_eq!(client.chunked_end(), (b"abc".to_vec(), "x-sum: 1\r\n".to_owned()));
    }
}

/// hyper leaves trailers out that no `Trailer` field announces, and for
/// clients that did not send `TE: trailers`; the body ends all the same.
#[test]
fn other_trailers_are_left_out() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let host = mesh.host();
        client.send(format!(
            "PUT / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
        ));
        server.head();
        assert_eq!(server.chunked_end(), (b"abc".to_vec(), String::new()), "{direction:?}");
        server.send("HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
        client.head();
        assert_eq!(client.chunked_end(), (b"abc".to_vec(), String::new()), "{direction:?}");
    }
}

#[test]
fn announced_trailers_of_a_call_pass_too() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{CALL}\r\n0\r\nx-sum: 1\r\n\r\n",
            mesh.host(), CALL.len()
        ));
        server.head();
        let (body, trailers) = server.chunked_end();
        assert_eq!((text(&body), trailers.as_str()), (CALL.to_owned(), "x-sum: 1\r\n"));
        answer(&mut client, &mut server);
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let cases = [
        ("HEAD", "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 1234\r\nZ: z\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
        ("HEAD", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX: y\r\n\r\n"),
        ("DELETE", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
    ];
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        for (method, response) in cases {
            client.send(format!("{method} / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            let got = server.plain_head();
            assert_eq!(got, format!("{method} / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            server.send(response);
            assert_eq!(client.head(), response, "{direction:?} {method}");
        }
    }
}

/// A length that contradicts the chunks is not passed on (RFC 9112, 6.3).
#[test]
fn a_response_with_two_framings_leaves_with_one() {
    for fields in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let mesh = Mesh::start(Direction::Inbound);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        server.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        let head = client.head();
        if head.starts_with("HTTP/1.1 200") {
            assert_eq!(
                (field(&head, "content-length"), field(&head, "transfer-encoding")),
                (None, Some("chunked"))
            );
            assert_eq!(client.chunked_end().0, b"hello");
        } else {
            assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        }
    }
}

/// hyper leaves `Transfer-Encoding` out of an answer that has no body.
#[test]
fn a_chunked_answer_to_head_loses_only_that_field() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = mesh.pair();
    client.send(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    server.send("HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\nZ: z\r\n\r\n");
    client.expect("HTTP/1.1 200 OK\r\nX: y\r\nZ: z\r\n\r\n");
    client.is_quiet();
}

/// hyper frames it as chunks, because the version stays 1.1; the connection
/// closes behind it as it would have.
#[test]
fn a_body_until_close_arrives_whole() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nall of");
        assert_eq!(
            client.head(),
            "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(client.chunked(6), b"all of");
        server.send(" it");
        drop(server);
        assert_eq!(client.chunked_end().0, b" it");
        assert_eq!(client.end(), End::Clean(Vec::new()), "{direction:?}");
    }
}

#[test]
fn the_head_of_a_call_leaves_with_the_same_names() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\nMcp-Session-Id: s\r\nContent-Length: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\r\n",
            mesh.host(),
            CALL.len()
        );
        client.send(format!("{head}{CALL}"));
        let mut server = mesh.accept();
        let got = server.head();
        let length = field(&got, "content-length").unwrap().to_owned();
        assert_eq!(
            without_trace(&got),
            head.replace(&format!("Length: {}", CALL.len()), &format!("Length: {length}"))
        );
    }
}
