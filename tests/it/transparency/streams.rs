//! Streams: nothing that came is held back to wait for more.

use crate::support::raw::{ALL, Direction, Mesh};

#[test]
fn both_directions_flow_at_once() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.head();
        for turn in 0..20 {
            let word = format!("turn {turn:02}");
            client.send(format!("7\r\n{word}\r\n"));
            assert_eq!(server.chunked(7), word.as_bytes(), "{direction:?}");
            server.send(format!("7\r\n{word}\r\n"));
            assert_eq!(client.chunked(7), word.as_bytes(), "{direction:?}");
        }
        client.send("0\r\n\r\n");
        server.chunked_end();
        server.send("0\r\n\r\n");
        client.chunked_end();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        assert!(server.head().starts_with("GET"), "the connection goes on");
    }
}

#[test]
fn a_fixed_length_streams_as_it_comes() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 6\r\n\r\n", mesh.host()));
        server.head();
        client.send("abc");
        server.expect("abc");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
        client.head();
        server.send("uvw");
        client.expect("uvw");
        client.send("def");
        server.expect("def");
        server.send("xyz");
        client.expect("xyz");
    }
}

#[test]
fn an_answer_may_end_before_its_request() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 6\r\n\r\nabc", mesh.host()));
        server.head();
        server.expect("abc");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.send("def");
        server.expect("def");
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        assert!(server.head().starts_with("GET"), "{direction:?}");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

#[test]
fn an_answer_that_closes_cuts_off_the_rest_of_its_request() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nabc", mesh.host()));
        server.head();
        server.expect("abc");
        let refusal = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
        server.send(refusal);
        drop(server);
        client.expect(refusal);
        client.is_gone();
    }
}

#[test]
fn events_arrive_one_by_one() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{call}",
            mesh.host(),
            call.len()
        ));
        let head = server.head();
        let length = crate::support::raw::field(&head, "content-length").unwrap().parse().unwrap();
        server.take(length);
        server
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.head();
        let events = [
            ": hello\n\n",
            "event: message\ndata: {\"jsonrpc\":\"2.0\",",
            "\"method\":\"notifications/progress\",\"params\":{}}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\r\n\r\n",
            "after the answer\n\n",
        ];
        for event in events {
            server.send(format!("{:x}\r\n{event}\r\n", event.len()));
            assert_eq!(client.chunked(event.len()), event.as_bytes(), "{direction:?}");
        }
        server.send("0\r\n\r\n");
        assert!(client.chunked_end().0.is_empty());
    }
}

#[test]
fn a_chunked_call_that_pauses_streams_through() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let (one, two) = (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#, r#""params":{"name":"a"}}"#);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n",
            mesh.host(),
            one.len()
        ));
        let mut server = mesh.accept();
        let head = server.head();
        assert!(crate::support::raw::field(&head, "traceparent").is_some(), "{head}");
        assert_eq!(
            server.chunked(one.len()),
            one.as_bytes(),
            "{direction:?}: while the client holds the rest"
        );
        client.send(format!("{:x}\r\n{two}\r\n0\r\n\r\n", two.len()));
        assert_eq!(server.chunked_end().0, two.as_bytes(), "{direction:?}: and untouched");
    }
}

#[test]
fn a_chunked_call_in_pieces_within_the_gap_is_seen_whole() {
    for direction in ALL {
        // The gap is long here, so that a slow machine does not fail the test.
        let mesh = Mesh::with(direction, "limits: { body_gap: 1s }");
        let mut client = mesh.connect();
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            mesh.host()
        ));
        for part in call.as_bytes().chunks(11) {
            client.send(format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        client.send("0\r\n\r\n");
        let mut server = mesh.accept();
        server.head();
        let (body, _) = server.chunked_end();
        assert!(crate::support::raw::find(&body, b"\"traceparent\"").is_some(), "{direction:?}");
    }
}

#[test]
fn a_known_length_that_stays_away_streams_after_a_while() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { body_wait: 50ms }");
    let mut client = mesh.connect();
    let (one, two) = (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#, r#""params":{"name":"a"}}"#);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{one}",
        mesh.host(),
        one.len() + two.len()
    ));
    let mut server = mesh.accept();
    server.head();
    server.expect(one);
    client.send(two);
    server.expect(two);
}
